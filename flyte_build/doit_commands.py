"""doit's own commands, in words that users of this project know, and only where a dodo.py of ours is loaded.

doit looks at what it was asked for in a different way in each command, and in some not at all.
"""

from __future__ import annotations

import copy
import fnmatch
import functools
import sys
from collections.abc import Callable, Iterable
from typing import Any

import doit.control
from doit.cmd_clean import Clean
from doit.cmd_forget import Forget
from doit.cmd_help import Help
from doit.cmd_ignore import Ignore
from doit.cmd_info import Info
from doit.cmd_list import List
from doit.cmd_resetdep import ResetDep
from doit.cmd_strace import Strace
from doit.exceptions import InvalidCommand

from flyte_build.command_line import TASKS, project
from flyte_build.errors import ManifestError, NotForTask, TaskNotNamed, UnknownTask

_DOITS_REASONS: Callable[[Any], str] = Info.get_reasons
_WANTED = {"info": "one task", "ignore": "what to leave out"}
"""Commands that do nothing without a name -> what they want."""
_SEVERAL = ("list", "forget", "ignore", "info", "reset-dep")
"""Commands to which a pattern can be given as its tasks; `clean` knows patterns itself."""
_REFUSED = {
    "strace": (
        "only commands of a shell can be followed, and this is none",
        "`doit why {task}` says what it depends on",
    ),
    "reset-dep": (
        "only the work itself makes it done",
        "run `doit {task}`, which does what is not done yet",
    ),
}
"""Command -> why it is not for our tasks, and what to do."""


def install() -> None:
    """Have doit's commands look at the words that they were given before they work."""
    for command in (Clean, Forget, Help, Ignore, Info, List, ResetDep, Strace):
        command._execute = _after_a_look(command._execute)
    Clean.clean_tasks = _ours_together(Clean.clean_tasks)
    doit.control.InvalidCommand = _NotFound
    Info.get_reasons = staticmethod(_reasons)


def _after_a_look(work: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(work)  # doit reads the names of the parameters off it
    def looking(command: Any, **params: Any) -> Any:
        tasks = {task.name: task for task in command.task_list}
        words = [] if command.sel_default_tasks else list(command.sel_tasks)
        try:
            names = _names(command.get_name(), words, tasks)
        except ManifestError as error:
            raise InvalidCommand(error.message) from error
        if words:
            command.sel_tasks = names
            params.update(dict.fromkeys(params.keys() & {"pos_args"}, names))
        elif command.get_name() == "reset-dep":
            command.task_list = [task for task in command.task_list if not is_ours(task.name)]
        return work(command, **params)

    return looking


def _ours_together(work: Callable[..., None]) -> Callable[..., None]:
    """Clean what is ours at once, after tasks of the user's, which may need it: several of ours may name one file."""

    @functools.wraps(work)
    def clean_tasks(command: Any, tasks: list[Any], dryrun: bool, cleanforget: bool) -> None:
        from flyte_build import graph

        work(command, tasks, dryrun, cleanforget)
        graph.clean((task.name for task in tasks), dryrun=dryrun)

    return clean_tasks


def _names(command: str, words: Iterable[str], tasks: Iterable[str]) -> list[str]:
    """The tasks that words of the command line mean.

    Raises:
        ManifestError: one means none, or the command is not for it, or wants another number of them.
    """
    names: list[str] = []
    for word in words:
        found = fnmatch.filter(tasks, word) if "*" in word and command in _SEVERAL else [word]
        names += found or [word]
    for name in names:
        if name not in tasks and not ("*" in name and command == "clean"):
            raise unknown(name, tasks)
        if command in _REFUSED and is_ours(name):
            reason, mend = _REFUSED[command]
            raise NotForTask(command=command, task=name, reason=reason, mend=mend.format(task=name))
    if command in _WANTED and (not names or (command == "info" and len(names) > 1)):
        target = next(iter(project().manifest.targets))
        raise TaskNotNamed(command=command, wanted=_WANTED[command], example=f"deploy:{target}")
    return names


def is_ours(task: str) -> bool:
    """Whether flyte_build made a task, or the group of tasks."""
    return task.partition(":")[0] in TASKS


def unknown(word: str, tasks: Iterable[str]) -> UnknownTask:
    """The error that there is no task of a name."""
    groups = {name for name in tasks if ":" not in name or not is_ours(name)}
    step = next((each for each in sys.argv[1:] if each in ("plan", "check")), "deploy")
    targets = tuple(project().manifest.targets)
    return UnknownTask(word=word, tasks=tuple(groups), targets=targets, step=step)


class _NotFound(InvalidCommand):  # type: ignore[misc]
    """What doit raises when it is to run what it does not know: a task, or a file that a task makes."""

    def __str__(self) -> str:
        return unknown(self.not_found, TASKS).message


def _reasons(reasons: Any) -> str:
    """Why a task is not up to date, for `doit info`."""
    lines = [f" * {check}" for check, *_ in reasons["uptodate_false"]]
    if reasons["has_no_dependencies"]:
        lines.append(" * it runs whenever it is asked for")
    others = copy.copy(reasons)  # with the default of what is not there
    others.update(uptodate_false=[], has_no_dependencies=False)
    return "\n".join(filter(None, (*lines, _DOITS_REASONS(others))))
