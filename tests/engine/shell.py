"""Running the programs that an engine is made with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.engine.folder import Unavailable


def say(text: str) -> None:
    """In one piece: parts of an engine are made at the same time."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def run(*command: str, environ: Mapping[str, str] | None = None, folder: Path | None = None) -> str:
    """What a command prints. One that fails is the end, with its last lines."""
    try:
        ran = subprocess.run(
            command, env=environ, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise Unavailable(f"`{command[0]}` is not installed") from None
    if ran.returncode != 0:
        last = "\n".join((ran.stdout + ran.stderr).splitlines()[-30:])
        raise Unavailable(f"`{' '.join(command)}` failed with exit code {ran.returncode}:\n{last}")
    return ran.stdout


def succeeds(*command: str, environ: Mapping[str, str] | None = None) -> bool:
    ran = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return ran.returncode == 0
