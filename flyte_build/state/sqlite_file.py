"""Whether an SQLite file is whole and as it was left, told from outside: `sqlite3` takes milliseconds to import."""

from __future__ import annotations

import os
from pathlib import Path

from flyte_build.state.folder import write_atomically

_MAGIC = b"SQLite format 3\0"
_HEADER = 100


def is_whole(path: str) -> bool:
    """Whether there is an SQLite file with as many pages as it says. What its pages hold is not looked at."""
    try:
        with open(path, "rb", buffering=0) as file:
            header = file.read(_HEADER)
            size = file.seek(0, 2)
    except OSError:
        return False
    if len(header) < _HEADER or not header.startswith(_MAGIC):
        return False
    page = int.from_bytes(header[16:18], "big")
    return size >= (page if page > 1 else 65_536) * int.from_bytes(header[28:32], "big")


def is_cut_off(path: str) -> bool:
    """Whether a file is the beginning of an SQLite file, and not all of it. An empty one is a new one."""
    beginning = _beginning(path)
    return bool(beginning) and _MAGIC.startswith(beginning) and not is_whole(path)


def begins_as_one(path: str) -> bool:
    """Whether a file begins as SQLite files do."""
    return _beginning(path) == _MAGIC


def _beginning(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(len(_MAGIC))
    except OSError:
        return b""


# --- as it was left


def seal(path: str) -> None:
    """Note how a database and its log look now.

    Raises:
        StateUnwritable
    """
    write_atomically(Path(f"{path}.seal"), _look(path))


def is_sealed(path: str) -> bool:
    """Whether a database and its log look as they did when they were sealed: nobody has written them since."""
    try:
        with open(f"{path}.seal", "rb", buffering=0) as file:
            return file.read() == _look(path)
    except OSError:
        return False


def _look(path: str) -> bytes:
    """The change time cannot be set, so no edit and no other file looks the same."""
    files = [os.stat(path), *([os.stat(f"{path}-wal")] if has_log(path) else [])]
    marks = [mark for found in files for mark in (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)]
    return " ".join(map(str, marks)).encode()


def has_log(path: str) -> bool:
    """Whether a database has a write-ahead log that something was written to."""
    try:
        return os.stat(f"{path}-wal").st_size > 0
    except FileNotFoundError:
        return False
