"""A verifying trace: what a step looked at, and whether the world still answers the same.

Paths inside the manifest's folder are relative to it, others are absolute, so that a trace means the same in another
checkout.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from flyte_build.model import Value
from flyte_build.state import digest
from flyte_build.state.files import FileIndex, kind

EXTENSION_SUFFIXES = (".so", ".pyd")


class Trace(Value, frozen=True):
    """Everything outside a step's key that its result depends on."""

    files: dict[str, str] = {}
    """Path -> digest of the content, and `:x` or `:-` where the executable bit matters; empty: no such file."""
    folders: dict[str, str] = {}
    """Path -> digest of the sorted names in it; empty: no such folder."""
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


def listing_digest(names: tuple[str, ...] | None) -> str:
    return "" if names is None else digest.of_parts("folder", names)


def variable_digest(name: str, value: str | None) -> str:
    return "" if value is None else digest.of_parts("environment", (name, value))


def find_module(name: str, folder: str, listed: tuple[str, ...] | None, index: FileIndex) -> str:
    """What an import of `name` finds in `folder`, in Python's own order.

    `package`, `extension`, `module`, `namespace`, or empty for nothing.
    """
    if listed is None:
        return ""
    inside = index.listing(os.path.join(folder, name)) if name in listed else None
    if inside is not None and "__init__.py" in inside:
        return "package"
    if any(entry.startswith(f"{name}.") and entry.endswith(EXTENSION_SUFFIXES) for entry in listed):
        return "extension"
    if f"{name}.py" in listed:
        return "module"
    return "" if inside is None else "namespace"


def _difference(path: str, recorded: str, now: str) -> str:
    if not now:
        return f"{path} is gone"
    if not recorded:
        return f"{path} is new"
    if recorded.partition(":")[0] == now.partition(":")[0]:
        return f"{path} changed its executable bit"
    return f"{path} changed"
