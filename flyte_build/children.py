"""Commands that run for a step, which may be in any thread, so that Ctrl-C, which comes to the main one, ends them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import IO, Any

_running: set[subprocess.Popen[bytes]] = set()


@contextlib.contextmanager
def started(command: list[str], *, environ: dict[str, str], stdin: int | IO[Any]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in this block, with what it says on one pipe. An error in the block, or Ctrl-C, ends the command.

    It has a session of its own, so that Ctrl-C comes to this process alone, which ends it once.
    """
    with subprocess.Popen(
        command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ, start_new_session=True
    ) as process:
        _running.add(process)
        try:
            yield process
        except BaseException:
            _end(process)
            raise
        finally:
            _running.discard(process)


def end_all() -> None:
    """End all that run, and do not wait for it."""
    for process in tuple(_running):
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a command with what it has started: `docker` works in a plugin, and asked to end, waits for its step.

    An engine gives up the build of a client that is gone.
    """
    with contextlib.suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
