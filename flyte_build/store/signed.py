"""The backend's own store: it signs a URL, and the archive is put there over HTTP."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from flyte_build.errors import (
    StepError,
    StoreAccessDenied,
    StoreBucketMissing,
    StoreFailing,
    StoreRefused,
    StoreUnreachable,
    UploadUrlExpired,
)
from flyte_build.model import Bundle, Upload, Value
from flyte_build.once import once
from flyte_build.store import Progress, UploadLocation, UploadLocations
from flyte_build.store.redact import redact

if TYPE_CHECKING:
    import httpx

ATTEMPTS = 4
CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0
"""Seconds without a byte from the store, or in which it takes none."""
FIRST_DELAY, LONGEST_DELAY, LONGEST_ASKED_DELAY = 0.5, 20.0, 60.0
"""Seconds."""

_CHUNK = 1 << 18
_AZURE = ("abfs://", "abfss://")
_TRANSIENT = (408, 429, 500, 502, 503, 504)
_EXPIRED = ("request has expired", "expiredtoken", "signature not valid in the specified time frame")

Verdict = Literal["done", "expired", "again", "no"]


class Answer(Value, frozen=True):
    """What came back from one attempt. `status` 0: nothing, and `detail` says what went wrong."""

    status: int
    code: str = ""
    detail: str = ""
    expired: bool = False
    retry_after: float | None = None
    """Seconds."""

    def __str__(self) -> str:
        said = ": ".join(part for part in (f"`{self.code}`" if self.code else "", self.detail) if part)
        return f"{self.status} {said}".rstrip()


@dataclass(frozen=True)
class SignedStore:
    locations: UploadLocations
    read_timeout: float = READ_TIMEOUT
    sleep: Callable[[float], None] = time.sleep

    @once
    def client(self) -> httpx.Client:
        """Kept: reading the certificates takes longer than a small upload. Safe to share between threads."""
        return self._new_client(verify=True)

    @once
    def client_without_tls(self) -> httpx.Client:
        """The same, for what needs no certificates."""
        return self._new_client(verify=False)

    def _new_client(self, *, verify: bool) -> httpx.Client:
        import httpx

        return httpx.Client(verify=verify, timeout=httpx.Timeout(self.read_timeout, connect=CONNECT_TIMEOUT))

    def _client_for(self, url: str) -> httpx.Client:
        from urllib.request import getproxies

        proxies = getproxies().keys() - {"no"}  # which may speak TLS themselves
        return self.client_without_tls if urlsplit(url).scheme == "http" and not proxies else self.client

    def put(self, bundle: Bundle, archive: Path, progress: Progress | None = None) -> Upload:
        """See `Store.put`. The bytes are always sent: a signed URL does not tell what is there."""
        return Upload(uri=self.send(archive, bundle.filename, progress), sent=True)

    def send(self, file: Path, filename: str, progress: Progress | None = None) -> str:
        """Puts a file that may be no bundle, and says where it then is: a URI that name and content decide.

        Raises:
            StepError: as `put`.
        """
        content_md5, length = md5_of(file), file.stat().st_size

        def ask() -> UploadLocation:
            return self.locations.create_upload_location(
                filename=filename, content_md5=content_md5, content_length=length
            )

        def send(location: UploadLocation) -> Answer:
            headers = headers_for(location, content_md5=content_md5, length=length)
            sent: list[int] = []
            answer = _put(
                self._client_for(location.signed_url),
                location.signed_url,
                headers=headers,
                body=_chunks(file, sent, progress),
            )
            if progress and judge(answer) != "done":
                progress(-sum(sent))
            return answer

        return _persist(ask, send, self.sleep)


def _persist(
    ask: Callable[[], UploadLocation], send: Callable[[UploadLocation], Answer], sleep: Callable[[float], None]
) -> str:
    """Sends until it is done, or until trying again is no use; one fresh URL when the first is out of date."""
    location, renewed, attempt = ask(), False, 1
    while True:
        answer = send(location)
        verdict = judge(answer)
        if verdict == "done":
            return location.native_url
        if verdict == "expired" and not renewed:
            location, renewed = ask(), True
        elif verdict == "again" and attempt < ATTEMPTS:
            sleep(delay(attempt, answer.retry_after))
            attempt += 1
        else:
            raise failure(answer, location, attempt)


def judge(answer: Answer) -> Verdict:
    """What an answer means for the next attempt."""
    if answer.status in (200, 201, 204):
        return "done"
    if answer.status in (400, 403) and answer.expired:
        return "expired"
    # S3 says 400 when the bytes stopped coming; it wants them again.
    stalled = answer.status == 400 and answer.code == "RequestTimeout"
    return "again" if answer.status in (0, *_TRANSIENT) or stalled else "no"


def delay(attempt: int, retry_after: float | None = None) -> float:
    """Seconds to wait after a failed attempt, counted from 1: what the store asks for, else twice as long each time."""
    if retry_after is not None:
        return min(retry_after, LONGEST_ASKED_DELAY)
    return float(min(FIRST_DELAY * 2 ** (attempt - 1), LONGEST_DELAY))


def headers_for(location: UploadLocation, *, content_md5: bytes, length: int) -> dict[str, str]:
    """What the backend signed, what Azure wants besides, and what is sent. Names in lower case."""
    azure = {"x-ms-blob-type": "BlockBlob"} if location.native_url.startswith(_AZURE) else {}
    signed = {name.lower(): value for name, value in location.headers.items()}
    body = {"content-length": str(length), "content-md5": base64.b64encode(content_md5).decode()}
    return {**azure, **signed, **body}


def read_answer(status: int, headers: Mapping[str, str], body: str) -> Answer:
    """Keeps code and explanation of a store's XML. The rest may hold the key and the signature that it was sent."""
    asked = headers.get("retry-after", "").strip()
    return Answer(
        status=status,
        code=_element("Code", body),
        detail=redact(_element("Message", body)).partition("\n")[0].rstrip("."),
        expired=any(mark in body.lower() for mark in _EXPIRED),
        retry_after=float(asked) if asked.isdecimal() else None,
    )


