"""The canonical archive: same files, same bytes, whatever machine writes them.

Sorted POSIX paths, mode 0644 or 0755, owner 0, no names, mtime 0, in a PAX tar (plain ustar but for long or non-ASCII
paths), compressed with a gzip header that says nothing. ISA-L's level 2 is pinned: level 3 gives other bytes on a
processor with AVX2 than on one without.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from flyte_build.model import BundleFile
from flyte_build.state import digest

_LEVEL = 2
_GZIP_HEADER = b"\x1f\x8b\x08\x00" + b"\x00\x00\x00\x00" + b"\x00\xff"
"""Deflate, no name; no time; no hint of the level, unknown system."""

_BLOCK = 512


class Member(NamedTuple):
    path: str
    executable: bool
    content: bytes


def content_digest(files: Iterable[BundleFile]) -> str:
    """The digest of a bundle: of paths, executable bits and contents, in whatever order the files come."""
    parts = sorted((file.path, "x" if file.executable else "-", file.digest) for file in files)
    return digest.of_parts("bundle", (part for file in parts for part in file))


def pack(members: Iterable[Member]) -> bytes:
    """The archive of `members`, in memory."""
    out = io.BytesIO()
    write(out, sorted(members))
    return out.getvalue()


def write(out: BinaryIO, members: Iterable[Member]) -> int:
    """Write the archive of `members`, which come sorted by path, and return its size in bytes.

    One member is held in memory at a time.
    """
    return compress(out, _tar(members))


def compress(out: BinaryIO, parts: Iterable[bytes]) -> int:
    """Write `parts`, one after the other, as one gzip file, and return its size in bytes."""
    from isal import isal_zlib

    deflate = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
    checksum = length = 0
    size = out.write(_GZIP_HEADER)
    for part in parts:
        checksum, length = isal_zlib.crc32(part, checksum), length + len(part)
        size += out.write(deflate.compress(part))
    size += out.write(deflate.flush())
    return size + out.write(checksum.to_bytes(4, "little") + (length % (1 << 32)).to_bytes(4, "little"))


def _tar(members: Iterable[Member]) -> Iterator[bytes]:
    for member in members:
        yield _tar_header(member.path, member.executable, len(member.content))
        yield member.content
        yield bytes(-len(member.content) % _BLOCK)
    yield bytes(2 * _BLOCK)


@lru_cache(maxsize=4096)
def _tar_header(path: str, executable: bool, size: int) -> bytes:
    """Kept, since many bundles hold the same files."""
    info = tarfile.TarInfo(path)
    info.size, info.mode, info.mtime = size, 0o755 if executable else 0o644, 0
    return info.tobuf(tarfile.PAX_FORMAT, encoding="utf-8", errors="strict")
