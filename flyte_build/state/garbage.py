"""What no receipt in the state folder names any more: found by what receipts say, and by nothing else.

Every receipt counts: of each target and each way of deploying it, whether or not the manifest at hand has the target,
and those set aside while their step is still to be done again. What they do not name is of content that was left
behind; should the code go back to it, it is made again. What a write that was cut off has left, nobody finishes.

Only what this package names by digest, in folders that hold nothing else, is ever looked at: the embedded control plane
and its store hold what was deployed, and are no part of this.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Container, Iterable, Iterator
from typing import NamedTuple, TypeVar

import msgspec

from flyte_build.state import receipts
from flyte_build.state.folder import StateFolder, image_file

_T = TypeVar("_T", bound=msgspec.Struct)
_DIGEST = "[0-9a-f]{32}"
_PART = r"\..+\.[a-z0-9_]{8}"
"""The passing name of what is being written."""
_REMOVABLE = re.compile(
    rf"(?:objects/(?:{_DIGEST}|{_PART})"
    rf"|bundles/(?:{_DIGEST}\.tar\.gz|{_PART})"
    rf"|installed/(?:{_DIGEST}\.json|{_PART})"
    rf"|images/(?:{_DIGEST}\.(?:log|lock)|{_PART})"
    rf"|targets/[^/]+/{_PART})"
)
"""Paths below the state folder of what receipts may name."""
_RECEIPTS = (".json", ".before")
_FOLDERS = ("objects", "bundles", "installed", "images")


class Removed(NamedTuple):
    paths: tuple[str, ...] = ()
    size: int = 0
    """Bytes."""


class _Discovered(msgspec.Struct):
    """The part of discovery's key that names a file."""

    installed_distributions: str = ""


class _Images(msgspec.Struct):
    """The part of the result of `images` that names files."""

    images: dict[str, msgspec.Raw] = {}


def unnamed(state: StateFolder, without: Container[str] = ()) -> list[str]:
    """Paths of what may be removed.

    Args:
        without: paths of receipts that do not count, since they are to be forgotten.

    Raises:
        OSError: a receipt or a folder cannot be read, so nobody knows what is named.
    """
    targets = [f"targets/{name}" for name in _names(state.root / "targets")]
    found = [f"{folder}/{name}" for folder in (*_FOLDERS, *targets) for name in _names(state.root / folder)]
    places = {path: os.path.join(state.root, path) for path in found}
    receipts_left = (places[path] for path in found if path.startswith("targets/") and path.endswith(_RECEIPTS))
    named = {path for receipt in receipts_left if receipt not in without for path in _named_by(receipt)}
    return [
        places[path]
        for path in found
        if path not in named and _REMOVABLE.fullmatch(path) and not _is_built(path, places)
    ]


def _is_built(path: str, there: Container[str]) -> bool:
    """Whether a file tells of an image that was built here, which `doit clean images` removes from the engine."""
    return f"{os.path.splitext(path)[0]}.built" in there


def measure(paths: Iterable[str]) -> Removed:
    """What `remove` would give."""
    return _each(paths, lambda _: None)


def remove(paths: Iterable[str]) -> Removed:
    """Remove files. What is gone already, or cannot be removed, is left out of what is given."""
    return _each(paths, os.unlink)


def _each(paths: Iterable[str], work: Callable[[str], None]) -> Removed:
    done: dict[str, int] = {}
    for path in paths:
        with contextlib.suppress(OSError):
            size = os.stat(path, follow_symlinks=False).st_size
            work(path)
            done[path] = size
    return Removed(tuple(done), sum(done.values()))


def _named_by(path: str) -> Iterator[str]:
    """Paths below the state folder that a receipt names; nothing of one that its step does not use either."""
    receipt = receipts.standing(receipts.content(path))
    if receipt is None:
        return
    yield from receipt.outputs
    step = os.path.basename(path).partition(".")[0]
    if step == "discover":
        yield f"installed/{_part(receipt.key, _Discovered).installed_distributions}.json"
    if step == "images":
        for uri in _part(receipt.result, _Images).images:
            yield from (f"images/{image_file(uri, ending)}" for ending in ("log", "lock"))


def _part(data: msgspec.Raw, kind: type[_T]) -> _T:
    """Of a key or a result; empty when another version of the step wrote it."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError:
        return kind()


def _names(folder: str | os.PathLike[str]) -> list[str]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(os.listdir(folder))
    return []
