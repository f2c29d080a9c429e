"""The discovery processes of this run: one parent that has the SDK imported, and its children."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from flyte_build.project import BASE_VARIABLES, FIXED_VARIABLES

if TYPE_CHECKING:
    from flyte_build.project import Project
    from flyte_build.worker.protocol import LoadRequest

_GRACE = 10.0
"""Seconds that a load may take beyond its own timeout, which the child watches itself."""
_shared: dict[int, Zygote] = {}


class Zygote:
    """The parent process of loads. Started at the first load, ended with this process."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flyte_build.worker.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environ,
            bufsize=0,
        )
        self._said = b""
        self._child = 0

    def run(self, request: LoadRequest) -> int:
        """Load one target. Gives the child's wait status; negative when it had to be killed."""
        assert self._process.stdin is not None
        self._process.stdin.write(request.json() + b"\n")
        try:
            self._child = int(self._answer("started", None)[0])
            deadline = time.monotonic() + request.target.load_timeout + _GRACE
            _, status = self._answer("ended", deadline)
            return int(status)
        finally:
            self._kill_child()

    def close(self) -> None:
        self._kill_child()
        self._process.kill()
        self._process.wait()

    def _answer(self, word: str, deadline: float | None) -> list[str]:
        while True:
            line, separator, rest = self._said.partition(b"\n")
            if separator:
                self._said = rest
                said, *values = line.decode().split()
                if said == word:
                    return values
                continue
            self._read(deadline)

    def _read(self, deadline: float | None) -> None:
        assert self._process.stdout is not None
        if deadline is not None:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self._kill_child()
                return
        data = os.read(self._process.stdout.fileno(), 1 << 16)
        if not data:
            raise RuntimeError(f"the discovery process ended with status {self._process.wait()}")
        self._said += data

    def _kill_child(self) -> None:
        """End a child with all that it started, also after it has ended itself."""
        if self._child:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child, signal.SIGKILL)
            self._child = 0


def shared_zygote(project: Project) -> Zygote:
    """The zygote of this process; a forked doit worker gets its own."""
    zygote = _shared.get(os.getpid())
    if zygote is None:
        base = {name: project.environ[name] for name in BASE_VARIABLES if name in project.environ}
        zygote = _shared[os.getpid()] = Zygote({**base, **FIXED_VARIABLES})
        atexit.register(zygote.close)
    return zygote
