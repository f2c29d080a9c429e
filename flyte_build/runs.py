"""One run of doit: its reporter, which keeps other runs out of the state folder and asks the shared cache."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import doit.runner
from doit.exceptions import InvalidDodoFile, TaskFailed, UnmetDependency

from flyte_build.command_line import TASKS, project
from flyte_build.errors import StateBusy
from flyte_build.report import JsonReporter, Reporter

if TYPE_CHECKING:
    from flyte_build.sharing.run import Sharing


class Blocked(TaskFailed, UnmetDependency):  # type: ignore[misc]
    """A step that did not run because one that it needs failed. A failure (exit code 1), not a broken run (2)."""


# doit calls every blocked task an error; whoever reads the exit code wants to know what the cause was.
doit.runner.UnmetDependency = Blocked


class Run(Reporter):
    """The reporter of `doit run`, which thereby knows that tasks are being run, not forgotten or listed."""

    started: Run | None = None
    _alone = contextlib.ExitStack()
    """Left when the process ends: until then no other run works in the state folder."""
    _asked = False
    _sharing: Sharing | None = None
    """The shared cache, when it was asked."""

    def initialize(self, tasks: Mapping[str, Any], selected_tasks: list[str]) -> None:
        Run.started = self
        selected_tasks[:] = _target_by_target(tasks, selected_tasks)
        super().initialize(tasks, selected_tasks)
        if self._targets and not self._planning:
            self.work_alone()
            self._start_loading(tasks)

    def _start_loading(self, tasks: Iterable[str]) -> None:
        """Have the parent of loads import the SDK while doit looks at the first target, if that was never loaded.

        What is installed counts from now on. A task of the user's may install something, so there must be none.
        """
        first = project().state.receipt_path(next(iter(self._targets)), "discover")
        if os.path.lexists(first) or project().manifest.cache.url or not all(map(_is_ours, tasks)):
            return
        from flyte_build.steps.workers import shared_zygote

        project().mark_installed()
        shared_zygote(project())

    def work_alone(self) -> None:
        """Keep other runs out of the state folder for the rest of this one.

        Raises:
            InvalidDodoFile: another is at work, and this one is not to wait; doit shows the message and ends with 3.
        """
        try:
            self._alone.enter_context(project().working_alone(self.waiting))
        except StateBusy as error:
            self._targets.clear()  # there is nothing to tell of them
            raise InvalidDodoFile(error.message) from error

    def execute_task(self, task: Any) -> None:
        # A worker of doit's may do it, which has a project of its own.
        project().worked |= bool(task.actions) and _is_ours(task.name)
        super().execute_task(task)

    def may_differ_now(self) -> bool:
        """Called before work: whether a verdict may be another one after others have worked here, or elsewhere."""
        alone = project().lock.is_held
        if not alone:
            self.work_alone()  # a plan waits for others only if there is work to do
        return self._fetch() or not alone

    def _fetch(self) -> bool:
        """Ask the shared cache for the targets of this run, once. A plan uses no network."""
        if self._asked or self._planning or not project().manifest.cache.url:
            return False
        from flyte_build.sharing.run import Sharing

        self._asked = True
        sharing, targets = Sharing(project()), project().manifest.targets
        self.reused = sharing.fetch(targets[name] for name in self._targets)
        self.notes = sharing.notes
        self._sharing = sharing  # unless interrupted: half-read answers are no beginning of others
        return True

    def complete_run(self) -> None:
        if self._sharing is not None:
            self._sharing.finish(self.deployed())
            self.warn(self._sharing.warnings)
        super().complete_run()
        if project().worked and not self.unfinished():  # who interrupts a run wants it to end
            project().collect()


def _is_ours(task: str) -> bool:
    return task.partition(":")[0] in TASKS


def _target_by_target(tasks: Mapping[str, Any], selected: Iterable[str]) -> list[str]:
    """The same selection, in which doit brings one target to its end before it takes up the next.

    Of a group doit does the first step of all members, then the second of all: loading would not overlap with
    registering, and what is interrupted would have got nowhere. doit reads the list after its reporter did.
    """
    return [
        name for chosen in selected for name in (*(tasks[chosen].task_dep if tasks[chosen].has_subtask else ()), chosen)
    ]


class JsonRun(Run, JsonReporter):
    pass
