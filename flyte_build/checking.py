"""`doit check`: does a target's code declare the same wherever and however it is loaded?

It is loaded twice, in two processes: here, as a deploy does; and from a copy of the folder elsewhere, with another hash
seed, the files imported in the opposite order, and folders listed backwards.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flyte_build.errors import LoadsElsewhereOnly, LoadsHereOnly, NotDeterministic, StepError
from flyte_build.model import Discovery, EnvironmentDraft, ImageDraft, Target, TaskDraft
from flyte_build.state.folder import NAME as STATE_FOLDER
from flyte_build.steps import discover
from flyte_build.steps.deploy import spec_differences

if TYPE_CHECKING:
    from flyte_build.project import Project

_LEFT_OUT = {STATE_FOLDER, ".git", ".hg", "__pycache__", "node_modules"}
_SHOWN = 20


def check(project: Project, target: Target) -> None:
    """Load a target twice and compare.

    Raises:
        NotDeterministic: what the code declares depends on more than its files.
        StepError: the code cannot be loaded.
    """
    here = _attempt(project, target, "")
    with tempfile.TemporaryDirectory(prefix="flyte-build-check-") as scratch:
        copy = os.path.join(os.path.realpath(scratch), "another", "place")
        shutil.copytree(project.folder, copy, symlinks=True, ignore=_left_out, ignore_dangling_symlinks=True)
        there = _attempt(project, target, copy)
    if isinstance(here, StepError):
        raise here if isinstance(there, StepError) else LoadsElsewhereOnly(place=target.place(), reason=here.message)
    if isinstance(there, StepError):
        raise LoadsHereOnly(place=target.place(), reason=there.message.replace(copy, "COPY"))
    found = [line.replace(copy, "COPY") for line in _differences(here, there, target)]
    if found:
        more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        raise NotDeterministic(place=target.place(), differences=(*found[:_SHOWN], *more))


def _attempt(project: Project, target: Target, elsewhere: str) -> Discovery | StepError:
    try:
        return discover.load_again(project, target, elsewhere)
    except StepError as error:
        return error


def _left_out(folder: str, names: list[str]) -> Iterable[str]:
    """What is no part of the code: state, history, and virtual environments. Sockets and pipes cannot be copied."""
    for name in names:
        path = Path(folder, name)
        if name in _LEFT_OUT or (path / "pyvenv.cfg").is_file() or not (path.is_dir() or path.is_file()):
            yield name


# --- comparing


def _differences(here: Discovery, there: Discovery, target: Target) -> Iterator[str]:
    """`FILE:LINE: WHAT: FIELD: HERE -> THERE`, for each field that differs."""
    others = {environment.name: environment for environment in there.environments}
    for environment in here.environments:
        if environment.name in others:
            yield from _of_environment(environment, others.pop(environment.name), target)
        else:
            yield f"{_environment(environment, target)}: declared the first time only"
    for environment in others.values():
        yield f"{_environment(environment, target)}: declared the second time only"
    for file in sorted({*here.loaded_files} ^ {*there.loaded_files}):
        yield f"{_place(file, 0, target)}: imported the {'first' if file in here.loaded_files else 'second'} time only"


def _of_environment(here: EnvironmentDraft, there: EnvironmentDraft, target: Target) -> Iterator[str]:
    where = _environment(here, target)
    if here.depends_on != there.depends_on:
        yield f"{where}: depends_on: {', '.join(here.depends_on)} -> {', '.join(there.depends_on)}"
    if here.include != there.include:
        yield f"{where}: include: {', '.join(here.include)} -> {', '.join(there.include)}"
    for field in ImageDraft.__struct_fields__:
        before, after = getattr(here.image, field), getattr(there.image, field)
        if before != after:
            yield f"{where}: image.{field}: {before!r} -> {after!r}"
    others = {task.name: task for task in there.tasks}
    for task in here.tasks:
        if task.name in others:
            yield from _of_task(task, others.pop(task.name), target)
        else:
            yield f"{_task(task, target)}: declared the first time only"
    for task in others.values():
        yield f"{_task(task, target)}: declared the second time only"


def _of_task(here: TaskDraft, there: TaskDraft, target: Target) -> Iterator[str]:
    from flyteidl2.task.task_definition_pb2 import TaskSpec

    where = _task(here, target)
    for difference in spec_differences(TaskSpec.FromString(here.spec), TaskSpec.FromString(there.spec)):
        yield f"{where}: {difference}"
    if here.triggers != there.triggers:
        yield f"{where}: triggers differ"


def _environment(draft: EnvironmentDraft, target: Target) -> str:
    return f"{_place(draft.file, 0, target)}: environment `{draft.name}`"


def _task(draft: TaskDraft, target: Target) -> str:
    return f"{_place(draft.source_file, draft.source_line, target)}: task `{draft.name}`"


def _place(file: str, line: int, target: Target) -> str:
    path = os.path.normpath(os.path.join(target.root_dir, file)) if file else target.path
    return f"{path}:{line}" if line else path
