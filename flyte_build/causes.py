"""What leads from a target to what changed: the words and the chain that a verdict alone does not know.

Asked only when a step is stale. What it reads is kept for people; where it is missing, there is less to say.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from flyte_build.errors import written
from flyte_build.model import BackendSettings, Cause, ImageSettings, Stale, Target, Value
from flyte_build.state.folder import write_unless_there

if TYPE_CHECKING:
    from flyte_build.project import Project

DISTRIBUTIONS = "installed_distributions"
"""The field of discovery's key."""
_SUFFIXES = (".dist-info", ".egg-info")
_PLACEHOLDERS = re.compile(r"\{[^}]*\}")
_FOUND = {"module": ".py", "package": "/__init__.py", "extension": ".so", "namespace": "/"}


class Readers(msgspec.Struct):
    """The part of a `Discovery`, or of a `Bundle`, that says what led to what."""

    readers: dict[str, str] = {}


def explain(project: Project, target: Target, stale: Stale, kept: Iterable[str]) -> Stale:
    """The same verdict, with all that is known of its cause.

    `kept`: digests of the objects with `Readers`, the one that counts more first.
    """
    cause = stale.cause
    if cause.kind == "setting" and cause.name == DISTRIBUTIONS:
        return _package(project, stale)
    if cause.kind == "setting":
        return replace(stale, reason=_setting(cause.name, target, project.manifest.elsewhere) or stale.reason)
    if cause.kind not in ("file", "folder", "path", "import", "variable"):
        return stale
    readers: dict[str, str] = {}
    for content in kept:
        readers = {**_readers(project.state.object(content)), **readers}
    return replace(stale, cause=replace(cause, chain=chain(cause, readers)))


def chain(cause: Cause, readers: Mapping[str, str]) -> tuple[str, ...]:
    """From a file of the target to what changed; empty when nothing is known to lead there."""
    key, last = _key(cause), _shown(cause)
    if key not in readers:
        return ()
    links, reader = [last], readers[key]
    while reader and reader not in links:
        links.append(reader)
        reader = readers.get(reader, "")
    return tuple(reversed(links))


_RENAMED = {"environments": "environment", "code_in_images": "copy_style"}
"""Field of a key -> the key of the target's table that it follows, where they differ."""
_WHOLE = {"store": "store", "backend": "flyte"}
"""Field of a key that holds a table."""


def _setting(field: str, target: Target, elsewhere: Mapping[str, str]) -> str:
    """That something changed in deploy.toml, as it is written there; empty for what is not written there."""
    name, _, inner = field.partition(".")
    key = _RENAMED.get(name, name)
    if name == "version":
        return _version(target)
    if name in _RENAMED or (name in Target.__struct_fields__ and name not in ("name", "names", "origin")):
        return f"`{key}` in {target.settings(key)} changed"
    if name in _WHOLE:
        return f"`{inner}` in {written(elsewhere, _WHOLE[name], inner)} changed" if inner else ""
    if name in ImageSettings.__struct_fields__:
        return f"`{field}` in {written(elsewhere, 'images', name)} changed"
    if name in BackendSettings.__struct_fields__:
        return f"`{name}` in {written(elsewhere, 'flyte', name)} changed"
    return ""


def _version(target: Target) -> str:
    where = target.settings("version")
    place = "of the command line" if where.endswith(":") else f"in {where}"
    filled = set(_PLACEHOLDERS.findall(target.version)) - {"{content}"}
    return f"`version` {place} changed{', or what fills it' if filled else ''}"


def _key(cause: Cause) -> str:
    return {"import": f"import {cause.name}", "variable": f"${cause.name}"}.get(cause.kind, cause.name)


def _shown(cause: Cause) -> str:
    return f"{cause.name}{_FOUND.get(cause.new or cause.old, '')}" if cause.kind == "import" else _key(cause)


def _readers(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Readers).readers
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}


# --- installed distributions


class _Distribution(Value, frozen=True):
    version: str = ""
    """Empty for what is none, such as a `.pth` file."""
    content: str = ""
    """Digest of the list of its files."""


def keep_installed(project: Project) -> None:
    """Keep what is installed now, so that a later run can tell what changed."""
    path = project.state.installed(project.installed_distributions)
    write_unless_there(path, msgspec.json.encode(project.installed))


def _package(project: Project, stale: Stale) -> Stale:
    """Which distribution it is."""
    try:
        data = project.state.installed(stale.cause.old).read_bytes()
        kept = msgspec.json.decode(data, type=tuple[tuple[str, str], ...])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return stale
    old, new = _distributions(kept), _distributions(project.installed)
    name = next((name for name in sorted({*old, *new}) if old.get(name) != new.get(name)), "")
    if not name:
        return stale  # they come in another order
    what, before, after = _difference(name, old.get(name), new.get(name))
    cause = Cause(kind="package", name=name, old=before, new=after)
    return Stale(reason=f"{stale.reason}: {what}", cause=cause)


def _difference(name: str, old: _Distribution | None, new: _Distribution | None) -> tuple[str, str, str]:
    """In words, and before and after: versions, or digests where they tell nothing."""
    if old and new and old.version == new.version:
        return f"files of {name}", old.content, new.content
    before, after = (each.version or each.content if each else "" for each in (old, new))
    if old and new:
        return f"{name} {before} -> {after}", before, after
    version = (old or new or _Distribution()).version
    return f"{f'{name} {version}'.rstrip()} is {'new' if new else 'gone'}", before, after


def _distributions(installed: Iterable[tuple[str, str]]) -> dict[str, _Distribution]:
    """By name. Of two folders with the same, the first counts, as it does for imports."""
    found: dict[str, _Distribution] = {}
    for entry, content in installed:
        stem, suffix = os.path.splitext(entry.partition("/")[0])
        name, _, version = stem.partition("-") if suffix in _SUFFIXES else (f"{stem}{suffix}", "", "")
        found.setdefault(name, _Distribution(version=version, content=content))
    return found
