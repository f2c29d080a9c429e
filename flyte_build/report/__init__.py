"""Events -> terminal or JSON lines. The only printer.

Talk goes to standard error, data (`output=jsonl`, plans) to standard output. On a terminal there is one line that
tells what is running and is written over; elsewhere each step that runs has a line of its own.
"""

from __future__ import annotations

from flyte_build.report.events import OWN_TASKS, JsonReporter, Reporter
from flyte_build.report.lines import (
    cache_lines,
    cause_lines,
    check_line,
    clean_lines,
    say,
    say_at_once,
    tell,
    waiting_text,
)
from flyte_build.report.writers import progress_writer

__all__ = [
    "OWN_TASKS",
    "JsonReporter",
    "Reporter",
    "cache_lines",
    "cause_lines",
    "check_line",
    "clean_lines",
    "progress_writer",
    "say",
    "say_at_once",
    "tell",
    "waiting_text",
]
