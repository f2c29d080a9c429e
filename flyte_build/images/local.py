"""Which folders a uv project depends on by a path.

They are read from uv.lock, else from `[tool.uv.sources]`. The SDK asks `uv export`, which needs uv and the network,
resolves anew where there is no lock, and may write one into the repository: nothing that planning should do.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from typing import Any

import tomli

from flyte_build.errors import ImageLayerInvalid

Read = Callable[[str], bytes]
"""Gives a file's content by its absolute path; raises when there is no such file."""


def local_dependencies(pyproject: str, lock: str, read: Read) -> tuple[str, ...]:
    """Absolute paths of folders, sorted: packages of the project's workspace and of sources with a path.

    Raises:
        ImageLayerInvalid: a file is no TOML.
        ImageFileMissing: a file is not there.
    """
    folder = posixpath.dirname(pyproject)
    found = _locked(lock, folder, read) if lock else _declared(pyproject, read, set())
    return tuple(sorted(set(found) - {folder}))


def _locked(lock: str, folder: str, read: Read) -> Iterator[str]:
    """Folders of the packages that the project in `folder` reaches. Paths start from the lock's own folder."""
    packages = {entry["name"]: entry for entry in _parse(lock, read).get("package", ()) if "name" in entry}
    folders = {name: _folder_of(entry, posixpath.dirname(lock)) for name, entry in packages.items()}
    pending = [name for name, path in folders.items() if path == folder]
    reached: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in reached and name in packages:
            reached.add(name)
            pending += _needs(packages[name])
            if folders[name]:
                yield folders[name]


def _needs(entry: dict[str, Any]) -> Iterator[str]:
    groups = {**entry.get("optional-dependencies", {}), **entry.get("dev-dependencies", {})}
    for each in (*entry.get("dependencies", ()), *(each for group in groups.values() for each in group)):
        yield each["name"]


def _folder_of(entry: dict[str, Any], base: str) -> str:
    """Where a package of the repository lies; empty for one from elsewhere."""
    source = entry.get("source", {})
    path = next((source[kind] for kind in ("editable", "directory", "virtual") if kind in source), None)
    return posixpath.normpath(posixpath.join(base, path)) if isinstance(path, str) else ""


def _declared(pyproject: str, read: Read, seen: set[str]) -> Iterator[str]:
    """Sources of a project, and of those that they lead to."""
    if pyproject in seen:
        return
    seen.add(pyproject)
    sources = _parse(pyproject, read).get("tool", {}).get("uv", {}).get("sources", {})
    entries = [each for value in sources.values() for each in (value if isinstance(value, list) else [value])]
    for path in (entry["path"] for entry in entries if "path" in entry):
        folder = posixpath.normpath(posixpath.join(posixpath.dirname(pyproject), path))
        if not folder.endswith((".whl", ".tar.gz", ".zip")):
            yield folder
            yield from _declared(f"{folder}/pyproject.toml", read, seen)


def _parse(path: str, read: Read) -> dict[str, Any]:
    try:
        return tomli.loads(read(path).decode())
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ImageLayerInvalid(reason=f"`{path}` is no TOML: {error}", mend="mend that file") from error
