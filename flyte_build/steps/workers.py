"""The discovery processes of this run: one parent that has the SDK imported, and its children."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import itertools
import os
import queue
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from flyte_build.state.variables import BASE_VARIABLES, FIXED_VARIABLES, HASH_SEED

if TYPE_CHECKING:
    from flyte_build.project import Project
    from flyte_build.worker.protocol import LoadRequest

_GRACE = 3.0
"""Seconds that a load may take beyond its own timeout, which the child watches itself."""
_FAREWELL = 1.0
"""Seconds that the process has to end by itself; it may still be importing."""
_MAIN = "import sys; del sys.path[0]; from flyte_build.worker.zygote import main; main()"
"""Without the current folder on the import path, where a file of the user's may be named like a standard module."""
_shared: dict[tuple[object, ...], Zygote] = {}
_sharing = threading.Lock()


class Zygote:
    """The parent process of loads, as many at a time as there are cores. Any thread may ask for one."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _MAIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environ,
            start_new_session=True,  # so that Ctrl-C comes to us alone
        )
        self._cores = threading.BoundedSemaphore(cores())
        self._asking = threading.Lock()
        self._numbers = itertools.count()
        self._asked = False
        self._answers: dict[str, queue.SimpleQueue[int | None]] = {}
        """Number of a load that is under way -> what is said of it: the child's id, then its status; None: no more."""
        self._children: set[int] = set()
        self._ended = False
        threading.Thread(target=self._listen, name="flyte-build-loads", daemon=True).start()

    def run(self, request: LoadRequest) -> int:
        """Load one target. Gives the child's wait status; negative when it had to be killed."""
        with self._cores:
            number, answers = self._ask(request)
            child = self._answer(answers)
            try:
                try:
                    return self._answer(answers, request.target.load_timeout + _GRACE)
                except queue.Empty:
                    self._kill(child)
                    self._answer(answers)
                    return -1
            finally:
                self._kill(child)
                self._children.discard(child)
                del self._answers[number]

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        if not self._asked:
            self._process.kill()  # it has no child, and may still be importing
        for child in tuple(self._children):
            self._kill(child)
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # at which it ends any child that we have not heard of yet
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_FAREWELL)
        self._process.kill()
        self._process.wait()

    def _ask(self, request: LoadRequest) -> tuple[str, queue.SimpleQueue[int | None]]:
        assert self._process.stdin is not None
        self._asked = True
        number, answers = str(next(self._numbers)), queue.SimpleQueue[int | None]()
        self._answers[number] = answers
        if self._ended:
            answers.put(None)
        line = memoryview(f"{number} ".encode() + request.json() + b"\n")
        with self._asking:
            while line:
                line = line[os.write(self._process.stdin.fileno(), line) :]
        return number, answers

    def _answer(self, answers: queue.SimpleQueue[int | None], timeout: float | None = None) -> int:
        """What is said next.

        Raises:
            queue.Empty: nothing, for `timeout` seconds.
        """
        said = answers.get(timeout=timeout)
        if said is None:
            raise RuntimeError(f"the discovery process ended with status {self._process.wait()}")
        return said

    def _listen(self) -> None:
        """Hand on what the process says, in a thread, until it ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, number, value = line.decode().split()
            if word == "started":
                self._children.add(int(value))
            if (answers := self._answers.get(number)) is not None:  # else Ctrl-C came to who asked
                answers.put(int(value))
        self._ended = True
        for answers in tuple(self._answers.values()):
            answers.put(None)

    def _kill(self, child: int) -> None:
        """End a child with all that it started, also after it has ended itself."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)


def shared_zygote(project: Project, hash_seed: str = HASH_SEED) -> Zygote:
    """The zygote of this process and environment."""
    base = {name: project.environ[name] for name in BASE_VARIABLES if name in project.environ}
    environ = {**base, **FIXED_VARIABLES, "PYTHONHASHSEED": hash_seed}
    worker = (os.getpid(), *sorted(environ.items()))
    with _sharing:
        zygote = _shared.get(worker)
        if zygote is None or not zygote.alive:
            zygote = _shared[worker] = Zygote(environ)
            atexit.register(zygote.close)
        return zygote


def load(project: Project, request: LoadRequest, hash_seed: str = HASH_SEED) -> int:
    """Load one target in a child of the shared zygote; see `Zygote.run`."""
    zygote = shared_zygote(project, hash_seed)
    if not project.manifest.backend.embedded:
        _import_client(os.getpid())
    return zygote.run(request)


@functools.cache
def _import_client(_process: int) -> None:
    """While the parent of loads imports the SDK, import in this process what registering will need."""
    threading.Thread(target=importlib.import_module, args=("flyte_build.backend.remote",), daemon=True).start()


def cores() -> int:
    """Those that this process may use: so many loads run at a time."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
