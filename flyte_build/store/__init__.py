"""Where code bundles go. A store is picked by the scheme of `url`; only the one in use is imported."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from flyte_build.errors import StoreEndpointInvalid, StoreUrlInvalid
from flyte_build.model import Bundle, StoreSettings, Upload
from flyte_build.store.redact import redact

_HTTP = re.compile(r"https?://[^/@?#\s]+(/|$)")

Progress = Callable[[int], None]
"""Called with the bytes sent since the last call, maybe from another thread; negative when some must be sent again."""


class Store(Protocol):
    def put(self, bundle: Bundle, archive: Path, progress: Progress | None = None) -> Upload:
        """Puts the file `archive` under `bundle.filename`, whole or not at all, unless those bytes are there.

        Raises:
            StepError: the store cannot be reached or written; the message holds no secret.
        """
        ...


class UploadLocation(Protocol):
    """What a backend answers: a flyteidl2 `CreateUploadLocationResponse` is one."""

    @property
    def signed_url(self) -> str: ...
    @property
    def native_url(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


class UploadLocations(Protocol):
    """A backend that signs URLs."""

    def create_upload_location(self, *, filename: str, content_md5: bytes, content_length: int) -> UploadLocation:
        """Raises:
        UploadNameTaken: the backend holds `filename` with another MD5.
        """
        ...


def open_store(settings: StoreSettings, backend: UploadLocations | None = None) -> Store:
    """The store that `settings.url` names. `backend` is needed for `backend` only.

    Raises:
        StoreUrlInvalid: the URL names no store.
        StoreEndpointInvalid: `endpoint_url` is no HTTP address.
    """
    scheme = check_url(settings.url)
    if settings.endpoint_url and not _HTTP.match(settings.endpoint_url):
        raise StoreEndpointInvalid(endpoint_url=redact(settings.endpoint_url))
    if scheme == "backend":
        if backend is None:
            raise StoreUrlInvalid(url="backend", problem="needs a backend that signs URLs, and there is none")
        from flyte_build.store.signed import SignedStore

        return SignedStore(locations=backend)
    if scheme == "file":
        from flyte_build.store.file import FileStore

        return FileStore(url=settings.url)
    if scheme == "s3":
        from flyte_build.store.s3 import S3Store

        return S3Store(settings=settings)
    from flyte_build.store.object import ObjectStore

    return ObjectStore(settings=settings)


def check_url(url: str) -> str:
    """The scheme of `url`, which is known, and complete enough to be used.

    Raises:
        StoreUrlInvalid: it is not.
    """
    if url == "backend":
        return "backend"
    if url.startswith("file://"):
        # The rest is a path, letter by letter: the SDK, which reads the bundle in the task, decodes nothing either.
        if not url.startswith("file:///"):
            raise StoreUrlInvalid(url=url, problem="is not an absolute path")
        return "file"
    parts = urlsplit(url)
    if parts.password is not None or parts.query:
        raise StoreUrlInvalid(url=redact(url), problem="holds a secret or a query, which belong in the environment")
    if parts.scheme not in ("s3", "gs", "abfs", "abfss"):
        raise StoreUrlInvalid(url=url, problem="is no store that is known")
    if not parts.netloc:
        raise StoreUrlInvalid(url=url, problem="names no bucket")
    return parts.scheme


def child(url: str, name: str) -> str:
    """The URL of `name` in the folder `url`."""
    return f"{url.rstrip('/')}/{name}"
