"""Killed at any point, a deploy is taken up where it was: the next one redoes only what had not finished."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyte_build import pipeline
from tests import killing
from tests.behaviour.test_incremental import FILES
from tests.checkout import Checkout, Left
from tests.recording import PUT, RecordingServer
from tests.repository import Repository, environment

POINTS = 60
"""How many of the lines that a deploy runs it is killed before, in each of two situations."""
CHUNKS = 6
FEW = 4


class Scene:
    """One folder in which a deploy is killed again and again, each time from the same beginning."""

    def __init__(self, folder: Path, *, deployed: bool) -> None:
        self.checkout = Checkout(folder / "repo", {**FILES, "dodo.py": "from flyte_build.dodo import *\n"})
        self.repository = Repository(self.checkout.folder)
        self._beginning = folder / "beginning"
        self._log = folder / "log"
        if deployed:
            self.checkout.deploy()
            shutil.move(self.checkout.state("."), self._beginning)
            self.checkout.replace("shared/limits.py", "10", "11")
            self.checkout.replace("services/fraud.py", "Scores.", "Gives a score.")
            self.checkout.write("sql/query.sql", "select 2\n")
        self.lines = self._undisturbed()
        self.clean = self._clean()

    def _undisturbed(self) -> int:
        """How many lines a deploy that is not killed runs."""
        self.begin()
        assert self.killed(-1) == 0
        return len(self._log.read_text().splitlines())

    def _clean(self) -> Left:
        shutil.rmtree(self.checkout.state("."))
        self.checkout.deploy()
        return self.checkout.left("fraud")

    def begin(self) -> None:
        shutil.rmtree(self.checkout.state("."), ignore_errors=True)
        if self._beginning.exists():
            shutil.copytree(self._beginning, self.checkout.state("."))

    def killed(self, at: int) -> int:
        """Run a deploy that is killed before a line, and give how it ended."""
        commands = json.dumps({"log": str(self._log), "at": at})
        return self.repository.run(sys.executable, killing.__file__, commands, "deploy").code

    def receipts(self) -> dict[str, tuple[int, int]]:
        """Step -> which file its receipt is."""
        found = {path.stem: path.stat() for path in self.checkout.state("targets/fraud").glob("*.json")}
        return {step: (stat.st_ino, stat.st_mtime_ns) for step, stat in found.items()}

    def check(self, at: int) -> bool:
        """Kill a deploy and see what the next one does. Gives whether there was a line to be killed at."""
        self.begin()
        before = self.receipts()
        status = self.killed(at)
        finished = {step for step, file in self.receipts().items() if before.get(step) != file}
        where = f"killed before line {at}, {self._log.read_text().splitlines()[-1:]}"
        again = self.checkout.deploy()
        assert not finished & again.keys(), where
        assert self.checkout.left("fraud") == self.clean, where
        assert self.checkout.registered("fraud") == self.clean.specs, where
        assert self.checkout.deploy() == {}, where
        assert not list(self.checkout.state("targets").rglob("*.log")), where
        return status == -signal.SIGKILL


@pytest.fixture(scope="module", params=[False, True], ids=["first deploy", "deploy after edits"])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("crashes"), deployed=request.param)


@pytest.mark.parametrize("point", range(FEW))
def test_a_killed_deploy_is_taken_up_where_it_was(point: int, scene: Scene) -> None:
    assert scene.check((2 * point + 1) * scene.lines // (2 * FEW))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_deploy_killed_at_any_of_many_points_is_taken_up_where_it_was(chunk: int, scene: Scene) -> None:
    points = [point * scene.lines // POINTS for point in range(chunk, POINTS, CHUNKS)]
    killed = [scene.check(point) for point in points]
    assert sum(killed) >= len(killed) - 1, "which lines are run last may differ from run to run"


# --- a backend that hears the deploy die

TASKS = 8


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RecordingServer]:
    with RecordingServer(tmp_path / "control-plane") as server:
        yield server


def remote(folder: Path, server: RecordingServer) -> Repository:
    """A target of several environments, each registered after the one before."""
    chain = [environment("env_0", "")] + [
        environment(f"env_{n}", f", depends_on=[env_{n - 1}]").replace(
            "import flyte\n", f"import flyte\nfrom env_{n - 1} import env as env_{n - 1}\n"
        )
        for n in range(1, TASKS)
    ]
    manifest = f'[flyte]\nendpoint = "{server.endpoint}"\ninsecure = true\n'
    target = f'[targets.all]\npath = "env_{TASKS - 1}.py"\nenvironment = "env"\n'
    files = {f"env_{n}.py": text for n, text in enumerate(chain)}
    return Repository(folder, {"deploy.toml": manifest + target, **files})


@pytest.mark.parametrize("number", range(0, TASKS, 2))
def test_a_deploy_killed_while_it_registers_sends_only_what_is_missing(
    number: int, server: RecordingServer, tmp_path: Path
) -> None:
    repository = remote(tmp_path / "repo", server)
    running: list[subprocess.Popen[str]] = []

    def kill(_request: object) -> bool:
        if running[0].poll() is None and server.count("DeployTask") == number + 1:
            os.kill(running[0].pid, signal.SIGKILL)
        return False

    server.fail("DeployTask", 0, when=kill)
    running.append(repository.start("deploy"))
    running[0].communicate()
    assert running[0].returncode == -signal.SIGKILL
    assert server.count("DeployTask") == number + 1
    journal = repository.read(".flyte-build/targets/all/deploy.log").splitlines()[1:]
    assert journal == [f"env_{n}.env_{n}_task" for n in range(number)]
    server.forget()
    ran = repository.doit("deploy")
    assert ran.code == 0, ran.err
    sent = [request.task_id.name for request in server.requests("DeployTask")]
    assert sent == [f"env_{n}.env_{n}_task" for n in range(number, TASKS)]
    assert server.count(PUT) == 0
    server.forget()
    assert repository.doit("deploy").code == 0
    assert server.counts == {}


def test_a_deploy_killed_while_it_uploads_uploads_again(server: RecordingServer, tmp_path: Path) -> None:
    repository = remote(tmp_path / "repo", server)
    running: list[subprocess.Popen[str]] = []

    def kill(_name: object) -> bool:
        if running[0].poll() is None and server.count(PUT) == 1:
            os.kill(running[0].pid, signal.SIGKILL)
        return True

    server.fail(PUT, 503, when=kill)
    running.append(repository.start("deploy"))
    running[0].communicate()
    assert running[0].returncode == -signal.SIGKILL
    ran = repository.doit("deploy")
    assert (ran.code, server.count(PUT)) == (0, 2), ran.err
    assert [line.split()[0] for line in ran.err.splitlines()[:3]] == ["upload", "serialize", "deploy"]


# --- state that was cut off or edited


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Deployed; its state is kept beside it."""
    made = Checkout(tmp_path_factory.mktemp("state") / "repo", FILES)
    made.deploy()
    (made.folder.parent / "left").write_bytes(made.left("fraud").json())
    shutil.copytree(made.state("."), made.folder.parent / "state")
    return made


