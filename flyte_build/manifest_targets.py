"""The tables `[targets.*]` -> complete targets: `for_each`, paths, and what must hold between the keys of one table."""

from __future__ import annotations

import functools
import glob
import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterator, Mapping

import msgspec
from msgspec.structs import replace

from flyte_build import errors
from flyte_build.manifest_tables import Places, TargetTable
from flyte_build.model import Origin, Target

VERSION_PARTS = ("{content}", "{git_sha}", "{git_tag}", "{env:NAME}")
"""What a version may hold. Filling it in is the business of the step that knows the content."""

_BRACES = re.compile(r"\{[^{}]*\}?|\}")
_VARIABLE = re.compile(r"\{env:[A-Za-z_]\w*\}")
_FOLDER_PARTS = ("{dir}", "{name}")
_UNITS = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3, "ki": 1024, "Mi": 1024**2, "Gi": 1024**3}

At = Callable[..., errors.Place]
"""The place of a key of one table; of "": of the table."""

_Problems = Iterator[errors.ManifestError]


def read_targets(
    tables: Mapping[str, TargetTable], root: str, places: Places, origins: Mapping[str, Origin]
) -> tuple[dict[str, Target], list[errors.ManifestError]]:
    """The targets by name, and everything that is wrong with them.

    Args:
        root: the manifest's folder.
        origins: of each table.
    """
    targets: dict[str, Target] = {}
    tables_of: dict[str, str] = {}
    problems: list[errors.ManifestError] = []
    for name, table in tables.items():
        at = functools.partial(places.at, "targets", name)
        folders = _folders(table.for_each, root)
        holding = [folder for folder in folders if os.path.exists(f"{root}/{_filled(table.path, folder)}")]
        problems += _table_problems(table, at)
        if misplaced := list(_placeholder_problems(table, at)):
            problems += misplaced
            continue  # the paths are not what was meant, so nothing can be said of them
        problems += _for_each_problems(table, root, at, found=(len(folders), len(holding)))
        for target in _expanded(name, table, root, holding):
            problems += _target_problems(target, root, at)
            if target.name in tables_of:
                first = places.at("targets", tables_of[target.name], "")
                problems.append(errors.DuplicateTarget(place=at(""), name=target.name, first=first))
            tables_of.setdefault(target.name, name)
            targets[target.name] = replace(target, origin=origins[name])
    return targets, problems


def unknown_placeholders(text: str, known: tuple[str, ...]) -> list[str]:
    """Each `{...}`, or lone brace, that is none of the known forms. NAME in a form stands for any name."""
    return [part for part in _BRACES.findall(text) if _VARIABLE.sub("{env:NAME}", part) not in known]


def _table_problems(table: TargetTable, at: At) -> _Problems:
    chosen = tuple(key for key in ("environment", "all", "recursive") if getattr(table, key))
    if not chosen:
        yield errors.NoSelection(place=at(""))
    elif len(chosen) > 1:
        yield errors.SeveralSelections(place=at(chosen[1]), names=chosen)
    for part in unknown_placeholders(table.version, VERSION_PARTS):
        yield errors.UnknownPlaceholder(place=at("version"), name=part, known=VERSION_PARTS)
    if table.copy_style == "none" and "{content}" in table.version:
        yield errors.VersionRequired(place=at("copy_style"))


def _placeholder_problems(table: TargetTable, at: At) -> _Problems:
    for key, texts in _templates(table).items():
        for text in texts if table.for_each and key in ("path", "root_dir") else ():
            for part in unknown_placeholders(text, _FOLDER_PARTS):
                yield errors.UnknownPlaceholder(place=at(key), name=part, known=_FOLDER_PARTS)
        for part in () if table.for_each else _FOLDER_PARTS:
            if any(part in text for text in texts):
                yield errors.PlaceholderWithoutForEach(place=at(key), name=part)


def _for_each_problems(table: TargetTable, root: str, at: At, *, found: tuple[int, int]) -> _Problems:
    """`found`: how many folders match, and how many of them hold the path."""
    matching, holding = found
    pattern = table.for_each
    if not pattern:
        return
    if _is_outside(_relative(pattern, root)):
        yield errors.OutsideManifestFolder(place=at("for_each"), path=pattern)
    elif not matching:
        yield errors.NoFolders(place=at("for_each"), pattern=pattern)
    elif not any(part in table.path for part in _FOLDER_PARTS):
        yield errors.SamePathForAll(place=at("path"), path=table.path)
    elif not holding:
        yield errors.NoFolderHasPath(place=at("path"), pattern=pattern, path=table.path, folders=matching)


