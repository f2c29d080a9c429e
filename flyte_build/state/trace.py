"""A verifying trace: what a step looked at, and whether the world still answers the same.

Paths inside the manifest's folder are relative to it, others are absolute, so that a trace means the same in another
checkout.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Mapping

from flyte_build.model import Value
from flyte_build.state import digest
from flyte_build.state.files import FileIndex, kind

EXTENSION_SUFFIXES = (".so", ".pyd")


class Trace(Value, frozen=True):
    """Everything outside a step's key that its result depends on."""

    files: dict[str, str] = {}
    """Path -> digest of the content, and `:x` or `:-` where the executable bit matters; empty: no such file."""
    folders: dict[str, str] = {}
    """Path -> digest of its sorted entries, kinds included; empty: no such folder."""
    exists: dict[str, str] = {}
    """Path -> `file`, `folder`, `other`, or empty for nothing."""
    imports: dict[str, dict[str, str]] = {}
    """Folder on the import path -> module looked for -> what was found there (see `find_module`)."""
    environment: dict[str, str] = {}
    """Environment variable -> digest of its value; empty: not set."""
    opaque: tuple[str, ...] = ()
    """What was done whose inputs cannot be seen (a process, a connection), with the line that did it."""


def changed(trace: Trace, folder: str, index: FileIndex, environ: Mapping[str, str]) -> str:
    """The first difference between a trace and the world, in words; empty when there is none."""
    if trace.opaque:
        return f"{trace.opaque[0]}, whose inputs cannot be seen"
    for path, recorded in trace.files.items():
        absolute = os.path.join(folder, path)
        now = index.state(absolute) if ":" in recorded else index.digest(absolute)
        if now != recorded:
            return _difference(path, recorded, now)
    for path, names in trace.imports.items():
        listed = index.listing(os.path.join(folder, path))
        for name, recorded in names.items():
            if find_module(name, os.path.join(folder, path), listed, index) != recorded:
                return f"import of `{name}` finds another file in {path or '.'}"
    for path, recorded in trace.folders.items():
        if listing_digest(index.listing(os.path.join(folder, path))) != recorded:
            return f"files in {path or '.'} changed"
    for path, recorded in trace.exists.items():
        now = kind(os.path.join(folder, path))
        if now != recorded:
            return f"{path} is now {now or 'gone'}"
    for name, recorded in trace.environment.items():
        if variable_digest(name, environ.get(name)) != recorded:
            return f"environment variable `{name}` changed"
    return ""


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
    entries = _starting_with(name, listed)
    is_folder = any(entry.startswith(f"{name}/") for entry in entries)
    inside = index.listing(os.path.join(folder, name)) if is_folder else None
    if inside is not None and "__init__.py" in _file_names(_starting_with("__init__.py", inside)):
        return "package"
    files = _file_names(entries)
    if any(file.startswith(f"{name}.") and file.endswith(EXTENSION_SUFFIXES) for file in files):
        return "extension"
    if f"{name}.py" in files:
        return "module"
    return "" if inside is None else "namespace"


def _starting_with(name: str, listed: tuple[str, ...]) -> tuple[str, ...]:
    return listed[bisect_left(listed, name) : bisect_left(listed, f"{name}\U0010ffff")]


def _file_names(entries: tuple[str, ...]) -> set[str]:
    """Names of what is no folder, links among them."""
    return {entry.partition("/@")[0] for entry in entries if not entry.endswith("/")}


def _difference(path: str, recorded: str, now: str) -> str:
    if not now:
        return f"{path} is gone"
    if not recorded:
        return f"{path} is new"
    if recorded.partition(":")[0] == now.partition(":")[0]:
        return f"{path} changed its executable bit"
    return f"{path} changed"
