"""S3 and what speaks its protocol, Google Cloud Storage and Azure as a shared cache."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flyte_build.cache import LIMIT, Item, Trouble
from flyte_build.model import CacheSettings
from flyte_build.store.redact import redact

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_TIMEOUT = re.compile(r"kind: (Timeout|TimedOut)\b|\bTimedOut\b")
_CODE = re.compile(r"<Code>([^<]*)</Code>")


class Objects:
    """Conditional puts (`If-None-Match: *`, or the store's own kind) make `create` safe between machines."""

    def __init__(self, settings: CacheSettings) -> None:
        with _told():
            self._bucket = _connect(settings)

    def items(self, prefix: str) -> list[Item]:
        """See `Bucket.items`."""
        import obstore

        with _told():
            found = [item for page in obstore.list(self._bucket, prefix or None) for item in page]
        return [
            Item(name=item["path"], size=item["size"], modified=item["last_modified"].timestamp()) for item in found
        ]

    def get(self, name: str) -> bytes | None:
        """See `Bucket.get`."""
        import obstore

        with _told():
            try:
                return bytes(obstore.get(self._bucket, name).bytes())
            except FileNotFoundError:
                return None

    def create(self, name: str, data: bytes) -> None:
        """See `Bucket.create`."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with _told(), contextlib.suppress(AlreadyExistsError):
            obstore.put(self._bucket, name, data, mode="create", use_multipart=False)

    def delete(self, name: str) -> None:
        """See `Bucket.delete`."""
        import obstore

        with _told(), contextlib.suppress(FileNotFoundError):
            obstore.delete(self._bucket, name)


def import_libraries(settings: CacheSettings) -> None:
    """See `flyte_build.cache.import_libraries`."""
    import obstore.store

    if _asks_boto3(settings):
        import obstore.auth.boto3  # noqa: F401 which imports boto3


def _asks_boto3(settings: CacheSettings) -> bool:
    """Whether boto3 finds the credentials: its import takes longer than all the calls."""
    return settings.url.startswith("s3://") and "AWS_ACCESS_KEY_ID" not in os.environ


def _connect(settings: CacheSettings) -> Any:
    from obstore.store import AzureStore, GCSStore

    endpoint = settings.endpoint_url
    limit = timedelta(seconds=LIMIT)
    client: ClientConfig = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": limit,
        "timeout": limit,
    }
    # One failure is enough to go on without the cache.
    retry: RetryConfig = {"max_retries": 0, "retry_timeout": limit}
    if settings.url.startswith("s3://"):
        return _s3(settings, client, retry)
    if settings.url.startswith("gs://"):
        google = {"base_url": endpoint} if endpoint else None
        return GCSStore.from_url(settings.url, config=google, client_options=client, retry_config=retry)  # type: ignore[arg-type]
    azure = {"endpoint": endpoint} if endpoint else None
    return AzureStore.from_url(settings.url, config=azure, client_options=client, retry_config=retry)  # type: ignore[arg-type]


def _s3(settings: CacheSettings, client: ClientConfig, retry: RetryConfig) -> Any:
    from obstore.store import S3Store

    config: S3Config = {"endpoint": settings.endpoint_url} if settings.endpoint_url else {}
    if settings.region:
        config["region"] = settings.region
    if not _asks_boto3(settings):
        return S3Store.from_url(settings.url, config=config, client_options=client, retry_config=retry)
    import boto3.session
    from obstore.auth.boto3 import Boto3CredentialProvider

    session = boto3.session.Session()
    if session.get_credentials() is None:
        raise Trouble("there are no credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    return S3Store.from_url(
        settings.url,
        config={"region": session.region_name or "us-east-1", **config},
        client_options=client,
        retry_config=retry,
        credential_provider=Boto3CredentialProvider(session),
    )


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (Trouble, FileNotFoundError):
        raise
    except Exception as error:
        from obstore.exceptions import AlreadyExistsError

        if isinstance(error, AlreadyExistsError):
            raise
        # Not from the original: its text quotes the store's answer, which may quote the signature.
        raise Trouble(_reason(str(error))) from None


def _reason(text: str) -> str:
    """A few words for what obstore said, which has no fields."""
    status, code = _STATUS.search(text), _CODE.search(text)
    if status:
        return f"it answered {status[1]}{f' `{code[1]}`' if code else ''}"
    if _TIMEOUT.search(text):
        return f"no answer within {LIMIT:g} s"
    if "HTTP error" in text or "error sending request" in text:
        return "no connection, or it broke off"
    return redact(text.partition("\n")[0]).rstrip(". :")
