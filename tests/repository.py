"""A user's repository in a temporary folder, and the real commands run in it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

SCRIPTS = Path(sys.executable).parent


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """What `output=jsonl` printed."""
        return [json.loads(line) for line in self.out.splitlines()]


class Repository:
    """Files in a folder. The environment of commands is the test's own plus `environ`, without colour."""

    def __init__(self, folder: Path, files: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.environ: dict[str, str] = {}
        self.write("dodo.py", "from flyte_build.dodo import *\n")
        for name, text in (files or {}).items():
            self.write(name, text)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        return path

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()

    def doit(self, *words: str, timeout: float = 60, under: tuple[str, ...] = ()) -> Ran:
        """Run `doit WORDS` as a user does. `under`: a command that is given this one, such as `unshare`."""
        return self.run(*under, str(SCRIPTS / "doit"), *words, timeout=timeout)

    def python(self, script: str, timeout: float = 60) -> Ran:
        return self.run(sys.executable, script, timeout=timeout)

    def run(self, *command: str, timeout: float = 60) -> Ran:
        done = subprocess.run(
            command, cwd=self.folder, env=self._environ(), capture_output=True, text=True, timeout=timeout, check=False
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Begin `doit WORDS`, in a process group of its own; its output can be read while it runs."""
        pipe = subprocess.PIPE
        command = (str(SCRIPTS / "doit"), *words)
        return subprocess.Popen(
            command, cwd=self.folder, env=self._environ(), stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )

    def _environ(self) -> dict[str, str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("FLYTE", "AWS", "UCTL"))}
        # Python itself would leave a compiled dodo.py beside it.
        return environ | {"HOME": str(self.folder / ".home"), "PYTHONDONTWRITEBYTECODE": "1", **self.environ}


WORKFLOW = """
    import flyte

    env = flyte.TaskEnvironment(name="fraud")


    @env.task
    async def score(amount: int) -> int:
        return amount + 1
"""
"""The smallest workflow: one environment, one task."""

MANIFEST = """
    [targets.fraud]
    path = "fraud.py"
    environment = "env"
"""


def small(folder: Path, **changed: str) -> Repository:
    """A repository with one target, `fraud`, of one task. `changed`: other files, `__` for `/` and `_py` for `.py`."""
    files = {"deploy.toml": MANIFEST, "fraud.py": WORKFLOW}
    names = {name.replace("__", "/").replace("_py", ".py"): text for name, text in changed.items()}
    return Repository(folder, {**files, **names})


ENVIRONMENT = """
    import flyte

    env = flyte.TaskEnvironment(name="{name}"{more})


    @env.task
    async def {name}_task(amount: int) -> int:
        return amount
"""


def environment(name: str, more: str = "") -> str:
    """A file with an environment in `env` and a task, both named after `name`. `more`: further arguments."""
    return dedent(ENVIRONMENT).format(name=name, more=more)


def failures(ran: Ran) -> dict[str, str]:
    """`STEP:TARGET` -> the message at the end of the output, in order."""
    _, *parts = re.split(r"^FAILED (\S+)\n", ran.err, flags=re.MULTILINE)
    return {name: text.rstrip("\n") for name, text in zip(parts[::2], parts[1::2], strict=True)}