def state_files(checkout: Checkout) -> list[Path]:
    kept = checkout.folder.parent / "state"
    return sorted(path.relative_to(kept) for path in kept.rglob("*") if path.is_file())


def spoil_and_check(checkout: Checkout, name: Path, content: bytes) -> dict[str, str]:
    """Put content into a file of the state. Gives what the next deploy does, and sees that it is right."""
    shutil.rmtree(checkout.state("."))
    shutil.copytree(checkout.folder.parent / "state", checkout.state("."))
    (checkout.state(".") / name).write_bytes(content)
    ran = checkout.deploy()
    where = f"{name} of {len(content)} bytes"
    left = checkout.left("fraud")
    assert left.json() == (checkout.folder.parent / "left").read_bytes(), where
    assert checkout.registered("fraud") == left.specs, where
    assert checkout.deploy() == {}, where
    return ran


KINDS = ("backend", "bundles", "objects", "store", "targets")


def is_the_truth(name: Path) -> bool:
    """Whether something is done again when a file of the state is lost; the rest saves a look, or is for a note."""
    return name.parts[0] in KINDS and name.suffix != ".seal" and name.name != "versions.json"


RUBBISH = (b"", b"{}", b"null", b"[]", b"\xff\xfe", b"rubbish\n", b'{"format": 1}')


def spread(size: int, count: int) -> list[int]:
    return sorted({size * number // count for number in range(count)} | {0, 1, size - 1})


def test_any_file_of_the_state_may_be_cut_off_anywhere(whole: Checkout) -> None:
    for name in state_files(whole):
        content = (whole.folder.parent / "state" / name).read_bytes()
        for length in spread(len(content), 5):
            ran = spoil_and_check(whole, name, content[:length])
            assert bool(ran) == is_the_truth(name), f"{name} cut off at {length}: {ran}"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_any_file_of_the_state_may_be_cut_off_at_many_more_bytes(whole: Checkout) -> None:
    for name in state_files(whole):
        content = (whole.folder.parent / "state" / name).read_bytes()
        for length in spread(len(content), 100):
            ran = spoil_and_check(whole, name, content[:length])
            assert bool(ran) == is_the_truth(name), f"{name} cut off at {length}: {ran}"


def test_any_file_of_the_state_may_hold_anything(whole: Checkout) -> None:
    for name in state_files(whole):
        if name.suffix != ".sqlite":
            for content in RUBBISH:
                assert bool(spoil_and_check(whole, name, content)) == is_the_truth(name), f"{name}: {content!r}"


def test_a_receipt_that_was_edited_and_still_is_valid_is_not_believed(whole: Checkout) -> None:
    for step in pipeline.STEPS:
        name = Path("targets", "fraud", f"{step}.json")
        content = (whole.folder.parent / "state" / name).read_bytes()
        ran = spoil_and_check(whole, name, content.replace(b'"format":', b'"format": '))
        assert ran == {step: "its receipt was damaged; starting over"}
