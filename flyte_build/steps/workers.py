"""The discovery processes of this run: one parent that has the SDK imported, and its children."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from flyte_build.state.variables import BASE_VARIABLES, FIXED_VARIABLES

if TYPE_CHECKING:
    from flyte_build.project import Project
    from flyte_build.worker.protocol import LoadRequest

_GRACE = 3.0
"""Seconds that a load may take beyond its own timeout, which the child watches itself."""
_MAIN = "import sys; del sys.path[0]; from flyte_build.worker.zygote import main; main()"
"""Without the current folder on the import path, where a file of the user's may be named like a standard module."""
_shared: dict[tuple[object, ...], Zygote] = {}


class Zygote:
    """The parent process of loads. Started at the first load, ended with this process."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _MAIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environ,
            bufsize=0,
            start_new_session=True,  # so that Ctrl-C comes to us alone
        )
        self._said = b""
        self._child = 0
        self._overdue = False

    def run(self, request: LoadRequest) -> int:
        """Load one target. Gives the child's wait status; negative when it had to be killed."""
        assert self._process.stdin is not None
        self._overdue = False
        self._process.stdin.write(request.json() + b"\n")
        try:
            self._child = int(self._answer("started", None)[0])
            deadline = time.monotonic() + request.target.load_timeout + _GRACE
            _, status = self._answer("ended", deadline)
            return -1 if self._overdue else int(status)
        finally:
            self._kill_child()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

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
                self._overdue = True
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
    """The zygote of this process, thread and environment; each of doit's workers gets its own."""
    base = {name: project.environ[name] for name in BASE_VARIABLES if name in project.environ}
    environ = {**base, **FIXED_VARIABLES}
    worker = (os.getpid(), threading.get_ident(), *sorted(environ.items()))
    zygote = _shared.get(worker)
    if zygote is None or not zygote.alive:
        zygote = _shared[worker] = Zygote(environ)
        atexit.register(zygote.close)
        if not project.manifest.backend.embedded:
            # The parent of loads imports the SDK; meanwhile this process imports what registering will need.
            threading.Thread(target=importlib.import_module, args=("flyte_build.backend.remote",), daemon=True).start()
    return zygote
