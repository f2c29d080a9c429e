"""Daemons: in sessions of their own, so that they outlive who started them, found again by their pid files."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.engine.folder import Unavailable

_PATIENCE = 60.0
"""Seconds that a daemon has to come up, or to end."""


class Daemon:
    """A program that keeps `pid`, `log` and its settings in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pid_file = folder / "pid"
        self.log = folder / "log"

    @property
    def process(self) -> int | None:
        """Its id, if it runs. Ids are used again: the command line has to name the folder."""
        try:
            pid = int(self.pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        return pid if os.fsencode(self.folder) in command else None

    def start(self, *command: str, environ: Mapping[str, str], ready: Callable[[], bool]) -> None:
        """Start it, and wait until it is of use."""
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environ,
                cwd=self.folder,
                start_new_session=True,
            )
        deadline = time.monotonic() + _PATIENCE
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                last = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
                raise Unavailable(f"`{' '.join(command)}` does not start:\n{last}")
            time.sleep(0.05)
        self.pid_file.write_text(str(process.pid))

    def stop(self) -> None:
        """End it; does nothing where it does not run."""
        if pid := self.process:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE
        while self.process:
            if time.monotonic() > deadline:
                raise Unavailable(f"process {pid} does not end; see {self.log}")
            time.sleep(0.05)
        self.pid_file.unlink(missing_ok=True)
