"""What a load has of its parent, and need not look at.

A forked process gets a page of its own of each object that it refers to, at three microseconds a page, and the parent
has tens of thousands.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import sys
from importlib import metadata
from importlib.machinery import FileFinder
from types import ModuleType
from typing import Any

from flyte_build.worker.places import is_of_users_file

_kept: list[object] = []
"""What is not needed any more: to free it would be to look at each part."""


def prepare_process() -> None:
    """Do once, in the parent, what every load needs: look through what there is."""
    _modules()
    _finders_of_archives()


@functools.cache
def _modules() -> tuple[tuple[str, ...], str]:
    """Of the modules that are loaded when this is first asked: names of the user's, and the name of the last one."""
    users = (name for name, module in list(sys.modules.items()) if is_of_users_file(module))
    return tuple(users), next(reversed(sys.modules))


def modules_since() -> dict[str, ModuleType | None]:
    """The modules that came since the parent was prepared, which are the last ones, and those of the user's before.

    Not those that took the place of one that was there.
    """
    users, last = _modules()
    came = list(itertools.takewhile(last.__ne__, reversed(sys.modules)))  # in one go: threads may import meanwhile
    return {name: sys.modules.get(name) for name in (*users, *reversed(came))}


@functools.cache
def _finders_of_archives() -> tuple[Any, ...]:
    """Of the finders on the import path, when this is first asked, those that look into something else than folders."""
    return tuple(finder for finder in sys.path_importer_cache.values() if not isinstance(finder, FileFinder | None))


def forget_folders() -> None:
    """As `importlib.invalidate_caches`: a file may have come since the parent looked."""
    for finder in _finders_of_archives():
        finder.invalidate_caches()
    _kept.append(sys.path_importer_cache)
    sys.path_importer_cache = {}
    importlib.invalidate_caches()
    metadata.FastPath.__new__.cache_clear()  # type: ignore[attr-defined]  # nor does that forget what it listed
