"""One run at a time works in a state folder; within runs, one process or thread at a time in what `exclusive` guards.

Locks are the kernel's (`flock`), so they end with the processes that hold them, however they end; where the file system
has none, nothing is kept apart. A run's threads share its hold of the folder, and so do its forked workers, which end
with their parent. Who holds it, and since when, is written in the file, for whoever waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from flyte_build.errors import StateBusy
from flyte_build.state.folder import unwritable


class Holder(NamedTuple):
    """A process that works in a state folder. `pid` is 0 when it could not write that it does."""

    pid: int
    since: float
    """Seconds since the epoch."""

    @property
    def description(self) -> str:
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid}, which has been at work here since {started}" if self.pid else "another process"


class StateLock:
    """Shared by the threads of a process: the first takes it, the last lets go of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changing = threading.Lock()
        self._sharers = 0
        self._file: BinaryIO | None = None
        self._lifeline: tuple[int, int] | None = None

    def acquire(self, *, wait: bool, waiting: Callable[[Holder], None]) -> None:
        """Be the one that works in the folder, until as many calls of `release` or the end of the process.

        Args:
            wait: wait for another holder to end.
            waiting: told the holder, once, before waiting.

        Raises:
            StateBusy: another process holds it, and `wait` is false.
        """
        with self._changing:
            if self._file is None:
                self._take(wait=wait, waiting=waiting)
            self._sharers += 1

    def _take(self, *, wait: bool, waiting: Callable[[Holder], None]) -> None:
        file = self._open()
        if file is None or not self._lock(file, wait=wait, waiting=waiting):
            return
        self._file = file
        with contextlib.suppress(OSError):  # on a full disk the holder has no name
            file.truncate(0)
            file.write(f"{os.getpid()} {time.time():.0f}\n".encode())
        self._lifeline = os.pipe()
        _watch_forks()
        _held.add(self)

    @property
    def is_held(self) -> bool:
        return self._file is not None

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether the lock is held, by nobody beside the caller; no thread comes to share it in this block."""
        with self._changing:
            yield self._file is not None and self._sharers == 1

    def release(self) -> None:
        with self._changing:
            self._sharers -= 1
            if not self._sharers:
                self._let_go()

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            _held.discard(self)
        for end in self._lifeline or ():
            os.close(end)
        self._lifeline = None

    def _open(self) -> BinaryIO | None:
        """The lock's file. Who may not write in the folder can do nothing there that has to be kept apart."""
        try:
            return open(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b", buffering=0)
        except OSError:
            return None

    def _lock(self, file: BinaryIO, *, wait: bool, waiting: Callable[[Holder], None]) -> bool:
        """Whether the lock was got. It is not where the file system has none, and where our parent has it for us."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            holder = _holder(file)
        except OSError:
            return False
        if holder.pid == os.getppid():
            return False
        if not wait:
            raise StateBusy(folder=str(self._path.parent), holder=holder.description)
        waiting(holder)
        fcntl.flock(file, fcntl.LOCK_EX)
        return True

    def follow_parent(self) -> None:
        """In a forked worker: end when the parent does. Nothing else would end it, and it would keep the lock."""
        if self._lifeline is None:
            return
        reading, writing = self._lifeline
        self._lifeline = None
        os.close(writing)

        def follow() -> None:
            os.read(reading, 1)
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


@functools.cache
def lock_of(path: Path) -> StateLock:
    """The lock of a state folder, the same for all of this process: a run's task may itself deploy from Python."""
    return StateLock(path)


_held: set[StateLock] = set()


@functools.cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=_follow_parent)


def _follow_parent() -> None:
    for lock in _held:
        lock.follow_parent()


def _holder(file: BinaryIO) -> Holder:
    try:
        pid, since = os.pread(file.fileno(), 64, 0).split()
        return Holder(int(pid), float(since))
    except ValueError:
        return Holder(0, 0)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """One process or thread at a time, in this block, for this path. Others wait.

    Raises:
        StateUnwritable: the disk is full, or the folder may not be written.
    """
    with unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    with file:
        with contextlib.suppress(OSError):  # the file system has no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
