"""Checkouts of a generated monorepo, the commands that are run in them, and the control plane that they talk to."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from bench.monorepo import SHAPE, Shape, generate

SCRIPTS = Path(sys.executable).parent
_FLOOR = """
NEEDS = {needs!r}


def tasks_of(step):
    def make():
        yield {{"name": None, "doc": step}}
        for number in range({services}):
            needs = [f"{{need}}:{{number}}" for need in NEEDS[step]]
            yield {{"name": str(number), "actions": [], "task_dep": needs, "uptodate": [True]}}

    return make


for step in NEEDS:
    globals()[f"task_{{step}}"] = tasks_of(step)
DOIT_CONFIG = {{"default_tasks": ["deploy"], "reporter": "zero"}}
"""


@dataclass(frozen=True)
class Cost:
    """What one run of a command took."""

    seconds: float
    cpu: float
    """Seconds, user and system, of the command and the processes that it waited for."""
    memory: int
    """Bytes: the most that one of those processes had resident."""


class Checkout:
    """A fresh checkout of a monorepo on a fresh machine: it has a home of its own, and nothing that tools leave."""

    def __init__(self, folder: Path, services: int, endpoint: str, shape: Shape = SHAPE) -> None:
        self.folder = folder / "repository"
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.endpoint = endpoint
        self._edits = 0
        generate(self.folder, services, settings=f'[flyte]\nendpoint = "{endpoint}"\ninsecure = true\n', shape=shape)
        (self.folder / "dodo.py").write_text("from flyte_build.dodo import *\n")

    @property
    def files(self) -> int:
        """Python files of the monorepo."""
        return sum(1 for _ in self.folder.rglob("*.py")) - 1

    def edit(self, name: str) -> None:
        self._edits += 1
        with (self.folder / name).open("a") as file:
            file.write(f"EDIT = {self._edits}\n")

    def deploy(self) -> Cost:
        """`doit deploy`."""
        return run(self.folder, self.home, str(SCRIPTS / "doit"), "deploy")

    def peer_deploy(self) -> Cost:
        """`flyte deploy --recursive`."""
        flyte = (str(SCRIPTS / "flyte"), "--endpoint", self.endpoint, "--insecure", "--no-progress")
        target = ("deploy", "--project", "flytesnacks", "--domain", "development", "--recursive", "services")
        return run(self.folder, self.home, *flyte, *target)


@dataclass(frozen=True)
class Scenario:
    """What is done to a checkout before a deploy is measured. They follow each other in one checkout, which is fresh.

    One that were emptied instead would be slower: ext4 without a journal looks, for every new file, past all that were
    removed in the last minutes.
    """

    name: str
    prepare: Callable[[Checkout], None]


SCENARIOS = (
    Scenario("cold", lambda _: None),
    Scenario("no-op", lambda _: None),
    Scenario("one edit in one service", lambda checkout: checkout.edit("services/svc_000/part_00.py")),
    Scenario("one edit in a shared module", lambda checkout: checkout.edit("shared/common_00.py")),
)


def floor(folder: Path, services: int) -> Callable[[], Cost]:
    """`doit` itself, with as many tasks as the deploy of so many services has, that check nothing and do nothing."""
    from flyte_build.pipeline import NEEDS

    home = folder / "home"
    home.mkdir(parents=True)
    (folder / "dodo.py").write_text(_FLOOR.format(needs=NEEDS, services=services))
    return lambda: run(folder, home, str(SCRIPTS / "doit"))


def run(folder: Path, home: Path, *command: str, environ: Mapping[str, str] | None = None) -> Cost:
    """Run a command that must succeed. `environ`: variables besides the few that each command is given."""
    given = {"PATH": os.environ["PATH"], "HOME": str(home), "DO_NOT_TRACK": "1", "NO_COLOR": "1", **(environ or {})}
    log = home / "log"
    with log.open("wb") as out:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=given, stdout=out, stderr=out)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed\n{log.read_text()}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


# --- the control plane, in a process of its own


@contextmanager
def control_plane() -> Iterator[str]:
    """The endpoint of a control plane that answers at once."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _serve(connection: Connection) -> None:
    from flyte_build.backend.server import Server
    from tests.peer import Record, answering_at_once

    record = Record()
    with Server(answering_at_once(record)) as server:
        record.uploads_to = server.endpoint.replace("dns:///", "http://")
        connection.send(server.endpoint)
        while True:  # what was sent is not kept: later runs would meet a slower server
            time.sleep(1)
            record.requests.clear()
            record.bundles.clear()
