"""Files that clients upload to the embedded control plane: their places, and the signed URLs that lead there.

A URL carries its own permission: which file, which content, until when, and a signature over these. Anyone who has it
can use it, so none is ever logged.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlencode

from flyte_build.backend.refused import Refused

if TYPE_CHECKING:
    from flyteidl2.dataproxy.dataproxy_service_pb2 import CreateUploadLocationRequest

PREFIX = "/uploads/"
_MAX_LIFETIME = 3600
"""Seconds, as Flyte's own backend has it."""


@dataclass(frozen=True)
class Grant:
    """The permission to put one file."""

    path: str
    """Relative to the folder of uploads."""
    md5: str
    """Hexadecimal, of the only content that may be put there."""
    expires: int
    """Seconds since the epoch."""

    def url(self, base_url: str, secret: bytes) -> str:
        query = {"md5": self.md5, "expires": str(self.expires), "signature": self._signature(secret)}
        return f"{base_url}{PREFIX}{quote(self.path)}?{urlencode(query)}"

    def is_signed(self, signature: str, secret: bytes) -> bool:
        return hmac.compare_digest(self._signature(secret), signature)

    def _signature(self, secret: bytes) -> str:
        text = "\n".join(("PUT", self.path, self.md5, str(self.expires)))
        return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def folder_of(backend: Path) -> Path:
    """Where uploads are kept."""
    return backend / "uploads"


def grant(request: CreateUploadLocationRequest, folder: Path) -> Grant:
    """The permission that a request asks for, if it may have it.

    Raises:
        Refused: a name that leaves the folder, a lifetime out of range, or a file that is there with other content.
    """
    path, md5 = _path(request), request.content_md5.hex()
    lifetime = request.expires_in.ToTimedelta().total_seconds() if request.HasField("expires_in") else _MAX_LIFETIME
    if not 0 < lifetime <= _MAX_LIFETIME:
        raise Refused("invalid_argument", f"expires_in: must be more than 0 and at most {_MAX_LIFETIME} seconds")
    if not may_hold(folder / path, md5):
        raise Refused("already_exists", f"filename: `{path}` is there with another MD5")
    return Grant(path, md5, int(time.time() + lifetime))


def opened(raw_path: str, query: bytes, secret: bytes) -> Grant:
    """The permission that a signed URL carries.

    Raises:
        Refused: `permission_denied`: it is forged, or it has expired.
    """
    fields = parse_qs(query.decode("latin-1"))
    md5, expires, signature = (fields.get(name, [""])[0] for name in ("md5", "expires", "signature"))
    carried = Grant(raw_path.removeprefix(PREFIX), md5, int(expires) if expires.isdecimal() else 0)
    if not carried.is_signed(signature, secret):
        raise Refused("permission_denied", "the signature does not match this URL, ask for a new upload location")
    if carried.expires < time.time():
        raise Refused("permission_denied", "request has expired, ask for a new upload location")
    return carried


def may_hold(file: Path, md5: str) -> bool:
    """Whether content with this MD5 may be put there: nothing is there yet, or the same."""
    if not file.is_file():
        return True
    with file.open("rb") as opened_file:
        hasher = hashlib.md5(usedforsecurity=False)
        while chunk := opened_file.read(1 << 20):
            hasher.update(chunk)
    return hasher.hexdigest() == md5


def _path(request: CreateUploadLocationRequest) -> str:
    """`project/domain/root/filename`; without a root, the content's digest is the root, so no two contents meet."""
    root = request.filename_root or base64.b32encode(request.content_md5).decode().rstrip("=")
    parts = [*(request.project, request.domain), *root.split("/"), *request.filename.split("/")]
    if any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts):
        raise Refused("invalid_argument", f"filename: `{request.filename}` is not a plain relative path")
    return "/".join(parts)
