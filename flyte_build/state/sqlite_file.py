"""Whether an SQLite file is whole, told from its header alone: `sqlite3` takes milliseconds to import."""

from __future__ import annotations

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
    try:
        with open(path, "rb", buffering=0) as file:
            beginning = file.read(len(_MAGIC))
    except OSError:
        return False
    return bool(beginning) and _MAGIC.startswith(beginning) and not is_whole(path)
