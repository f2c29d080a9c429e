"""A deploy of environments with images of their own, when nothing has changed: `flyte deploy` and `doit deploy`.

    python -m tests.engine start
    python -m bench.images 20 --repeat 3

Each environment has an image with a layer of its own. Both tools build and push them once, to a registry on loopback;
then each deploys again, in turns. The control plane answers at once, in a process of its own.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import uuid
from pathlib import Path

from bench.compare import machine
from bench.running import SCRIPTS, Cost, control_plane, run
from tests.engine.fixtures import running
from tests.engine.folder import Folder, Record

_WORKFLOW = """
import flyte

image = flyte.Image.from_debian_base(registry="{registry}", name="{name}", platform=("linux/amd64",)).with_commands(
    ["echo {mark} > /tmp/mark"]
)
env = flyte.TaskEnvironment(name="{name}", image=image)


@env.task
async def work(amount: int) -> int:
    return amount
"""
_MANIFEST = """
[flyte]
endpoint = "{endpoint}"
insecure = true

[images]
mirrors = {{ {mirrors} }}

[targets.jobs]
path = "jobs"
recursive = true
"""


class Place:
    """A checkout of its own, with a home of its own."""

    def __init__(self, folder: Path, images: int, endpoint: str, record: Record) -> None:
        self.folder, self.home, self.environ = folder / "repository", folder / "home", record.environment
        self.home.mkdir(parents=True)
        (self.folder / "jobs").mkdir(parents=True)
        mark = uuid.uuid4().hex
        for number in range(images):
            text = _WORKFLOW.format(registry=record.registry, name=f"job-{number:02}", mark=f"{mark}-{number}")
            (self.folder / "jobs" / f"job_{number:02}.py").write_text(text)
        mirrors = ", ".join(f'"{key}" = "{value}"' for key, value in record.mirrors.items())
        (self.folder / "deploy.toml").write_text(_MANIFEST.format(endpoint=endpoint, mirrors=mirrors))
        (self.folder / "dodo.py").write_text("from flyte_build.dodo import *\n")
        self.endpoint = endpoint

    def deploy(self) -> Cost:
        return run(self.folder, self.home, str(SCRIPTS / "doit"), "deploy", environ=self.environ)

    def peer_deploy(self) -> Cost:
        flyte = (str(SCRIPTS / "flyte"), "--endpoint", self.endpoint, "--insecure", "--no-progress")
        target = ("deploy", "--project", "flytesnacks", "--domain", "development", "--recursive", "jobs")
        return run(self.folder, self.home, *flyte, *target, environ=self.environ)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("images", type=int, nargs="?", default=20, help="how many; default: 20")
    parser.add_argument("--repeat", type=int, default=3, help="times that each is run; medians are shown")
    options = parser.parse_args()
    record = running(Folder())
    if record is None:
        sys.exit("no Docker engine; start one with `python -m tests.engine start`")
    print(f"{machine()}, {options.images} images, {options.repeat} runs each\n", flush=True)
    print("| scenario | `flyte deploy` | `doit deploy` | times faster |\n|---|---|---|---|", flush=True)
    with control_plane() as endpoint, tempfile.TemporaryDirectory() as temporary:
        theirs = Place(Path(temporary).resolve() / "peer", options.images, endpoint, record)
        ours = Place(Path(temporary).resolve() / "ours", options.images, endpoint, record)
        _row("all images built", [theirs.peer_deploy().seconds], [ours.deploy().seconds])
        turns = [(theirs.peer_deploy().seconds, ours.deploy().seconds) for _ in range(options.repeat)]
        _row("no-op", [peer for peer, _ in turns], [our for _, our in turns])
    return 0


def _row(name: str, theirs: list[float], ours: list[float]) -> None:
    peer, our = statistics.median(theirs), statistics.median(ours)
    print(f"| {name} | {peer:.2f} s | {our:.2f} s | {peer / our:.0f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
