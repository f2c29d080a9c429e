"""Events -> terminal or JSON lines. The only printer.

Talk goes to standard error, data (`output=jsonl`, plans) to standard output. On a terminal there is one line that
tells what is running and is written over; elsewhere each step that runs has a line of its own.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TextIO

import msgspec

STEP_ORDER = ("discover", "images", "bundle", "upload", "serialize", "deploy")
_STATUSES = ("done", "unchanged", "fresh", "failed", "ignored", "unfinished")
_PLAN = "plan:"
OWN_TASKS = ("plan", "check", "serve", "cache")
"""Tasks of ours that tell the user themselves what they do."""
_DIGEST = re.compile(r"^([0-9a-f]{12})[0-9a-f]{20}(?=:|$)")
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
        self._writer: _Text | _JsonLines = _Text(sys.stderr)
        self._targets: dict[str, _Target] = {}
        self._failures: list[dict[str, Any]] = []
        self._errors: list[str] = []
        self._started = time.perf_counter()
        self._planning = False
        self._plans = _InOrder(())
        self._telling = threading.Lock()
        self.reused: dict[str, str] = {}
        """Target -> what of it came from elsewhere, and whence."""
        self.notes: Mapping[str, tuple[str, ...]] = {}
        """Target -> what is to be said of its version that came from elsewhere."""

    def initialize(self, tasks: Mapping[str, Any], selected_tasks: list[str]) -> None:
        self._planning = any(name.partition(":")[0] == "plan" for name in selected_tasks)
        self._plans = _InOrder(name for name in selected_tasks if name.startswith(_PLAN))
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
            summary=", ".join(event["summary"] for event in target.done if event["step"] in ("serialize", target.last)),
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
        self._writer = _JsonLines(outstream)


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

    def _started(self, step: str, target: str, reason: str, **_fields: Any) -> None:
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

    def _waiting(self, holder: str, **_fields: Any) -> None:
        self._line(waiting_text(holder))

    def _finished(self, status: str, step: str, target: str, **fields: Any) -> None:
        for note in fields.get("notes", ()):
            self._line(f"{self._paint('note', 'note')}      {target}: {note}")
        if status == "ignored":
            self._line(f"{self._paint('ignored', 'ignored')}   {step}:{target}")

    def _target(
        self, target: str, status: str, step: str, *, summary: str, reason: str, seconds: float, **_fields: Any
    ) -> None:
        word = {"done": "deployed" if step == "deploy" else step}.get(status, status)
        what = f"at {step}" if status == "failed" else summary
        ran = status in ("done", "unchanged")
        why = f"({reason})" if reason and (ran or status == "fresh") else ""
        took = f"{seconds:.1f} s" if ran else ""
        details = "  ".join(part for part in (what, why, took) if part)
        self._line(f"{self._paint(status, f'{word:<10}')}{target}{f'  {details}' if details else ''}")

    def _summary(self, targets: int, seconds: float, **counts: int) -> None:
        parts = [f"{count} {word}" for word, count in counts.items() if count]
        self._line(f"{targets} target{'s' if targets != 1 else ''}: {', '.join(parts)}  {seconds:.1f} s")

    def _failure(self, step: str, target: str, message: str, **_fields: Any) -> None:
        name = f"{step}:{target}" if target else step
        self._line(f"\n{self._paint('failed', 'FAILED')} {name}\n{message}")

    def _warning(self, message: str) -> None:
        self._line(f"{self._paint('note', 'warning')}   {message}")

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


def say_at_once(line: str) -> None:
    """One line of talk, past what doit keeps back until an action has ended."""
    if sys.__stderr__ is not None:
        sys.__stderr__.write(f"{line}\n")
        sys.__stderr__.flush()


def waiting_text(holder: str) -> str:
    return f"waiting for {holder}; `wait=false` fails at once instead"


def progress_writer(output: str) -> Callable[[str, str, str], None]:
    """What to tell each line that a running step says of its progress: (step, target, line)."""
    writer: _Text | _JsonLines = _JsonLines(sys.stdout) if output == "jsonl" else _Text(sys.stderr)

    def show(step: str, target: str, line: str) -> None:
        writer.write({"event": "progress", "step": step, "target": target, "line": line})

    return show


def plan_text(plan: Mapping[str, Any], output: str) -> str:
    """What a deploy would do to one target."""
    if output == "jsonl":
        return msgspec.json.encode({"event": "plan", **plan}, order="sorted").decode()
    return _plan_text(plan)


class _InOrder:
    """Data that is told in the order of the selection, whichever is there first."""

    def __init__(self, names: Iterable[str]) -> None:
        self._awaited = list(names)
        self._there: dict[str, str] = {}

    def put(self, name: str, text: str) -> None:
        """`text` is empty when there will be none."""
        self._there[name] = text
        while self._awaited and self._awaited[0] in self._there:
            self._tell(self._awaited.pop(0))

    def end(self) -> None:
        """Tell what still waits for something before it, in a run that was interrupted."""
        for name in self._awaited:
            self._tell(name)

    def _tell(self, name: str) -> None:
        text = self._there.get(name)
        if text:
            tell(text)


def check_line(target: str, output: str) -> None:
    """A target that passed."""
    if output == "jsonl":
        tell(msgspec.json.encode({"event": "check", "status": "same", "target": target}, order="sorted").decode())
    else:
        tell(f"{target}: declares the same, loaded twice")


def cause_lines(chain: Iterable[str], old: str, new: str) -> Iterator[str]:
    """What people are shown of a cause below its words: what leads there, and what was and is there."""
    links = tuple(chain)
    if len(links) > 1:
        yield " -> ".join(links)
    if old or new:
        yield f"was {_short(old)}, is {_short(new)}"


def _short(value: str) -> str:
    """A digest with fewer digits, and whether it is executable; what is no digest as it is."""
    return _DIGEST.sub(r"\1", value) or "nothing"


def _plan_text(plan: Mapping[str, Any]) -> str:
    if not plan["register"]:
        return f"{plan['target']}: fresh, version {plan['deployed_version']}"
    count = len(plan["register"])
    now = f" (now {plan['deployed_version']})" if plan["deployed_version"] else ""
    lines = [
        f"{plan['target']}: would register {count} task{'s' if count != 1 else ''} "
        f"as version {plan['version']}{now}: {plan['reason']}"
    ]
    cause = plan["cause"] or {"chain": (), "old": "", "new": ""}
    lines += [f"  because   {line}" for line in cause_lines(cause["chain"], cause["old"], cause["new"])]
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


def cache_lines(usage: Mapping[str, Any], output: str) -> None:
    """What the shared cache holds, and what it gave to the last runs."""
    if output == "jsonl":
        tell(msgspec.json.encode({"event": "cache", **usage}, order="sorted").decode())
    else:
        tell(_cache_text(usage))


def _cache_text(usage: Mapping[str, Any]) -> str:
    lines = [f"{usage['url']}{', read only' if usage['read_only'] else ''}"]
    if usage["pruned"] is not None:
        lines.append(f"  removed   {_held(usage['pruned'])}")
    lines += [f"  {kind:<10}{_held(held)}" for kind, held in usage["holds"].items()]
    for run in usage["runs"]:
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(run["started"]))
        missed = run["looked_up"] - run["whole"] - run["part"]
        counts = f"{run['whole'] + run['part']} hits, {run['part']} of discovery only, {missed} misses"
        traffic = f"read {run['received']:,} bytes, wrote {run['written']} objects, {run['sent']:,} bytes"
        lines.append(f"  {when}  {counts}; {traffic}{'; ' + run['trouble'] if run['trouble'] else ''}")
    return "\n".join(lines)


def _held(held: Mapping[str, int]) -> str:
    return f"{held['objects']} object{'s' if held['objects'] != 1 else ''}, {held['size']:,} bytes"
