"""Runs doit and kills it, with SIGKILL, when it comes to a certain line: `python killing.py COMMANDS WORDS`.

COMMANDS is a JSON object: `log` is a file for the lines of flyte_build in the order in which they were first run, and
`at` the number in that order of the line before which the process is killed, below 0: none; or the line itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

import flyte_build

_PACKAGE = os.path.join(os.path.dirname(flyte_build.__file__), "")
_WATCHED = tuple(
    _PACKAGE + name
    for name in ("pipeline", "doit_database", "archive", "packing", "state/", "steps/", "store/", "backend/")
)
"""Where something is written, sent, or decided."""


def main() -> None:
    commands = json.loads(sys.argv[1])
    seen: dict[tuple[str, int], None] = {}
    log = os.open(commands["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def on_line(frame: FrameType, event: str, _argument: Any) -> Any:
        line = (frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and line not in seen:
            text = f"{line[0][len(_PACKAGE) :]}:{line[1]}"
            if commands["at"] in (len(seen), text):
                os.kill(os.getpid(), signal.SIGKILL)
            seen[line] = None
            os.write(log, f"{text}\n".encode())
        return on_line

    def on_call(frame: FrameType, _event: str, _argument: Any) -> Any:
        code = frame.f_code
        return on_line if code.co_filename.startswith(_WATCHED) and code.co_name != "<module>" else None

    from doit.__main__ import main as doit

    sys.argv = ["doit", *sys.argv[2:]]
    threading.settrace(on_call)
    sys.settrace(on_call)
    doit()


if __name__ == "__main__":
    main()
