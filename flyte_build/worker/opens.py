"""What a file is to code that opens it or asks for it."""

from __future__ import annotations

import os
import posix
import stat
from pathlib import Path
from typing import Any

from flyte_build.state import digest


def content_of(path: str) -> str:
    """Digest; empty: no file, or one that cannot be read."""
    try:
        return digest.of_file(Path(path)) if os.path.isfile(path) else ""
    except OSError:
        return ""


def is_executable(path: str) -> bool:
    try:
        return bool(posix.stat(path).st_mode & stat.S_IXUSR)  # not the function of `os`, which is recorded
    except OSError:
        return False


def creates(mode: Any, flags: Any) -> bool:
    """Whether opening fails where there is a file."""
    return "x" in (mode or "") or bool(flags & os.O_EXCL)


def overwrites(mode: Any, flags: Any) -> bool:
    """Whether a file is opened so that what it held is not seen, then or later."""
    if "w" in (mode or "") or flags & os.O_TRUNC:
        return True
    return not mode and flags & os.O_ACCMODE == os.O_WRONLY and not flags & os.O_APPEND


def appends(mode: Any, flags: Any) -> bool:
    """Whether a file is opened to be written at its end, and not to be read."""
    if mode:
        return "a" in mode and "+" not in mode
    return bool(flags & os.O_APPEND) and flags & os.O_ACCMODE == os.O_WRONLY
