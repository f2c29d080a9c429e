"""Google Cloud Storage and Azure: `gs://bucket/prefix`, `abfs://container@account.dfs.core.windows.net/prefix`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flyte_build.errors import (
    StepError,
    StoreAccessDenied,
    StoreBucketMissing,
    StoreCredentialsMissing,
    StoreFailing,
    StoreRefused,
    StoreUnreachable,
)
from flyte_build.model import Bundle, StoreSettings, Upload, Value
from flyte_build.once import once
from flyte_build.state import digest
from flyte_build.store import Progress, child
from flyte_build.store.redact import redact

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig
    from obstore.store import ObjectStore as Bucket

DIGEST_KEY = "flyte_build_xxh3"
"""User metadata of each object: xxh3-128 of its bytes. Azure allows no hyphen in a name."""
GOOGLE_MEND = "set GOOGLE_APPLICATION_CREDENTIALS, or log in with `gcloud auth application-default login`"
AZURE_MEND = "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or log in with `az login`"

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]*)</Code>")
_CREDENTIALS = re.compile(r"token request|credential error|Account must be specified")


class Retries(Value, frozen=True):
    """obstore retries timeouts, resets, 429 and 5xx."""

    attempts: int = 4
    """Of each request, the first one included."""
    first_delay: float = 0.5
    """Seconds."""


STANDARD = Retries()


def connect(settings: StoreSettings, retries: Retries) -> Bucket:
    """Opens the bucket; nothing is sent. Credentials come from the environment, as the SDK finds them."""
    from obstore.store import AzureStore, GCSStore

    endpoint = settings.endpoint_url
    options: ClientConfig = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=10),
        "read_timeout": timedelta(seconds=60),
        "timeout": timedelta(minutes=10),
    }
    retry: RetryConfig = {
        "max_retries": retries.attempts - 1,
        "retry_timeout": timedelta(minutes=5),
        "backoff": {
            "init_backoff": timedelta(seconds=retries.first_delay),
            "max_backoff": timedelta(seconds=20),
            "base": 2,
        },
    }
    if settings.url.startswith("gs://"):
        return GCSStore.from_url(
            settings.url,
            config={"base_url": endpoint} if endpoint else None,
            client_options=options,
            retry_config=retry,
        )
    return AzureStore.from_url(
        settings.url,
        config={"endpoint": endpoint} if endpoint else None,
        client_options=options,
        retry_config=retry,
    )


@dataclass(frozen=True)
class ObjectStore:
    settings: StoreSettings
    retries: Retries = STANDARD
    connect: Callable[[StoreSettings, Retries], Bucket] = connect

    @once
    def bucket(self) -> Bucket:
        return self.connect(self.settings, self.retries)

    def put(self, bundle: Bundle, archive: Path, progress: Progress | None = None) -> Upload:
        """See `Store.put`. `progress` is called once, at the end."""
        import obstore
        from obstore.exceptions import BaseError

        uri = child(self.settings.url, bundle.filename)
        size, content = archive.stat().st_size, digest.of_file(archive)
        try:
            if _holds(self.bucket, bundle.filename, size=size, content=content):
                return Upload(uri=uri, sent=False)
            # One request whatever the size: it is there as a whole or not at all, and these stores take gigabytes.
            attributes = {DIGEST_KEY: content, "Content-Type": "application/gzip"}
            obstore.put(self.bucket, bundle.filename, archive, attributes=attributes, use_multipart=False)
        except (BaseError, FileNotFoundError) as error:
            # Not from the original: its text quotes the store's answer, which may quote the signature.
            raise failure(str(error), self.settings, uri=uri, attempts=self.retries.attempts) from None
        if progress:
            progress(size)
        return Upload(uri=uri, sent=True)


def _holds(bucket: Bucket, name: str, *, size: int, content: str) -> bool:
    import obstore
    from obstore.exceptions import PermissionDeniedError

    try:
        found = obstore.get(bucket, name, options={"head": True})
    except (FileNotFoundError, PermissionDeniedError):
        # Who may write need not be allowed to read: putting the object tells.
        return False
    return found.meta["size"] == size and found.attributes.get(DIGEST_KEY) == content


def failure(text: str, settings: StoreSettings, *, uri: str, attempts: int) -> StepError:
    """The error for what obstore said. It has no fields, so the status is looked for in the text."""
    said = re.sub(r"^Generic \w+ error: ", "", redact(text.partition("\n")[0])).rstrip(". :")
    google = settings.url.startswith("gs://")
    if _CREDENTIALS.search(said):
        reason = said.partition(": Error performing")[0]
        return StoreCredentialsMissing(uri=uri, reason=reason, mend=GOOGLE_MEND if google else AZURE_MEND)
    found, code = _STATUS.search(said), _CODE.search(text)
    if not found:
        endpoint = settings.endpoint_url or ("Google Cloud Storage" if google else "Azure")
        return StoreUnreachable(uri=uri, endpoint=endpoint, reason=said.rpartition(" - ")[2], attempts=attempts)
    status = int(found[1])
    answer = f"{status} `{code[1]}`" if code else str(status)
    if status == 404:
        return StoreBucketMissing(uri=uri, bucket=urlsplit(settings.url).netloc.partition("@")[0])
    if status in (401, 403):
        return StoreAccessDenied(uri=uri, answer=answer)
    if status == 429 or status >= 500:
        return StoreFailing(uri=uri, answer=answer, attempts=attempts)
    return StoreRefused(uri=uri, answer=answer)
