"""Code that several loads run: compiled once by their parent, and inherited by those that follow.

Compiling is a quarter of what a load of small files costs, and most targets of a monorepo share modules. A load tells
its parent what it compiled itself; what two loads compiled, the parent compiles too. Code is known by path and content.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections import Counter
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

from flyte_build.state import digest

_ENOUGH = 2
"""Loads that have to compile a file before the parent does."""
_compile = SourceFileLoader.source_to_code
_known: dict[tuple[str, str], CodeType] = {}
_compiled: list[tuple[str, str]] = []
"""In a load: path and digest of what was not known."""
_told: Counter[tuple[str, str]] = Counter()
"""In the parent: how many loads have compiled what."""


def code_of(loader: SourceFileLoader, path: str, content: str, data: bytes) -> CodeType:
    """The code of a source file, `content` being the digest of `data`.

    Raises:
        SyntaxError: and whatever else compiling raises.
    """
    if type(loader) is not SourceFileLoader or SourceFileLoader.source_to_code is not _compile:
        code: CodeType = loader.source_to_code(data, path)  # the user's way of compiling
        return code
    known = _known.get((path, content))
    if known is None:
        known = loader.source_to_code(data, path)
        _compiled.append((path, content))
    return known


def tell(pipe: int) -> None:
    """In a load that has ended: write what it compiled, a line each, which the parent reads with `hear`."""
    with contextlib.suppress(OSError):  # the user's code may have closed it
        for path, content in _compiled:
            os.write(pipe, f"{content} {path}\n".encode(errors="surrogateescape"))


def hear(line: bytes) -> None:
    """In the parent: compile a file that enough loads have compiled, if it is still the same."""
    content, _, path = line.decode(errors="surrogateescape").partition(" ")
    _told[path, content] += 1
    if _told[path, content] == _ENOUGH and (code := _quietly(lambda: _compiled_now(path, content))):
        _known[path, content] = code


def _compiled_now(path: str, content: str) -> CodeType | None:
    data = Path(path).read_bytes()
    return _compile(SourceFileLoader("", path), data, path) if digest.of_bytes(data) == content else None


def _quietly(compile_: Callable[[], CodeType | None]) -> CodeType | None:
    """None where Python has something to say about it, which each load is to show."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return compile_()
        except Exception:  # noqa: BLE001 whatever it is, loads meet it themselves
            return None