def _target_problems(target: Target, root: str, at: At) -> _Problems:
    if not _is_name(target.name):
        yield errors.BadTargetName(place=at(""), name=target.name)
    for name in target.environments:
        if not name.isidentifier():
            yield errors.BadEnvironmentName(place=at("environment"), name=name)
    if _is_outside(target.root_dir):
        yield errors.OutsideManifestFolder(place=at("root_dir"), path=target.root_dir)
    elif target.root_dir != "." and not os.path.isdir(f"{root}/{target.root_dir}"):
        yield errors.RootNotAFolder(place=at("root_dir"), root_dir=target.root_dir)
    elif _is_outside(target.path):
        yield errors.OutsideManifestFolder(place=at("path"), path=target.path)
    elif target.root_dir != "." and not f"{target.path}/".startswith(f"{target.root_dir}/"):
        yield errors.PathOutsideRoot(place=at("path"), path=target.path, root_dir=target.root_dir)
    else:
        yield from _path_problems(target, root, at)


def _path_problems(target: Target, root: str, at: At) -> _Problems:
    try:
        is_folder = stat.S_ISDIR(os.stat(f"{root}/{target.path}").st_mode)
    except OSError:
        yield errors.PathMissing(place=at("path"), path=target.path)
        return
    if is_folder and target.environments:
        yield errors.EnvironmentNeedsFile(place=at("path"), path=target.path)
    elif target.recursive and not is_folder:
        yield errors.RecursiveNeedsFolder(place=at("path"), path=target.path)
    elif not is_folder and not target.path.endswith(".py"):
        yield errors.NotPython(place=at("path"), path=target.path)


def _is_name(name: str) -> bool:
    """Whether doit takes it as the name of a subtask, and a folder can be named after it."""
    parts = name.split("/")
    return (
        name.isprintable()
        and name[:1] not in ("-", "_")
        and not any(mark in name for mark in ":=*")
        and not any(part in ("", ".", "..") for part in parts)
    )


def _expanded(name: str, table: TargetTable, root: str, folders: list[str]) -> list[Target]:
    if not table.for_each:
        return [_target(name, table, root, folder="")]
    return [_target(folder, table, root, folder=folder) for folder in folders]


def _target(name: str, table: TargetTable, root: str, *, folder: str) -> Target:
    texts = {key: [_filled(text, folder) for text in texts] for key, texts in _templates(table).items()}
    fields = msgspec.structs.asdict(table)
    del fields["for_each"], fields["environment"]
    fields |= {
        "name": name,
        "path": _relative(texts["path"][0], root),
        "root_dir": _relative(texts["root_dir"][0], root),
        "environments": texts["environment"],
        "include": texts["include"],
        "exclude": texts["exclude"],
        "max_bundle_size": _bytes(table.max_bundle_size),
    }
    return msgspec.convert(fields, Target)


def _templates(table: TargetTable) -> dict[str, list[str]]:
    """The texts that {dir} and {name} may stand in."""
    names = [table.environment] if isinstance(table.environment, str) else table.environment
    return {
        "path": [table.path],
        "environment": [name for name in names if name],
        "root_dir": [table.root_dir],
        "include": table.include,
        "exclude": table.exclude,
    }


def _filled(text: str, folder: str) -> str:
    return text.replace("{dir}", folder).replace("{name}", posixpath.basename(folder)) if folder else text


def _folders(pattern: str, root: str) -> list[str]:
    """The folders under the root that match, sorted; hidden ones only if the pattern says so."""
    if not pattern or _is_outside(_relative(pattern, root)):
        return []
    found = {os.path.normpath(path) for path in glob.glob(pattern, root_dir=root, recursive=True)}
    return sorted(
        path for path in found if posixpath.basename(path) != "__pycache__" and os.path.isdir(f"{root}/{path}")
    )


def _relative(path: str, root: str) -> str:
    """A path of the manifest in its one spelling: relative to the manifest's folder, without `.` and `//`."""
    return posixpath.relpath(path, root) if posixpath.isabs(path) else posixpath.normpath(path)


def _is_outside(path: str) -> bool:
    return path == ".." or path.startswith("../")


def _bytes(size: int | str) -> int:
    if isinstance(size, int):
        return size
    number, unit = size[:-1].rstrip("kKMGi "), size[:-1].lstrip("0123456789 ")
    return int(number) * _UNITS[unit.replace("K", "k")]
