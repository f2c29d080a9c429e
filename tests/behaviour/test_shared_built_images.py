"""Two machines, one shared cache, a real engine and a real registry: what one built, the other looks up and no more."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.fixtures import Engine
from tests.http_faults import FaultyServer, faulty_server, forward
from tests.recording import RecordingServer
from tests.repository import Ran, Repository

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

CODE = """
import pathlib
import flyte

HERE = pathlib.Path(__file__).parent
image = flyte.Image.from_dockerfile(HERE / "Dockerfile", registry="{registry}", name="shared-built")
env = flyte.TaskEnvironment(name="fraud", image=image)


@env.task
async def score(amount: int) -> int:
    return amount
"""
MANIFEST = """
    [flyte]
    endpoint = "{endpoint}"
    insecure = true
    [store]
    url = "file://{folder}/store"
    [cache]
    url = "file://{folder}/cache"
    [targets.fraud]
    path = "fraud.py"
    environment = "env"
    """


@pytest.fixture
def proxy(engine: Engine) -> Iterator[FaultyServer]:
    """What a machine asks the registry goes through it, and is noted. The engine goes there by itself."""
    with faulty_server(forward(f"http://{engine.record.registry}")) as server:
        yield server


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[RecordingServer]:
    with RecordingServer(tmp_path / "backend") as server:
        yield server


def machine(name: str, folder: Path, engine: Engine, backend: RecordingServer) -> Repository:
    files = {
        "deploy.toml": MANIFEST.format(endpoint=backend.endpoint.replace("localhost", "127.0.0.1"), folder=folder),
        "fraud.py": CODE.format(registry=engine.record.registry),
        "Dockerfile": f"FROM scratch\nCOPY prices.csv /\nENV TEST_RUN={uuid.uuid5(uuid.NAMESPACE_URL, str(folder))}\n",
        "prices.csv": "a,1\n",
    }
    made = Repository(folder / name / "repository", files)
    made.environ |= engine.record.environment
    return made


def deployed(repository: Repository) -> Ran:
    ran = repository.doit("output=jsonl", timeout=200)
    assert ran.code == 0, ran.err + ran.out
    return ran


def done(ran: Ran) -> dict[str, str]:
    """Step -> what it did, of those that ran."""
    return {e["step"]: e["summary"] for e in ran.events if e["event"] == "finished" and e["status"] == "done"}


def test_a_second_machine_builds_and_sends_nothing_and_looks_an_image_up_once(
    engine: Engine, proxy: FaultyServer, backend: RecordingServer, tmp_path: Path
) -> None:
    first, second = (machine(name, tmp_path, engine, backend) for name in ("first", "second"))
    assert done(deployed(first))["images"] == "1 built"
    backend.forget()
    second.environ |= {"DOCKER_HOST": "unix:///nowhere", "HTTP_PROXY": proxy.url, "NO_PROXY": "127.0.0.1"}
    again = done(deployed(second))
    assert (list(again), again["images"]) == (["images", "serialize", "deploy"], "1 reused")
    (asked,) = proxy.requests
    assert (asked.method, "/v2/shared-built/manifests/" in asked.target) == ("GET", True)
    assert backend.counts == {"DeployTask": 1}
    proxy.requests.clear()
    assert done(deployed(second)) == {}
    assert proxy.requests == []
