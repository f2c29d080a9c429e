"""Events -> terminal or JSON lines. The only printer.

Talk goes to standard error, data (`output=jsonl`, plans) to standard output. On a terminal there is one line that
tells what is running and is written over; elsewhere each step that runs has a line of its own.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

import msgspec

STEP_ORDER = ("discover", "bundle", "images", "upload", "serialize", "deploy")
_STATUSES = ("done", "unchanged", "fresh", "failed", "ignored", "unfinished")
OWN_TASKS = ("plan", "serve")
"""Tasks of ours that tell the user themselves what they do."""
_BUILD_STEP = re.compile(r"#\d+ \[|building at ")
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x1f]")
"""What a build prints to move a cursor or to colour, which would spoil the one line."""
_COLOURS = {
    "fresh": "32",
    "done": "36",
    "unchanged": "32",
    "failed": "31",
    "blocked": "33",
    "ignored": "33",
    "note": "33",
    "dim": "2",
}


# --- events, collected from what doit tells a reporter


class _Target:
    """What is known of one target in this run."""

    def __init__(self, last: str) -> None:
        self.last = last
        self.done: list[dict[str, Any]] = []
        self.failed = ""
        self.ignored = False
        self.finished = False

    @property
    def status(self) -> str:
        if self.failed or self.ignored:
            return "failed" if self.failed else "ignored"
        if not self.finished:
            return "unfinished"
        if not self.done:
            return "fresh"
        # A change that reached no further than an earlier step, such as a comment, leaves what is deployed as it is.
        return "done" if self.done[-1]["step"] == self.last else "unchanged"


class Reporter:
    """A doit reporter that shows targets, not tasks. `events` goes to one of two writers."""

    desc = "one line per target"

    def __init__(self, outstream: TextIO, options: Mapping[str, Any]) -> None:  # noqa: ARG002 doit's signature
        self._writer: _Text | _JsonLines = _Text(sys.stderr)
        self._targets: dict[str, _Target] = {}
        self._failures: list[dict[str, Any]] = []
        self._errors: list[str] = []
        self._started = time.perf_counter()
        self._planning = False

    def initialize(self, tasks: Mapping[str, Any], selected_tasks: list[str]) -> None:
        self._planning = any(name.partition(":")[0] == "plan" for name in selected_tasks)
        for name in _needed(tasks, selected_tasks):
            step, target = _split(name)
            if target:
                known = self._targets.setdefault(target, _Target(step))
                known.last = max(known.last, step, key=STEP_ORDER.index)

    def get_status(self, task: Any) -> None:
        """Nothing: a look is not news."""

    def execute_task(self, task: Any) -> None:
        step, target = _split(task.name)
        if target:
            self._emit("started", step=step, target=target, reason=_reason(task))
        elif task.actions and step.partition(":")[0] not in OWN_TASKS:
            self._emit("started", step=step, target="", reason="")

    def add_success(self, task: Any) -> None:
        step, target = _split(task.name)
        if not target:
            return
        event = {"event": "finished", "status": "done", **task.values}
        self._targets[target].done.append(event)
        self._writer.write(event)
        self._settle(step, target)

    def skip_uptodate(self, task: Any) -> None:
        step, target = _split(task.name)
        if target:
            self._emit("finished", status="fresh", step=step, target=target)
            self._settle(step, target)

    def skip_ignore(self, task: Any) -> None:
        if task.has_subtask:
            return
        step, target = _split(task.name)
        self._emit("finished", status="ignored", step=step, target=target)
        if target:
            self._targets[target].ignored = True

    def add_failure(self, task: Any, fail: Any) -> None:
        if task.has_subtask:
            return  # a group says nothing that its members did not say
        step, target = _split(task.name)
        status = "blocked" if fail.get_name() == "Blocked" else "failed"
        event = {"status": status, "step": step, "target": target, "message": _words(fail)}
        self._emit("finished", **event)
        if target:
            self._targets[target].failed = self._targets[target].failed or step
        if status == "failed":
            self._failures.append(event)
        if target:
            self._settle(step, target)

    def cleanup_error(self, exception: Any) -> None:
        self._errors.append(exception.get_msg())

    def runtime_error(self, msg: str) -> None:
        """An error of doit itself, not of a task."""
        self._errors.append(msg)

    def teardown_task(self, task: Any) -> None:
        """Nothing: we have no teardown."""

    def complete_run(self) -> None:
        if self._targets and not self._planning:
            counts = [target.status for target in self._targets.values()]
            self._emit(
                "summary",
                targets=len(counts),
                **{status: counts.count(status) for status in _STATUSES},
                seconds=time.perf_counter() - self._started,
            )
        for event in self._failures:
            self._writer.write({"event": "failure", **event})
        for message in self._errors:
            self._emit("error", message=message)

    def _settle(self, step: str, name: str) -> None:
        """Tell of a target once, when its last step is over."""
        target = self._targets[name]
        if target.finished or step != target.last or self._planning:
            return
        target.finished = True
        first, last = (target.done[0], target.done[-1]) if target.done else ({}, {})
        self._emit(
            "target",
            target=name,
            status=target.status,
            step=target.failed or last.get("step", ""),
            summary=", ".join(event["summary"] for event in target.done if event["step"] in ("serialize", target.last)),
            reason=first.get("reason", ""),
            seconds=sum(event["seconds"] for event in target.done),
        )

    def _emit(self, kind: str, **fields: Any) -> None:
        self._writer.write({"event": kind, **fields})


class JsonReporter(Reporter):
    """The same events, as JSON lines on standard output."""

    desc = "JSON lines"

    def __init__(self, outstream: TextIO, options: Mapping[str, Any]) -> None:
        super().__init__(outstream, options)
        self._writer = _JsonLines(outstream)


def _needed(tasks: Mapping[str, Any], selected: list[str]) -> Iterator[str]:
    """The tasks that this run looks at."""
    seen: set[str] = set()
    waiting = list(selected)
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


def _words(fail: Any) -> str:
    """The failure's own words; a bug's with its traceback."""
    return str(fail.message if not fail.traceback else fail.get_msg()).rstrip()


# --- writers


class _JsonLines:
    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, event: Mapping[str, Any]) -> None:
        self._out.write(msgspec.json.encode(event, order="sorted").decode() + "\n")
        self._out.flush()


class _Text:
    def __init__(self, err: TextIO) -> None:
        self._err = err
        self._live = err.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")

    def write(self, event: Mapping[str, Any]) -> None:
        show = getattr(self, f"_{event['event']}", None)
        if show is not None:
            show(**{name: value for name, value in event.items() if name != "event"})

    def _started(self, step: str, target: str, reason: str) -> None:
        self._running(f"{step:<10}{target}{f'  ({reason})' if reason else ''}")

    def _running(self, line: str) -> None:
        if self._live:
            width = _terminal_width()
            shown = _CONTROLS.sub("", line)[: width - 1]
            self._err.write(f"\r\x1b[2K{self._paint('dim', shown)}")
        else:
            self._err.write(f"{line}\n")
        self._err.flush()

    def _progress(self, step: str, target: str, line: str) -> None:
        """On a terminal the newest line; elsewhere, where nothing is written over, the steps of a build alone."""
        if self._live or _BUILD_STEP.match(line):
            self._running(f"{step:<10}{target}  {line}")

    def _finished(self, status: str, step: str, target: str, **fields: Any) -> None:
        for note in fields.get("notes", ()):
            self._line(f"{self._paint('note', 'note')}      {target}: {note}")
        if status == "ignored":
            self._line(f"{self._paint('ignored', 'ignored')}   {step}:{target}")

    def _target(self, target: str, status: str, step: str, summary: str, reason: str, seconds: float) -> None:
        word = {"done": "deployed" if step == "deploy" else step}.get(status, status)
        what = f"at {step}" if status == "failed" else summary
        ran = status in ("done", "unchanged")
        why = f"({reason})" if reason and ran else ""
        took = f"{seconds:.1f} s" if ran else ""
        details = "  ".join(part for part in (what, why, took) if part)
        self._line(f"{self._paint(status, f'{word:<10}')}{target}{f'  {details}' if details else ''}")

    def _summary(self, targets: int, seconds: float, **counts: int) -> None:
        parts = [f"{count} {word}" for word, count in counts.items() if count]
        self._line(f"{targets} target{'s' if targets != 1 else ''}: {', '.join(parts)}  {seconds:.1f} s")

    def _failure(self, step: str, target: str, message: str, **_fields: Any) -> None:
        name = f"{step}:{target}" if target else step
        self._line(f"\n{self._paint('failed', 'FAILED')} {name}\n{message}")

    def _error(self, message: str) -> None:
        self._line(f"{self._paint('failed', 'ERROR')} {message}")

    def _line(self, text: str) -> None:
        self._err.write(f"\r\x1b[2K{text}\n" if self._live else f"{text}\n")
        self._err.flush()

    def _paint(self, role: str, text: str) -> str:
        return f"\x1b[{_COLOURS[role]}m{text}\x1b[0m" if self._live and role in _COLOURS else text


def _terminal_width() -> int:
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80


# --- single lines


def say(line: str) -> None:
    """One line of talk."""
    sys.stderr.write(f"{line}\n")


def tell(line: str) -> None:
    """One line of data."""
    sys.stdout.write(f"{line}\n")


def progress_writer(output: str) -> Callable[[str, str, str], None]:
    """What to tell each line that a running step says of its progress: (step, target, line)."""
    writer: _Text | _JsonLines = _JsonLines(sys.stdout) if output == "jsonl" else _Text(sys.stderr)

    def show(step: str, target: str, line: str) -> None:
        writer.write({"event": "progress", "step": step, "target": target, "line": line})

    return show


def plan_line(plan: Mapping[str, Any], output: str) -> None:
    """What a deploy would do to one target."""
    if output == "jsonl":
        line = msgspec.json.encode({"event": "plan", **plan}, order="sorted").decode()
    else:
        line = _plan_text(plan)
    tell(line)


def _plan_text(plan: Mapping[str, Any]) -> str:
    if not plan["register"]:
        return f"{plan['target']}: fresh, version {plan['deployed_version']}"
    count = len(plan["register"])
    now = f" (now {plan['deployed_version']})" if plan["deployed_version"] else ""
    lines = [
        f"{plan['target']}: would register {count} task{'s' if count != 1 else ''} "
        f"as version {plan['version']}{now}: {plan['reason']}"
    ]
    if plan["upload"]:
        files = plan["bundle_files"]
        lines.append(
            f"  upload    {plan['upload']}: {files} file{'s' if files != 1 else ''}, {plan['bundle_size']:,} bytes, "
            f"{plan['archive_size']:,} compressed"
        )
    for environment, uri in plan["images"].items():
        about = f": {plan['builds'][uri]}" if uri in plan["builds"] else ""
        lines.append(f"  image     {environment}: {uri}{about}")
    lines += [f"  register  {name}" for name in plan["register"]]
    return "\n".join(lines)
