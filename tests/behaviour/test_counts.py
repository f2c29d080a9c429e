"""What a control plane is sent for a monorepo of five services: no more than has changed."""

from __future__ import annotations

import os
import shutil
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from connectrpc.code import Code

from bench.monorepo import FILES_PER_SERVICE, SHARED_FILES, TASKS_PER_SERVICE, generate
from tests.recording import PUT, RecordingServer
from tests.repository import Repository

SERVICES = 5
ALL_TASKS = SERVICES * TASKS_PER_SERVICE
SETTINGS = """
    [flyte]
    endpoint = "{endpoint}"
    insecure = true
"""


Specs = dict[str, tuple[str, bytes]]
"""Task -> version and spec."""


class Monorepo(Repository):
    """Five services, deployed to a control plane that records."""

    def __init__(self, folder: Path, server: RecordingServer, first_specs: Specs | None = None) -> None:
        super().__init__(folder)
        self.server = server
        self.first_specs = first_specs or {}
        generate(folder, SERVICES, settings=SETTINGS.format(endpoint=server.endpoint))

    def edit(self, name: str, text: str = "\nEDITED = True\n") -> None:
        with (self.folder / name).open("a") as file:
            file.write(text)

    def sends(self) -> dict[str, int]:
        """How often each call is made by a deploy."""
        self.server.forget()
        ran = self.doit("deploy")
        assert ran.code == 0, ran.err
        return dict(self.server.counts)

    def specs(self) -> Specs:
        """All that was sent since the record was emptied."""
        return {
            request.task_id.name: (request.task_id.version, request.spec.SerializeToString(deterministic=True))
            for request in self.server.requests("DeployTask")
        }


@pytest.fixture
def server(deployed: Monorepo) -> RecordingServer:
    return deployed.server


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monorepo]:
    """Deployed once, for all tests to copy."""
    folder = tmp_path_factory.mktemp("counts")
    with RecordingServer(folder / "server") as server:
        repo = Monorepo(folder / "repo", server)
        assert repo.sends()["DeployTask"] == ALL_TASKS
        repo.first_specs = repo.specs()
        yield repo


@pytest.fixture
def monorepo(tmp_path: Path, deployed: Monorepo) -> Monorepo:
    """A copy of the deployed one, state and all."""
    shutil.copytree(deployed.folder, tmp_path / "repo")
    return Monorepo(tmp_path / "repo", deployed.server, deployed.first_specs)


def registrations(sent: dict[str, int]) -> tuple[int, int]:
    """DeployTask calls and uploads."""
    return sent.get("DeployTask", 0), sent.get(PUT, 0)


def test_the_monorepo_has_the_size_that_is_compared(tmp_path: Path) -> None:
    generate(tmp_path, SERVICES)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == FILES_PER_SERVICE * SERVICES + SHARED_FILES + 1 == 132


def test_a_cold_deploy_sends_each_task_and_each_bundle_once_and_the_next_connects_to_nothing(tmp_path: Path) -> None:
    with RecordingServer(tmp_path / "server") as server:
        repo = Monorepo(tmp_path / "repo", server)
        sent = repo.sends()
        tasks = Counter(request.task_id.name for request in server.requests("DeployTask"))
    assert registrations(sent) == (ALL_TASKS, SERVICES) == (50, 5)
    assert sent["CreateUploadLocation"] == SERVICES
    assert set(tasks.values()) == {1}
    with socket.create_server(("127.0.0.1", int(server.endpoint.rpartition(":")[2]))) as listener:
        again = repo.doit("deploy")
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert (again.code, again.out) == (0, "")
    assert "5 targets: 5 fresh" in again.err


def test_an_edit_in_one_service_sends_that_service(monorepo: Monorepo, server: RecordingServer) -> None:
    monorepo.edit("services/svc_003/part_07.py")
    assert registrations(monorepo.sends()) == (TASKS_PER_SERVICE, 1) == (10, 1)
    assert {request.task_id.name.partition(".")[0] for request in server.requests("DeployTask")} == {
        "svc_003",
        "svc_003_prepare",
    }


def test_an_edit_in_a_shared_module_sends_everything(monorepo: Monorepo) -> None:
    monorepo.edit("shared/common_11.py")
    assert registrations(monorepo.sends()) == (ALL_TASKS, SERVICES)


def test_touching_every_file_sends_nothing(monorepo: Monorepo) -> None:
    for path in monorepo.folder.rglob("*"):
        if ".flyte-build" not in path.parts:
            os.utime(path)
    assert monorepo.sends() == {}


def test_an_edit_that_is_undone_sends_nothing(monorepo: Monorepo) -> None:
    before = monorepo.read("services/svc_000/workflow.py")
    monorepo.edit("services/svc_000/workflow.py")
    monorepo.write("services/svc_000/workflow.py", before)
    assert monorepo.sends() == {}


def test_a_broken_edit_that_is_undone_sends_nothing(monorepo: Monorepo) -> None:
    name = "services/svc_000/workflow.py"
    before = monorepo.read(name)
    monorepo.edit(name, "\nif:\n")
    failed = monorepo.doit("deploy")
    assert (failed.code, "svc_000/workflow.py" in failed.err) == (1, True)
    monorepo.write(name, before)
    assert monorepo.sends() == {}


def test_an_undone_edit_brings_the_first_specs_back(monorepo: Monorepo) -> None:
    first, name = monorepo.first_specs, "services/svc_000/part_00.py"
    original = monorepo.read(name)
    monorepo.edit(name)
    assert registrations(monorepo.sends()) == (TASKS_PER_SERVICE, 1)
    edited = monorepo.specs()
    assert all(edited[task][0] != first[task][0] for task in edited)
    monorepo.write(name, original)
    assert registrations(monorepo.sends())[0] == TASKS_PER_SERVICE
    assert monorepo.specs() == {task: first[task] for task in edited}


def test_a_failed_registration_is_not_taken_for_done(monorepo: Monorepo, server: RecordingServer) -> None:
    monorepo.edit("services/svc_002/workflow.py")
    server.fail("DeployTask", Code.INVALID_ARGUMENT, when=lambda request: request.task_id.name == "svc_002.step_7")
    server.forget()
    assert monorepo.doit("deploy").code == 1
    assert registrations(dict(server.counts)) == (TASKS_PER_SERVICE, 1)
    assert registrations(monorepo.sends()) == (1, 0)
    assert list(monorepo.specs()) == ["svc_002.step_7"]


def test_a_failed_upload_is_not_taken_for_done(monorepo: Monorepo, server: RecordingServer) -> None:
    monorepo.edit("services/svc_002/workflow.py")
    server.fail(PUT, 403)
    server.forget()
    assert monorepo.doit("deploy").code == 1
    assert registrations(dict(server.counts)) == (0, 1)
    assert registrations(monorepo.sends()) == (TASKS_PER_SERVICE, 1)
