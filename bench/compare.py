"""`flyte deploy --recursive` and `doit deploy` side by side: one run, one control plane, one monorepo.

    python -m bench.compare 5 20 40 --repeat 3

prints a Markdown table of medians in seconds, and how many times faster flyte_build is. The control plane answers at
once, in a process of its own: what is measured is the client. The peer keeps its bundle cache between its runs, as
on a developer's machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

from bench.monorepo import generate

SCRIPTS = Path(sys.executable).parent
SCENARIOS = ("cold", "no-op", "one edit in one service", "one edit in a shared module")


class Monorepo:
    """A generated monorepo, and what is run in it."""

    def __init__(self, folder: Path, services: int, endpoint: str) -> None:
        self.folder = folder / "repository"
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.endpoint = endpoint
        self._edits = 0
        generate(self.folder, services, settings=f'[flyte]\nendpoint = "{endpoint}"\ninsecure = true\n')
        (self.folder / "dodo.py").write_text("from flyte_build.dodo import *\n")

    def edit(self, name: str) -> None:
        self._edits += 1
        with (self.folder / name).open("a") as file:
            file.write(f"EDIT = {self._edits}\n")

    def forget(self) -> None:
        """As in a fresh checkout on a fresh machine."""
        shutil.rmtree(self.folder / ".flyte-build", ignore_errors=True)
        shutil.rmtree(self.home)
        self.home.mkdir()

    def ours(self) -> None:
        self._run(str(SCRIPTS / "doit"), "deploy")

    def peer(self) -> None:
        flyte = (str(SCRIPTS / "flyte"), "--endpoint", self.endpoint, "--insecure", "--no-progress")
        target = ("deploy", "--project", "flytesnacks", "--domain", "development", "--recursive", "services")
        self._run(*flyte, *target)

    def _run(self, *command: str) -> None:
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.home), "DO_NOT_TRACK": "1", "NO_COLOR": "1"}
        done = subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed\n{done.stdout}\n{done.stderr}")


def measure(monorepo: Monorepo, run: Callable[[], None], repeat: int) -> dict[str, float]:
    """Median seconds of each scenario."""
    seconds: dict[str, list[float]] = {scenario: [] for scenario in SCENARIOS}
    for _ in range(repeat):
        monorepo.forget()
        seconds["cold"].append(_timed(run))
        seconds["no-op"].append(_timed(run))
        monorepo.edit("services/svc_000/part_00.py")
        seconds["one edit in one service"].append(_timed(run))
        monorepo.edit("shared/common_00.py")
        seconds["one edit in a shared module"].append(_timed(run))
    return {scenario: statistics.median(each) for scenario, each in seconds.items()}


def _timed(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


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
        while True:
            time.sleep(3600)


# --- the report


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("services", type=int, nargs="*", default=[5, 20, 40], help="sizes of the monorepo")
    parser.add_argument("--repeat", type=int, default=3, help="times that each is run; medians are shown")
    parser.add_argument("--without-peer", action="store_true", help="measure flyte_build alone")
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"flyte {version('flyte')}, doit {version('doit')}, {options.repeat} runs each\n"
    )
    print("| services | scenario | `flyte deploy` | `doit deploy` | times faster |\n|---|---|---|---|---|", flush=True)
    for services in options.services:
        for line in _lines(services, options.repeat, without_peer=options.without_peer):
            print(line, flush=True)
    return 0


def _lines(services: int, repeat: int, *, without_peer: bool) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder, control_plane() as endpoint:
        monorepo = Monorepo(Path(folder).resolve(), services, endpoint)
        ours = measure(monorepo, monorepo.ours, repeat)
        peer = {} if without_peer else measure(monorepo, monorepo.peer, repeat)
    for scenario in SCENARIOS:
        theirs = f"{peer[scenario]:.1f} s" if peer else ""
        ratio = f"{peer[scenario] / ours[scenario]:.0f}" if peer else ""
        yield f"| {services} | {scenario} | {theirs} | {ours[scenario]:.2f} s | {ratio} |"


if __name__ == "__main__":
    sys.exit(main())
