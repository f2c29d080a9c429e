"""Two readers of the events of a run: lines for people on standard error, JSON lines on standard output."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import msgspec

from flyte_build.report.lines import waiting_text, write

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


class JsonLines:
    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, event: Mapping[str, Any]) -> None:
        write(self._out, msgspec.json.encode(event, order="sorted").decode() + "\n")


class Text:
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

    def _progress(self, step: str, target: str, image: str, line: str) -> None:
        """On a terminal the newest line; elsewhere, where nothing is written over, the steps of a build alone.

        Each line names its image, without registry and tag: several are built at the same time.
        """
        if self._live or _BUILD_STEP.match(line):
            name = image.rpartition("/")[2].partition(":")[0]
            self._running(f"{step:<10}{target}  {name}: {line}")

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


def progress_writer(output: str) -> Callable[[Any], None]:
    """What to tell each `Progress` of a running step."""
    writer: Text | JsonLines = JsonLines(sys.stdout) if output == "jsonl" else Text(sys.stderr)

    def show(progress: Any) -> None:
        writer.write({"event": "progress", **msgspec.structs.asdict(progress)})

    return show
