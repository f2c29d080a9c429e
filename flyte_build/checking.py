"""`doit check`: does a target's code declare the same wherever and however it is loaded?

It is loaded twice, in two processes: here, as a deploy does; and from a copy of the folder elsewhere, with another hash
seed, the files imported in the opposite order, and folders listed backwards.
"""

from __future__ import annotations

import atexit
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flyte_build import children
from flyte_build.errors import CopyNotMade, LoadsElsewhereOnly, LoadsHereOnly, NotDeterministic, StepError
from flyte_build.model import Discovery, EnvironmentDraft, ImageDraft, Target, TaskDraft
from flyte_build.state.folder import NAME as STATE_FOLDER
from flyte_build.steps import discover
from flyte_build.steps.deploy import spec_differences
from flyte_build.steps.workers import cores

if TYPE_CHECKING:
    from flyte_build.project import Project

_LEFT_OUT = {STATE_FOLDER, ".git", ".hg", "__pycache__", "node_modules"}
_SHOWN = 20


def check(project: Project, target: Target) -> None:
    """Load a target twice and compare. Nothing is kept.

    Raises:
        NotDeterministic: what the code declares depends on more than its files.
        CopyNotMade: there is no room for another place.
        StepError: the code cannot be loaded.
    """
    here = _attempt(project, target, "")
    with project.opened("copies", lambda: _Copies(project.folder)).lent() as copy:
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


# --- another place


_Marks = frozenset[tuple[object, ...]]


class _Copies:
    """Copies of a folder, as many as there are cores. One that a load has written to is not lent again."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._slots = threading.BoundedSemaphore(cores())
        self._free: list[tuple[str, _Marks]] = []
        self._scratch = ExitStack()
        atexit.register(self._scratch.close)

    @contextmanager
    def lent(self) -> Iterator[str]:
        """A copy that nobody else has.

        Raises:
            CopyNotMade
        """
        with self._slots:
            try:
                copy, marks = self._free.pop()
            except IndexError:
                copy, marks = self._made()
            yield copy
            if _is_marked(copy, marks):
                self._free.append((copy, marks))
            else:
                shutil.rmtree(copy, ignore_errors=True)

    def _made(self) -> tuple[str, _Marks]:
        scratch = ""
        try:
            scratch = self._scratch.enter_context(children.scratch("flyte-build-check-"))
            copy = os.path.join(os.path.realpath(scratch), "another", "place")
            shutil.copytree(self._source, copy, symlinks=True, ignore=_left_out, copy_function=_copy)
            return copy, _marks(copy)
        except (OSError, shutil.Error, CopyNotMade) as error:
            if scratch:
                shutil.rmtree(scratch, ignore_errors=True)  # others need the room
            raise error if isinstance(error, CopyNotMade) else _not_made(self._source, error) from error


def _copy(source: str, target: str) -> str:
    """As `shutil.copy2`; the first failure ends it all."""
    try:
        return shutil.copy2(source, target, follow_symlinks=False)
    except OSError as error:
        raise _not_made(Path(source), error) from error


def _not_made(source: Path, error: OSError) -> CopyNotMade:
    path, reason = error.filename or str(source), error.strerror or str(error)
    if isinstance(error, shutil.Error):  # several failures, of which the first is told
        path, _, reason = error.args[0][0]
    return CopyNotMade(path=str(path), folder=children.scratch_root(), reason=reason)


def _is_marked(folder: str, marks: _Marks) -> bool:
    try:
        return _marks(folder) == marks
    except OSError:
        return False


def _marks(folder: str) -> _Marks:
    """Of all that is in a folder; whatever is written there changes them."""
    found = [(folder, os.lstat(folder))]
    for place, folders, files in os.walk(folder):
        paths = (os.path.join(place, name) for name in (*folders, *files))
        found += [(path, os.lstat(path)) for path in paths]
    return frozenset((path, s.st_ino, s.st_size, s.st_mode, s.st_mtime_ns, s.st_ctime_ns) for path, s in found)


def _left_out(folder: str, names: list[str]) -> Iterable[str]:
    """What is no part of the code: state, history, and virtual environments. Sockets and pipes cannot be copied."""
    for name in names:
        path = Path(folder, name)
        if name in _LEFT_OUT or (path / "pyvenv.cfg").is_file() or not _can_be_copied(path):
            yield name


def _can_be_copied(path: Path) -> bool:
    return path.is_symlink() or path.is_dir() or path.is_file()


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
