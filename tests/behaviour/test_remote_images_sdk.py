"""The SDK's own remote builder, run against the same control plane: it is a right one, and we ask it the same."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flyteidl2.common import phase_pb2
from flyteidl2.dataproxy.dataproxy_service_pb2 import UploadInputsRequest
from flyteidl2.workflow.run_service_pb2 import CreateRunRequest

from flyte_build.model import BackendSettings, BuildSecret
from tests.image_builder_service import BACKEND_REGISTRY, ImageBuilderServer, Outcome, image_builder
from tests.peer import clean_environment

SOURCE = """
from pathlib import Path
import flyte

image = (
    flyte.Image.from_debian_base(name="fraud", python_version=(3, 11), flyte_version="2.12.0")
    .with_pip_packages("numpy", secret_mounts=[flyte.Secret(key="token", group="team")])
    .with_source_folder(Path(__file__).parent / "src", "/root/src")
)
env = flyte.TaskEnvironment(name="fraud", image=image)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ImageBuilderServer]:
    with ImageBuilderServer(tmp_path / "backend") as running:
        yield running


def flyte_build(server: ImageBuilderServer, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs `flyte build` with the remote builder, in a home of its own."""
    project = folder / "project"
    (project / "src").mkdir(parents=True, exist_ok=True)
    (project / "src" / "lib.py").write_text("x = 1\n")
    (project / "fraud.py").write_text(SOURCE)
    (project / "config.yaml").write_text(
        f"admin:\n  endpoint: {server.endpoint}\n  insecure: true\nimage:\n  builder: remote\n"
        "task:\n  project: flytesnacks\n  domain: development\n"
    )
    return subprocess.run(
        [str(Path(sys.executable).parent / "flyte"), "--config", "config.yaml", "build", "fraud.py", "env"],
        cwd=project,
        env=clean_environment(folder, {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_we_ask_for_an_image_and_for_its_build_as_the_sdk_does(server: ImageBuilderServer, tmp_path: Path) -> None:
    theirs = flyte_build(server, tmp_path)
    assert theirs.returncode == 0, theirs.stderr
    built = server.built[0]
    context = tmp_path / "context.tar"
    context.write_bytes(built.context)

    settings = BackendSettings(endpoint=server.endpoint, insecure=True)
    with image_builder(settings) as builder:
        assert builder.find(built.target_image) == ""
        image = builder.build(
            name=built.target_image,
            spec=built.spec,
            context=context,
            secrets=(BuildSecret(id="x", key="token", group="team"),),
            started=lambda _: None,
        )

    assert image == f"{BACKEND_REGISTRY}/{built.target_image}"
    assert image in theirs.stdout
    assert server.built == [built, built]
    for call in ("GetImage", "ListTasks", "GetTaskDetails", "WatchActionDetails", "GetActionData"):
        first, second = map(without_run, server.requests(call))
        assert first == second, call
    first, second = map(without_compression, server.requests("UploadInputs"))
    assert first == second
    first, second = map(without_log_levels, server.requests("CreateRun"))
    assert first == second


def without_run(request: Any) -> Any:
    """Each run has a name of its own."""
    copied = type(request)()
    copied.CopyFrom(request)
    if hasattr(copied, "action_id"):
        copied.action_id.run.name = ""
    return copied


def without_compression(request: UploadInputsRequest) -> UploadInputsRequest:
    """The context has the same content, but other compressed bytes, and its place is named after these."""
    copied = UploadInputsRequest()
    copied.CopyFrom(request)
    [context] = [literal for literal in copied.inputs.literals if literal.name == "context"]
    text = context.value.scalar.union.value.scalar.primitive
    text.string_value = gzip.decompress(Path(text.string_value.removeprefix("file://")).read_bytes()).hex()
    return copied


def without_log_levels(request: CreateRunRequest) -> CreateRunRequest:
    """The SDK tells the builder how much its own caller logs, and names labels that there are none of."""
    copied = CreateRunRequest()
    copied.CopyFrom(request)
    assert {pair.key for pair in copied.run_spec.envs.values} <= {"LOG_LEVEL", "LOG_FORMAT", "USER_LOG_LEVEL"}
    assert not copied.run_spec.labels.values
    assert not copied.run_spec.annotations.values
    for field in ("envs", "labels", "annotations"):
        copied.run_spec.ClearField(field)
    copied.offloaded_input_data.uri = ""
    return copied


def test_the_sdk_builds_nothing_that_the_control_plane_has(server: ImageBuilderServer, tmp_path: Path) -> None:
    flyte_build(server, tmp_path)
    [built] = server.built
    server.images[built.target_image] = "registry.example.com/it-is-there"

    again = flyte_build(server, tmp_path)

    assert (again.returncode, len(server.built)) == (0, 1)
    assert "registry.example.com/it-is-there" in again.stdout


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(phase=phase_pb2.ACTION_PHASE_FAILED, error="broken"),
        Outcome(phase=phase_pb2.ACTION_PHASE_ABORTED, reason="enough"),
    ],
    ids=["failed", "aborted"],
)
def test_the_sdk_takes_a_failure_for_one(server: ImageBuilderServer, tmp_path: Path, outcome: Outcome) -> None:
    server.outcome = outcome
    theirs = flyte_build(server, tmp_path)

    assert theirs.returncode != 0
    assert "Build failed" in theirs.stdout + theirs.stderr


def test_the_sdk_misses_the_builder_where_there_is_none(tmp_path: Path) -> None:
    with ImageBuilderServer(tmp_path / "backend", builder=None) as server:
        theirs = flyte_build(server, tmp_path)

    assert theirs.returncode != 0
    assert "remote image builder is not enabled" in theirs.stdout + theirs.stderr
