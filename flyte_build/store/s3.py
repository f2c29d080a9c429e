"""S3 and what speaks its protocol: `s3://bucket/prefix`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
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
from flyte_build.model import Bundle, StoreSettings, Upload
from flyte_build.once import once
from flyte_build.state import digest
from flyte_build.store import Progress, child
from flyte_build.store.redact import redact

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError

MULTIPART = 8 << 20
"""Bytes from which an archive is sent in parts, each of this size."""
ATTEMPTS = 4
"""Of each request, the first one included."""
CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0
"""Seconds without a byte from the store."""
DIGEST_KEY = "flyte-build-xxh3"
"""User metadata of each object: xxh3-128 of its bytes."""
CREDENTIALS_MEND = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"

_NO_ANSWER = {
    "ConnectTimeoutError": "connecting timed out",
    "ConnectionClosedError": "the connection was closed",
    "EndpointConnectionError": "could not connect",
    "ProxyConnectionError": "could not connect to the proxy",
    "ReadTimeoutError": "timed out",
    "ResponseStreamingError": "the answer broke off",
    "SSLError": "TLS failed: the certificate is not trusted, or this port does not speak TLS",
}


@dataclass(frozen=True)
class S3Store:
    """Opens one client and keeps it: making one costs as much as an upload. Safe to share between threads."""

    settings: StoreSettings
    read_timeout: float = READ_TIMEOUT

    @once
    def client(self) -> Any:
        import boto3.session
        from botocore.config import Config

        config = Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=self.read_timeout,
            # Retries timeouts, resets, 429 and 5xx, with backoff and jitter, and nothing that cannot pass.
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            # Every server that speaks Signature V4 checks the SHA-256 of a signed payload. The newer checksum
            # headers and trailers would be refused by some that are only compatible with S3.
            request_checksum_calculation="when_required",
            s3={"payload_signing_enabled": True},
        )
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.settings.endpoint_url or None,
            region_name=self.settings.region or None,
            config=config,
        )

    def put(self, bundle: Bundle, archive: Path, progress: Progress | None = None) -> Upload:
        """See `Store.put`."""
        from botocore.exceptions import BotoCoreError, ClientError

        uri = child(self.settings.url, bundle.filename)
        place = location(uri)
        metadata = {DIGEST_KEY: digest.of_file(archive)}
        try:
            if self._holds(place, metadata, archive.stat().st_size):
                return Upload(uri=uri, sent=False)
            self._send(place, metadata, archive, progress)
        except BotoCoreError as error:
            raise failure_to_ask(error, uri) from error
        except ClientError as error:
            raise failure_answered(error.response, uri) from error
        return Upload(uri=uri, sent=True)

    def _holds(self, place: dict[str, str], metadata: dict[str, str], size: int) -> bool:
        from botocore.exceptions import ClientError

        try:
            head = self.client.head_object(**place)
        except ClientError as error:
            # An answer to HEAD has no body that would say more, and 403 is also what someone gets who may write
            # but not list. Putting the object tells.
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403, 404):
                return False
            raise
        return bool(head["ContentLength"] == size and head["Metadata"].get(DIGEST_KEY) == metadata[DIGEST_KEY])

    def _send(self, place: dict[str, str], metadata: dict[str, str], archive: Path, progress: Progress | None) -> None:
        """One request below `MULTIPART` bytes; else parts, which are removed again when one fails."""
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(
            multipart_threshold=MULTIPART,
            multipart_chunksize=MULTIPART,
            max_concurrency=4,
            preferred_transfer_client="classic",
        )
        extra = {"Metadata": metadata, "ContentType": "application/gzip"}
        with archive.open("rb") as file:
            self.client.upload_fileobj(file, **place, ExtraArgs=extra, Callback=progress, Config=config)


def location(uri: str) -> dict[str, str]:
    """Bucket and key of an `s3://` URI, as boto3 names them."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": key}


def failure_to_ask(error: BotoCoreError, uri: str) -> StepError:
    """The error for a request that got no answer."""
    from botocore import exceptions

    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError):
        kind = type(error).__name__
        reason = _NO_ANSWER.get(kind, kind)
        return StoreUnreachable(uri=uri, endpoint=_origin(error), reason=reason, attempts=ATTEMPTS)
    reason = redact(" ".join(str(error).split())).rstrip(".")
    credentials = (
        exceptions.NoCredentialsError
        | exceptions.PartialCredentialsError
        | exceptions.CredentialRetrievalError
        | exceptions.ProfileNotFound
        | exceptions.SSOError
    )
    if isinstance(error, credentials):
        return StoreCredentialsMissing(uri=uri, reason=reason, mend=CREDENTIALS_MEND)
    return StoreRefused(uri=uri, answer=reason)


def _origin(error: BotoCoreError) -> str:
    """Scheme and host that were asked."""
    address = urlsplit(str(error.kwargs.get("endpoint_url") or error.kwargs.get("proxy_url") or ""))
    return f"{address.scheme}://{address.netloc.rpartition('@')[2]}" if address.netloc else "S3"


def failure_answered(response: dict[str, Any], uri: str) -> StepError:
    """The error for an answer that is not a success, after the retries that it allows."""
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    attempts = response["ResponseMetadata"].get("RetryAttempts", 0) + 1
    code, detail = response["Error"].get("Code", ""), response["Error"].get("Message", "")
    answer = f"{status} `{code}`: {redact(detail).rstrip('.')}"
    if code == "NoSuchBucket":
        return StoreBucketMissing(uri=uri, bucket=location(uri)["Bucket"])
    if status in (401, 403):
        return StoreAccessDenied(uri=uri, answer=answer)
    if status == 429 or status >= 500:
        return StoreFailing(uri=uri, answer=answer, attempts=attempts)
    return StoreRefused(uri=uri, answer=answer)
