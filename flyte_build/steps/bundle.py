"""Bundle: write the target's files as one canonical archive. What goes into it is decided in `packing`."""

from __future__ import annotations

import os
import posixpath
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from flyte_build.model import Bundle, CopyStyle, Target, Value
from flyte_build.state.receipts import Receipt
from flyte_build.state.trace import Trace
from flyte_build.steps import Outcome, discover

if TYPE_CHECKING:
    from flyte_build.packing import Plan
    from flyte_build.project import Project

NAME = "bundle"
FORMAT = 1
"""Raised when the same key and files would give another bundle."""
_NAMED = 3
"""How many of the files that a note is about it names."""


class Key(Value, frozen=True):
    """What may change a bundle, besides the files, folders and missing paths that its trace names."""

    format: int
    python: str
    """Version whose grammar the static scan reads."""
    root_dir: str
    resolved_root: str
    """Where it leads: links may be turned."""
    search: tuple[str, ...]
    """Where lazy imports are looked for, relative to the root."""
    copy_style: CopyStyle
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    lazy_imports: bool
    max_bundle_size: int
    files: str
    """Digest of what discovery loaded, and of the environments' includes."""


class Result(Value, frozen=True):
    digest: str
    """Of paths, modes and contents; empty when the target has no bundle."""
    bundle: str = ""
    """Digest of the `Bundle`, which is kept under it."""
    files: int = 0
    size: int = 0
    """Bytes before compression."""
    archive_size: int = 0


def key(project: Project, target: Target) -> Key:
    return Key(
        format=FORMAT,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        root_dir=target.root_dir,
        resolved_root=project.place(target.root_dir),
        search=_search(project, target),
        copy_style=target.copy_style,
        include=target.include,
        exclude=target.exclude,
        lazy_imports=target.lazy_imports,
        max_bundle_size=target.max_bundle_size,
        files=project.result(target.name, discover.NAME, discover.Result).files,
    )


def load(project: Project, target: Target) -> Bundle | None:
    """The bundle that the receipt names; None when the target has none."""
    result = project.result(target.name, NAME, Result)
    if not result.digest:
        return None
    return msgspec.json.decode(project.state.object(result.bundle).read_bytes(), type=Bundle)


def archive(project: Project, bundle: Bundle) -> Path:
    return project.state.bundles / bundle.filename


def run(project: Project, target: Target) -> Outcome:
    """Pick the files and write the archive.

    Raises:
        StepError: a file cannot be bundled, or they are too large together.
    """
    from flyte_build import packing

    root = project.root(target)
    plan = packing.plan(target, root, discover.load(project, target), search=_search(project, target))
    if not plan.files:
        return Outcome(result=Result(digest=""), trace=_trace(project, target, plan, None), summary="no files")
    packed = packing.pack(plan, root, project.state.bundles)
    bundle = msgspec.structs.replace(packed, readers=discover.named(project, target, plan.readers))
    kept = project.state.put_object(bundle.json())
    path = archive(project, bundle)
    project.index.forget(str(path))  # another target's may have been looked for, and missed, under this name
    return Outcome(
        result=Result(
            digest=bundle.digest,
            bundle=kept,
            files=len(bundle.files),
            size=bundle.size,
            archive_size=bundle.archive_size,
        ),
        trace=_trace(project, target, plan, bundle),
        outputs={
            f"objects/{kept}": kept,
            f"bundles/{bundle.filename}": project.index.digest(str(path)),
        },
        summary=f"{len(bundle.files)} file{'s' if len(bundle.files) != 1 else ''}, {bundle.size:,} bytes",
        notes=(
            *_broken_note(plan),
            *_unbundled_note(project, target, bundle),
            *_secrets_note(plan, target),
            *_size_note(bundle),
        ),
    )


def _search(project: Project, target: Target) -> tuple[str, ...]:
    """Where lazy imports are looked for, relative to the root: what the worker's `sys.path` has under it."""
    if not ((target.environments or target.names) and target.sync_local_sys_paths):
        return ("",)
    folder = project.resolved(target.path).parent
    below = os.path.relpath(folder, project.root(target))
    return ("",) if below == "." else ("", Path(below).as_posix())


def _trace(project: Project, target: Target, plan: Plan, bundle: Bundle | None) -> Trace:
    bundled = {f.path: f"{f.digest}:{'x' if f.executable else '-'}" for f in (bundle.files if bundle else ())}
    return discover.trace_of_walk(
        project,
        target,
        files={**plan.watch_files, **bundled},
        folders=plan.watch_folders,
        missing=plan.watch_missing,
    )


def _broken_note(plan: Plan) -> tuple[str, ...]:
    return tuple(
        f"{path}: is bundled, but is no valid Python, so importing it will fail when a task runs; "
        "mend it, or leave it out with `exclude`"
        for path in plan.broken
    )


def _unbundled_note(project: Project, target: Target, bundle: Bundle) -> tuple[str, ...]:
    """Data that the code reads while it loads: the task's container loads the code again, and will want it."""
    root = project.root(target)
    bundled = {root / file.path for file in bundle.files if file.path[-3:] != ".py"}
    receipt = project.receipt(target.name, discover.NAME)
    assert isinstance(receipt, Receipt)
    # what images are made of was not read by the code, and is noted with its executable bit
    files = receipt.trace.files.items()
    data = ((path, content) for path, content in files if content and ":" not in content and path[-3:] != ".py")
    read = [project.folder / path for path, _ in data]
    wanted = [path for path in read if path.is_relative_to(root) and path not in bundled]
    names = sorted(path.relative_to(project.folder).as_posix() for path in wanted if not path.name.startswith("."))
    return tuple(_unbundled(target, names))


def _unbundled(target: Target, names: list[str]) -> Iterator[str]:
    """One note, however many files there are."""
    table = target.settings("include")
    if len(names) == 1:
        yield (
            f"{names[0]}: is read while the code loads, but is not in the bundle; "
            f'add `include = ["{target.spelled(names[0])}"]` to {table}'
        )
    elif names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        alike = f"{posixpath.dirname(names[0])}/*{posixpath.splitext(names[0])[1]}".lstrip("/")
        yield (
            f"{len(names)} files are read while the code loads, but are not in the bundle: "
            f"{', '.join(names[:_NAMED])}{more}; add them, or patterns such as `{target.spelled(alike)}`, to `include` "
            f"of {table}"
        )


def _secrets_note(plan: Plan, target: Target) -> tuple[str, ...]:
    if not plan.secrets:
        return ()
    return (
        f"left out of the bundle, since they look like keys or credentials: {', '.join(plan.secrets)}; "
        f"name one in `include` of {target.settings('include')} to bundle it",
    )


def _size_note(bundle: Bundle) -> tuple[str, ...]:
    from flyte_build import packing

    largest = packing.largest(bundle)
    if not largest:
        return ()
    mend = "leave out what tasks do not need with `exclude` or .flyteignore"
    lines = [f"the bundle has {bundle.size:,} bytes before compression; {mend}; its largest files:"]
    return ("\n".join([*lines, *(f"{file.size:>14,}  {file.path}" for file in largest)]),)