def failure(answer: Answer, location: UploadLocation, attempts: int) -> StepError:
    """The error for the last answer."""
    uri, address = location.native_url, urlsplit(location.signed_url)
    if answer.status == 0:
        endpoint = f"{address.scheme}://{address.netloc.rpartition('@')[2]}"
        return StoreUnreachable(uri=uri, endpoint=endpoint, reason=answer.detail, attempts=attempts)
    verdict = judge(answer)
    if verdict == "expired":
        return UploadUrlExpired(uri=uri)
    if verdict == "again":
        return StoreFailing(uri=uri, answer=str(answer), attempts=attempts)
    if answer.code == "NoSuchBucket":
        return StoreBucketMissing(uri=uri, bucket=urlsplit(uri).netloc)
    if answer.status in (401, 403):
        return StoreAccessDenied(uri=uri, answer=str(answer))
    return StoreRefused(uri=uri, answer=str(answer))


def md5_of(archive: Path) -> bytes:
    """MD5 is what Flyte's backend signs; it protects nothing here."""
    hasher = hashlib.md5(usedforsecurity=False)
    with archive.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return hasher.digest()


def _element(name: str, body: str) -> str:
    found = re.search(f"<{name}>([^<]*)</{name}>", body)
    return found[1].strip() if found else ""


def _chunks(archive: Path, sent: list[int], progress: Progress | None) -> Iterator[bytes]:
    with archive.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
            sent.append(len(chunk))
            if progress:
                progress(len(chunk))


def _put(client: httpx.Client, url: str, *, headers: dict[str, str], body: Iterator[bytes]) -> Answer:
    import httpx

    try:
        response = client.put(url, headers=headers, content=body)
    except httpx.ConnectTimeout:
        return Answer(status=0, detail="connecting timed out")
    except httpx.TimeoutException:
        return Answer(status=0, detail="timed out")
    except httpx.ConnectError as error:
        return Answer(status=0, detail=f"could not connect: {error}")
    except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError):
        return Answer(status=0, detail="the connection was closed")
    return read_answer(response.status_code, response.headers, response.text)
