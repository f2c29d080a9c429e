"""Framed hashing with xxh3-128: length before bytes, so that no two lists of parts give the same input."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import xxhash

_CHUNK = 1 << 20
_LENGTH = 32
_DIGITS = frozenset("0123456789abcdef")


def of_parts(kind: str, parts: Iterable[bytes | str]) -> str:
    """Digest of a sequence of parts. `kind` names what is hashed, and keeps kinds apart."""
    hasher = xxhash.xxh3_128()
    for part in (kind, *parts):
        # names and variables that are not UTF-8 come from Python with escapes
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        hasher.update(len(data).to_bytes(8, "big"))
        hasher.update(data)
    return hasher.hexdigest()


def is_one(text: str) -> bool:
    """Whether a text looks as digests do."""
    return len(text) == _LENGTH and set(text) <= _DIGITS


def of_bytes(data: bytes) -> str:
    """Digest of one file's content."""
    return xxhash.xxh3_128_hexdigest(data)


def hasher() -> xxhash.xxh3_128:
    """Hashes content that comes in pieces: `update`, then `hexdigest`, which equals `of_bytes` of the whole."""
    return xxhash.xxh3_128()


def of_file(path: Path) -> str:
    """Digest of a file's content, equal to `of_bytes` of what it holds.

    Raises:
        OSError: the file cannot be read.
    """
    hasher = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()
