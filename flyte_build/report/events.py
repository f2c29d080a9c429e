"""What happens in a run, collected from what doit tells a reporter, and told target by target in the order of steps."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

from flyte_build.report.lines import InOrder, plan_text
from flyte_build.report.writers import JsonLines, Text

STEP_ORDER = ("discover", "images", "bundle", "upload", "serialize", "deploy")
_STATUSES = ("done", "unchanged", "fresh", "failed", "ignored", "unfinished")
_PLAN = "plan:"
OWN_TASKS = ("plan", "check", "serve", "cache")
"""Tasks of ours that tell the user themselves what they do."""


class _Target:
    """What is known of one target in this run. `steps`: those that the run looks at, in order."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.held: dict[str, list[dict[str, Any]]] = {}
        """Step -> its events that wait for an earlier step to be over."""
        self.done: list[dict[str, Any]] = []
        self.failed = ""
        self.ignored = False
        self.over = 0
        """How many of the steps are over."""

    @property
    def last(self) -> str:
        return self.steps[-1]

    @property
    def status(self) -> str:
        if self.failed or self.ignored:
            return "failed" if self.failed else "ignored"
        if self.over < len(self.steps):
            return "unfinished"
        if not self.done:
            return "fresh"
        # A change that reached no further than an earlier step, such as a comment, leaves what is deployed as it is.
        return "done" if self.done[-1]["step"] == self.last else "unchanged"

    def ready(self, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The events that can be told now: those of a step when all steps before it are over."""
        self.held.setdefault(event["step"], []).append(event)
        while self.over < len(self.steps) and (found := self.held.pop(self.steps[self.over], None)):
            yield from found
            if found[-1]["event"] == "started":
                return
            self.over += 1

    def note(self, event: dict[str, Any]) -> None:
        """Keep how a step ended."""
        match event["status"]:
            case "done":
                self.done.append(event)
            case "failed" | "blocked":
                self.failed = self.failed or event["step"]
            case "ignored":
                self.ignored = True


class Reporter:
    """A doit reporter that shows targets, not tasks. `events` goes to one of two writers."""

    desc = "one line per target"
    _output = "text"

    def __init__(self, outstream: TextIO, options: Mapping[str, Any]) -> None:  # noqa: ARG002 doit's signature
        self._writer: Text | JsonLines = Text(sys.stderr)
        self._targets: dict[str, _Target] = {}
        self._failures: list[dict[str, Any]] = []
        self._errors: list[str] = []
        self._started = time.perf_counter()
        self._planning = False
        self._plans = InOrder(())
        self._telling = threading.Lock()
        self.reused: dict[str, str] = {}
        """Target -> what of it came from elsewhere, and whence."""
        self.notes: Mapping[str, tuple[str, ...]] = {}
        """Target -> what is to be said of its version that came from elsewhere."""

    def initialize(self, tasks: Mapping[str, Any], selected_tasks: list[str]) -> None:
        self._planning = any(name.partition(":")[0] == "plan" for name in selected_tasks)
        self._plans = InOrder(name for name in selected_tasks if name.startswith(_PLAN))
        for name in _needed(tasks, selected_tasks):
            step, target = _split(name)
            if target:
                self._targets.setdefault(target, _Target()).steps.append(step)
        for known in self._targets.values():
            known.steps.sort(key=STEP_ORDER.index)

    def waiting(self, holder: Any) -> None:
        """Another run works in the state folder; this one goes on when that has ended."""
        self._emit("waiting", holder=holder.description, pid=holder.pid, since=holder.since)

    def get_status(self, task: Any) -> None:
        """Nothing: a look is not news."""

    def execute_task(self, task: Any) -> None:
        step, target = _split(task.name)
        if target:
            why = {"reason": _reason(task), "cause": _cause(task)}
            self._step(target, {"event": "started", "step": step, "target": target, **why})
        elif task.actions and step.partition(":")[0] not in OWN_TASKS:
            self._emit("started", step=step, target="", reason="", cause=None)

    def add_success(self, task: Any) -> None:
        if task.name.startswith(_PLAN):
            self._plans.put(task.name, plan_text(task.values, self._output))
        _, target = _split(task.name)
        if target:
            self._step(target, {"event": "finished", "status": "done", **task.values})

    def skip_uptodate(self, task: Any) -> None:
        self._ended(task, status="fresh", **self._origin(task))

    def skip_ignore(self, task: Any) -> None:
        if not task.has_subtask:
            self._plans.put(task.name, "")
            self._ended(task, status="ignored")

    def add_failure(self, task: Any, fail: Any) -> None:
        if task.has_subtask:
            return  # a group says nothing that its members did not say
        self._plans.put(task.name, "")
        status = "blocked" if fail.get_name() == "Blocked" else "failed"
        event = self._ended(task, status=status, message=_words(fail))
        if status == "failed":
            self._failures.append({name: value for name, value in event.items() if name != "event"})

    def warn(self, messages: Iterable[str]) -> None:
        """Trouble that the run goes on after."""
        for message in messages:
            self._emit("warning", message=message)

    def deployed(self) -> tuple[str, ...]:
        """Targets of which everything is done, and something was done now."""
        return tuple(name for name, target in self._targets.items() if target.status in ("done", "unchanged"))

    def unfinished(self) -> bool:
        """Whether steps of some target are not over."""
        return any(target.status == "unfinished" for target in self._targets.values())

    def cleanup_error(self, exception: Any) -> None:
        self._errors.append(exception.get_msg())

    def runtime_error(self, msg: str) -> None:
        """An error of doit itself, not of a task."""
        self._errors.append(msg)

    def teardown_task(self, task: Any) -> None:
        """Nothing: we have no teardown."""

    def complete_run(self) -> None:
        with self._telling:  # threads of an interrupted run are still at work
            for target in self._targets.values():
                for event in [event for events in target.held.values() for event in events]:
                    self._tell(target, event)
        if self._targets and not self._planning:
            counts = [target.status for target in self._targets.values()]
            self._emit(
                "summary",
                targets=len(counts),
                **{status: counts.count(status) for status in _STATUSES},
                seconds=time.perf_counter() - self._started,
            )
        self._plans.end()
        for event in sorted(self._failures, key=self._place):
            self._writer.write({"event": "failure", **event})
        for message in self._errors:
            self._emit("error", message=message)

    def _place(self, event: Mapping[str, Any]) -> int:
        """Failures are told in the order of the targets, whichever came first."""
        return list(self._targets).index(event["target"]) if event["target"] else len(self._targets)

    def _ended(self, task: Any, **fields: Any) -> dict[str, Any]:
        step, target = _split(task.name)
        event = {"event": "finished", **fields, "step": step, "target": target}
        if target:
            self._step(target, event)
        elif fields["status"] != "fresh":
            self._writer.write(event)
        return event

    def _origin(self, task: Any) -> dict[str, Any]:
        """What is to be said of a step that has nothing to do, because of what was done elsewhere."""
        step, target = _split(task.name)
        reason = {"reason": self.reused[target]} if target in self.reused else {}
        notes = self.notes.get(target) if step == STEP_ORDER[-1] else None
        return {**reason, "notes": notes} if notes else reason

    def _step(self, name: str, event: dict[str, Any]) -> None:
        """Tell what happened to a step, after all that happened to earlier steps of the target."""
        target = self._targets[name]
        with self._telling:
            for ready in target.ready(event):
                self._tell(target, ready)
            if target.over == len(target.steps) and not (self._planning or target.ignored):
                self._settle(name, target)

    def _tell(self, target: _Target, event: dict[str, Any]) -> None:
        if event["event"] == "finished":
            target.note(event)
        self._writer.write(event)

    def _settle(self, name: str, target: _Target) -> None:
        """Tell of a target once, when its last step is over."""
        first, last = (target.done[0], target.done[-1]) if target.done else ({}, {})
        self._emit(
            "target",
            target=name,
            status=target.status,
            step=target.failed or last.get("step", ""),
            summary=last["summary"] if last and last["step"] in ("serialize", target.last) else "",
            reason="; ".join(filter(None, (first.get("reason", ""), self.reused.get(name, "")))),
            cause=first.get("cause"),
            seconds=sum(event["seconds"] for event in target.done),
        )

    def _emit(self, kind: str, **fields: Any) -> None:
        self._writer.write({"event": kind, **fields})


class JsonReporter(Reporter):
    """The same events, as JSON lines on standard output."""

    desc = "JSON lines"
    _output = "jsonl"

    def __init__(self, outstream: TextIO, options: Mapping[str, Any]) -> None:
        super().__init__(outstream, options)
        self._writer = JsonLines(outstream)


def _needed(tasks: Mapping[str, Any], selected: list[str]) -> Iterator[str]:
    """The tasks that this run looks at."""
    seen: set[str] = set()
    waiting = list(reversed(selected))
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            yield name
            waiting.extend(tasks[name].task_dep)


def _split(name: str) -> tuple[str, str]:
    """(step, target); of a task that is no step of a target: (name, "")."""
    step, _, target = name.partition(":")
    return (step, target) if target and step in STEP_ORDER else (name, "")


def _reason(task: Any) -> str:
    return next((repr(check) for check, *_ in task.uptodate if hasattr(check, "explains")), "")


def _cause(task: Any) -> Any:
    """The same as data; None when the task has no reason."""
    return next((check.cause for check, *_ in task.uptodate if hasattr(check, "explains")), None)


def _words(fail: Any) -> str:
    """The failure's own words; a bug's with its traceback."""
    return str(fail.message if not fail.traceback else fail.get_msg()).rstrip()
