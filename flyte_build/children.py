"""Commands that run for a step, and folders for it to work in, in any thread: neither outlives this process.

Ctrl-C comes to the main thread, and that ends them all. Commands end even after `kill -9`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Iterator
from typing import IO, Any

_GUARDED = """
{ read -r _; kill -KILL 0; } <&2 >/dev/null 2>&1 &
"$@" 2>&1
status=$?
{ kill -KILL $!; wait $!; } >/dev/null 2>&1
exit $status
"""
"""Runs a command beside a watcher of a pipe, which comes as standard error and whose other end this process holds.

When that closes, which the system sees to even after `kill -9`, the watcher kills the command with itself.
"""
_scratch: set[str] = set()


class Children:
    """Commands that can be ended together. Any number of threads may run some."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._starting = threading.Lock()
        self._over = False
        _groups.add(self)

    @contextlib.contextmanager
    def started(
        self, command: list[str], *, environ: dict[str, str], stdin: int | IO[Any]
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command in this block, with what it says on one pipe. An error in the block ends the command.

        It has a session of its own, so that Ctrl-C comes to this process alone, which ends it once.

        Raises:
            KeyboardInterrupt: `end` was called.
        """
        watched, ours = os.pipe()
        try:
            with self._start(command, environ, stdin, watched) as process:
                try:
                    yield process
                except BaseException:
                    _end(process)
                    raise
                finally:
                    self._running.discard(process)
        finally:
            os.close(ours)
        if self._over:
            raise KeyboardInterrupt

    def end(self) -> None:
        """End all that run, do not wait for it, and let no other begin."""
        with self._starting:
            self._over = True
            for process in tuple(self._running):
                _end(process)

    def _start(
        self, command: list[str], environ: dict[str, str], stdin: int | IO[Any], watched: int
    ) -> subprocess.Popen[bytes]:
        guarded = ["/bin/sh", "-c", _GUARDED, "sh", *command]
        out = subprocess.PIPE
        try:
            with self._starting:
                if self._over:
                    raise KeyboardInterrupt
                process = subprocess.Popen(
                    guarded, stdin=stdin, stdout=out, stderr=watched, env=environ, start_new_session=True
                )
                self._running.add(process)
        finally:
            os.close(watched)
        return process


_groups: weakref.WeakSet[Children] = weakref.WeakSet()


@contextlib.contextmanager
def scratch(prefix: str) -> Iterator[str]:
    """A new folder that is there in this block, and no longer than this process.

    Raises:
        OSError: there is no room, or no folder for temporary files.
    """
    folder = tempfile.mkdtemp(prefix=prefix)
    _scratch.add(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _scratch.discard(folder)


def scratch_root() -> str:
    """Where such folders are made; empty: nowhere."""
    try:
        return tempfile.gettempdir()
    except OSError:
        return ""


def end_all() -> None:
    """End all commands of this process, do not wait for it, and remove the folders."""
    for group in tuple(_groups):
        group.end()
    for folder in tuple(_scratch):
        shutil.rmtree(folder, ignore_errors=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a command with what it has started: `docker` works in a plugin, and asked to end, waits for its step.

    An engine gives up the build of a client that is gone.
    """
    with contextlib.suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
