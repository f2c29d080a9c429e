"""Objects that only those can read who could have made them.

What a target leaves may hold values of environment variables, and its questions hold names of files. So each object is
sealed with a key that is derived from what it stands for: for results, the answers of the world (contents of files,
values of variables). Whoever has those can make the results anyway. The mark in front is a keyed digest of the
content: it tells damage on arrival, and is what the key stream starts from, so no two contents share a stream.
This keeps the content of a cache from those who can merely read the bucket; it does not replace the bucket's own
permissions, since values that can be guessed can be tried.
"""

from __future__ import annotations

import hashlib
import zlib

_MARK = 32


def derived(purpose: str, *parts: bytes) -> bytes:
    """32 bytes that stand for parts, and that say nothing of what is derived for other purposes."""
    hasher = hashlib.blake2b(digest_size=32, person=purpose.encode().ljust(16, b"\0"))
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big"))
        hasher.update(part)
    return hasher.digest()


def seal(key: bytes, data: bytes) -> bytes:
    """The same key and data give the same bytes."""
    packed = zlib.compress(data, 1)
    mark = hashlib.blake2b(packed, key=key, digest_size=_MARK).digest()
    return mark + _mixed(key, mark, packed)


def unseal(key: bytes, sealed: bytes) -> bytes | None:
    """The data; None when these are not the bytes that `seal` gave for this key."""
    mark = sealed[:_MARK]
    packed = _mixed(key, mark, sealed[_MARK:])
    if hashlib.blake2b(packed, key=key, digest_size=_MARK).digest() != mark:
        return None
    try:
        return zlib.decompress(packed)
    except zlib.error:
        return None


def _mixed(key: bytes, mark: bytes, data: bytes) -> bytes:
    """Data combined with the key stream; twice gives the data again."""
    stream = hashlib.shake_256(key + mark).digest(len(data))
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")
