"""A verifying trace: what a step looked at, and whether the world still answers the same.

Paths inside the manifest's folder are relative to it, others are absolute, so that a trace means the same in another
checkout.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from flyte_build.model import Cause, Stale, Value
from flyte_build.state import digest
from flyte_build.state.files import FileIndex, Importable, kind
from flyte_build.state.sqlite_file import is_whole

EXTENSION_SUFFIXES = (".so", ".pyd")


class Trace(Value, frozen=True):
    """Everything outside a step's key that its result depends on."""

    files: dict[str, str] = {}
    """Path -> digest of the content, and `:x` or `:-` where the executable bit matters; empty: no such file."""
    folders: dict[str, str] = {}
    """Path -> digest of its sorted entries, kinds included; empty: no such folder."""
    exists: dict[str, str] = {}
    """Path -> what is there, as `files.kind` names it; empty: nothing."""
    imports: dict[str, dict[str, str]] = {}
    """Folder on the import path -> module looked for -> what was found there (see `find_module`)."""
    databases: tuple[str, ...] = ()
    """SQLite files that must be whole."""
    environment: dict[str, str] = {}
    """Environment variable -> digest of its value; empty: not set."""
    opaque: tuple[str, ...] = ()
    """What was done whose inputs cannot be seen (a process, a connection), with the line that did it."""


def changed(trace: Trace, folder: str, index: FileIndex, environ: Mapping[str, str]) -> Stale | None:
    """The first difference between a trace and the world."""
    if trace.opaque:
        what = trace.opaque[0]
        return Stale(reason=f"{what}, whose inputs cannot be seen", cause=Cause(kind="opaque", name=what))
    for path in trace.databases:  # before the file that says which one it is, and that goes before it is made again
        if not is_whole(os.path.join(folder, path)):
            now = "damaged" if kind(os.path.join(folder, path)) else ""
            cause = Cause(kind="path", name=path, old="file", new=now)
            return Stale(reason=f"{path} is {now or 'gone'}", cause=cause)
    base = os.path.join(folder, "")
    for path, recorded in trace.files.items():
        absolute = _absolute(base, path)
        now = index.state(absolute) if ":" in recorded else index.digest(absolute)
        if now != recorded:
            return _difference(path, recorded, now)
    for path, names in trace.imports.items():
        absolute = os.path.join(folder, path)
        listed = index.listing(absolute)
        for name, recorded in names.items():
            found = find_module(name, absolute, listed, index)
            if found != recorded:
                return _other_module(name, path, recorded, found)
    for path, recorded in trace.folders.items():
        now = listing_digest(index.listing(os.path.join(folder, path)))
        if now != recorded:
            cause = Cause(kind="folder", name=path or ".", old=recorded, new=now)
            return Stale(reason=f"files in {path or '.'} changed", cause=cause)
    for path, recorded in trace.exists.items():
        now = index.kind(_absolute(base, path))
        if now != recorded:
            cause = Cause(kind="path", name=path, old=recorded, new=now)
            return Stale(reason=f"{path} is now {now or 'gone'}", cause=cause)
    for name, recorded in trace.environment.items():
        now = variable_digest(name, environ.get(name))
        if now != recorded:
            cause = Cause(kind="variable", name=name, old=recorded, new=now)
            return Stale(reason=f"environment variable `{name}` changed", cause=cause)
    return None


def _absolute(base: str, path: str) -> str:
    """`os.path.join`, which takes longer than the rest of a comparison."""
    return path if path.startswith("/") else base + path


def questions(trace: Trace) -> Trace:
    """The same without the answers: what to look at. A `:` stays where the executable bit matters."""
    return Trace(
        files={path: ":" if ":" in recorded else "" for path, recorded in trace.files.items()},
        folders=dict.fromkeys(trace.folders, ""),
        exists=dict.fromkeys(trace.exists, ""),
        imports={folder: dict.fromkeys(names, "") for folder, names in trace.imports.items()},
        environment=dict.fromkeys(trace.environment, ""),
    )


def answered(asked: Trace, folder: str, index: FileIndex, environ: Mapping[str, str]) -> Trace:
    """Questions with the answers of the world now: a trace of which nothing has `changed`."""
    places = {path: os.path.join(folder, path) for path in (*asked.files, *asked.folders, *asked.exists)}
    imports = {}
    for path, names in asked.imports.items():
        place = os.path.join(folder, path)
        listed = index.listing(place)
        imports[path] = {name: find_module(name, place, listed, index) for name in names}
    return Trace(
        files={p: index.state(places[p]) if mark else index.digest(places[p]) for p, mark in asked.files.items()},
        folders={path: listing_digest(index.listing(places[path])) for path in asked.folders},
        exists={path: index.kind(places[path]) for path in asked.exists},
        imports=imports,
        environment={name: variable_digest(name, environ.get(name)) for name in asked.environment},
    )


def listing_digest(entries: Iterable[str] | None) -> str:
    """Of sorted entries as `FileIndex.listing` gives them; empty for no folder."""
    return "" if entries is None else digest.of_parts("folder", entries)


def variable_digest(name: str, value: str | None) -> str:
    return "" if value is None else digest.of_parts("environment", (name, value))


def find_module(name: str, folder: str, listed: tuple[str, ...] | None, index: FileIndex) -> str:
    """What an import of `name` finds in `folder`, in Python's own order.

    `package`, `extension`, `module`, `namespace`, or empty for nothing. `listed` is the index's listing of `folder`.
    """
    if listed is None:
        return ""
    known = index.modules.get((folder, name))
    if known is None:
        known = index.modules[folder, name] = _find_module(name, folder, listed, index)
    return known


def _find_module(name: str, folder: str, listed: tuple[str, ...], index: FileIndex) -> str:
    here = _importable(folder, listed, index)
    inside = None
    if name in here.folders:
        path = os.path.join(folder, name)
        inside = index.listing(path)
        if inside is not None and "__init__.py" in _importable(path, inside, index).files:
            return "package"
    if name in here.extensions:
        return "extension"
    if f"{name}.py" in here.files:
        return "module"
    return "" if inside is None else "namespace"


def _importable(folder: str, listed: tuple[str, ...], index: FileIndex) -> Importable:
    known = index.importable.get(folder)
    if known is None:
        files = {entry.partition("/@")[0] for entry in listed if not entry.endswith("/")}
        known = index.importable[folder] = Importable(
            folders={entry.partition("/")[0] for entry in listed if "/" in entry},
            files=files,
            extensions={file.partition(".")[0] for file in files if file.endswith(EXTENSION_SUFFIXES)},
        )
    return known


def _difference(path: str, recorded: str, now: str) -> Stale:
    if not now:
        what = "is gone"
    elif not recorded:
        what = "is new"
    elif recorded.partition(":")[0] == now.partition(":")[0]:
        what = "changed its executable bit"
    else:
        what = "changed"
    return Stale(reason=f"{path} {what}", cause=Cause(kind="file", name=path, old=recorded, new=now))


def _other_module(name: str, folder: str, recorded: str, now: str) -> Stale:
    reason = f"import of `{name}` finds another file in {folder or '.'}"
    return Stale(reason=reason, cause=Cause(kind="import", name=os.path.join(folder, name), old=recorded, new=now))
