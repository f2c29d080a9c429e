"""Whose a file is: the user's, an installed distribution's, the SDK's."""

from __future__ import annotations

import functools
import os
import posix
import site
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from flyte_build import sdk

VOLATILE = ("/proc/", "/sys/", "/dev/")
"""The kernel's own files: never the same twice, and nothing that a build depends on."""
MEMORY = "/dev/shm/"  # noqa: S108 nothing is made there
"""Among them, and a place for files as any other: a checkout may lie there."""
SDK = os.path.join(sdk.FOLDER, "")
_MOST_LINKS = 40
"""Links that the kernel follows on the way to one file."""


@functools.cache
def installed_folders() -> tuple[str, ...]:
    """Folders of Python itself and of installed distributions, each with a trailing separator."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    paths = {sysconfig.get_path(name) for name in names} | set(site.getsitepackages()) | {site.getusersitepackages()}
    paths |= {path for path in sys.path if path.endswith(".zip") and path.startswith(sys.base_prefix)}
    paths |= {path for path in sys.path if path.endswith(("site-packages", "dist-packages"))}
    own = str(Path(__file__).resolve().parents[1])
    return tuple(sorted(os.path.join(os.path.realpath(path), "") for path in {*paths, own} if path))


def is_installed(folder: str) -> bool:
    """Whether a folder is Python's, or one that distributions are installed in."""
    return os.path.join(folder, "").startswith(installed_folders())


@functools.cache  # asked of every frame of every stack that is looked through
def is_users(path: str) -> bool:
    """Whether a source file is the user's: not Python's, not an installed distribution's, not ours."""
    return os.path.isabs(path) and not path.startswith((*installed_folders(), SDK))


def absolute_path(path: str) -> tuple[str, tuple[str, ...]]:
    """A path as `os.path.abspath` has it, but that `LINK/..` is the folder above the one that the link leads to.

    With it, the links on which that depends.
    """
    if os.pardir not in path:
        return os.path.abspath(path), ()
    links: list[str] = []
    return _followed(os.path.join(os.getcwd(), path), links), tuple(links)


def _followed(path: str, links: list[str]) -> str:
    """Adds to `links` those that it follows."""
    plain = os.sep
    for part in path.split(os.sep):
        while part == os.pardir and len(links) < _MOST_LINKS and (target := link_target(plain)):
            links.append(plain)
            plain = _followed(os.path.join(os.path.dirname(plain), target), links)
        plain = os.path.normpath(os.path.join(plain, part))
    return plain


def link_target(path: str) -> str:
    """Where a link leads; empty for what is no link."""
    try:
        return posix.readlink(path)  # not the function of `os`, which is recorded
    except OSError:
        return ""


def is_of_users_file(module: ModuleType) -> bool:
    """Whether a module comes from a file that is neither Python's nor an installed distribution's."""
    path = getattr(module, "__file__", None)
    return isinstance(path, str) and (os.pardir in path or not path.startswith(installed_folders()))


def texts(entries: Any) -> list[str]:
    """Entries of an import path, which may hold anything."""
    return [entry for entry in entries if isinstance(entry, str)]
