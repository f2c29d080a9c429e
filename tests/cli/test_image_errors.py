"""What a user reads when an image cannot be found, or cannot be built by a backend: each message whole, and the code.

What only a Docker engine can show is shown by the tests that have one.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from flyteidl2.common import phase_pb2

from tests.http_faults import Reply, faulty_server
from tests.image_builder_service import ImageBuilderServer, Outcome, builder_task
from tests.repository import Repository, environment, failures, small

LAYERS = 'flyte.Image.from_debian_base(name="base", registry="{registry}").with_pip_packages("pandas")'
DEBIAN = "flyte.Image.from_debian_base()"
NAMED = 'flyte.Image.from_base("debian:12").clone(name="base", registry="localhost:1", extendable=True)'


def workflow(name: str, image: str) -> str:
    return f"import pathlib\n{environment(name, f', image={image}')}"


# --- local images


def with_image(folder: Path, image: str, settings: str = "") -> Repository:
    repository = small(folder, fraud_py=workflow("fraud", image))
    repository.write("deploy.toml", settings + repository.read("deploy.toml"))
    return repository


@pytest.mark.error("RegistryNotSet")
def test_an_image_to_be_built_without_a_registry_says_where_to_set_one(tmp_path: Path) -> None:
    ran = with_image(tmp_path, f'{DEBIAN}.with_pip_packages("pandas")').doit()
    assert (ran.code, failures(ran)) == (
        1,
        {
            "images:fraud": "environment `fraud`: its image `flyte` has to be built, and no registry is set to push it "
            'to; set `registry` in [images], such as `registry = "localhost:5000"`, or name one in the code'
        },
    )


def tagged(told: str) -> str:
    """A message with TAG for the image's tag."""
    tag = told.partition("base:")[2][:32]
    assert len(tag) == 32
    assert tag.isalnum()
    return told.replace(tag, "TAG")


@pytest.mark.error("ImageStateUnknown")
def test_a_registry_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        registry = f"localhost:{taken.getsockname()[1]}"
        repository = with_image(tmp_path, LAYERS.format(registry=registry))
        ran = repository.doit()
    assert (ran.code, list(failures(ran))) == (1, ["images:fraud"])
    assert tagged(failures(ran)["images:fraud"]) == (
        f"cannot tell whether `{registry}/base:TAG` exists: it cannot be reached: [Errno 111] Connection refused; "
        f"check that the registry `{registry}` runs and that `docker login {registry}` was done with an account that "
        "may read it"
    )


@pytest.mark.error("DockerMissing")
def test_an_image_to_be_built_without_docker_says_what_to_install(tmp_path: Path) -> None:
    absent = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'
    with faulty_server(lambda _: Reply(404, absent)) as server:
        registry = server.url.removeprefix("http://")
        repository = with_image(tmp_path, LAYERS.format(registry=registry))
        repository.environ["PATH"] = str(tmp_path)
        ran = repository.doit()
    assert (ran.code, list(failures(ran))) == (1, ["images:fraud"])
    assert tagged(failures(ran)["images:fraud"]) == (
        f"`{registry}/base:TAG` has to be built, and there is no `docker` command; install Docker, "
        'or set `builder = "remote"` in [images] for a backend that builds images'
    )


# --- images that the backend builds


@pytest.mark.error("ImageNotRemote")
def test_an_image_that_no_backend_can_build_is_told(tmp_path: Path) -> None:
    image = 'flyte.Image.from_dockerfile(pathlib.Path("Dockerfile"), "ghcr.io/org", "base")'
    repository = with_image(tmp_path, image, '[images]\nbuilder = "remote"\n')
    repository.write("Dockerfile", "FROM debian:12\n")
    ran = repository.doit()
    assert (ran.code, failures(ran)) == (
        1,
        {
            "images:fraud": "fraud.py: the image of environment `fraud` cannot be built by the backend: it is made by "
            "`Image.from_dockerfile`, which only the local builder can build; "
            'set `builder = "local"` and `registry` in [images]'
        },
    )


INSTEAD = 'set `builder = "local"` and `registry` in [images]'
REMOTE = {
    "RemoteBuilderMissing": (
        {"builder": None},
        "{endpoint}: this control plane builds no images: that needs Union's image builder; to build on this machine, "
        + INSTEAD,
    ),
    "RemoteBuilderIncompatible": (
        {"builder": builder_task(inputs={"spec": str, "base": str})},
        "{endpoint}: the image builder `build-image` takes other inputs than this version of `flyte` gives: Too many "
        "keyword arguments provided, expected inputs dict_keys(['spec', 'base']), args dict_keys(['spec', 'context', "
        "'target_image']); install the version of `flyte` that this control plane wants",
    ),
    "RemoteBuildFailed": (
        {"outcome": Outcome(phase=phase_pb2.ACTION_PHASE_FAILED, error="No matching distribution: pandaz")},
        "image `base:TAG`: the backend's build of it failed; correct what its log names: {run}\n"
        "  No matching distribution: pandaz",
    ),
    "RemoteBuildAborted": (
        {"outcome": Outcome(phase=phase_pb2.ACTION_PHASE_ABORTED, reason="too slow")},
        "image `base:TAG`: the backend's build of it was aborted: too slow; run it again; it was {run}",
    ),
    "RemoteBuildWithoutImage": (
        {"outcome": Outcome(uri="")},
        "image `base:TAG`: the backend's build of it ended well but names no image; show {run} to who runs the "
        f"control plane, or {INSTEAD}",
    ),
}
"""Class -> what the control plane is, and the message."""


@pytest.mark.parametrize("error", [pytest.param(error, marks=pytest.mark.error(error)) for error in REMOTE])
def test_a_backend_that_does_not_build_an_image_is_told(error: str, tmp_path: Path) -> None:
    options, expected = REMOTE[error]
    with ImageBuilderServer(tmp_path / "server", **options) as server:
        settings = f'[flyte]\nendpoint = "{server.endpoint}"\ninsecure = true\n[images]\nbuilder = "remote"\n'
        image = 'flyte.Image.from_debian_base(name="base").with_pip_packages("pandas")'
        repository = with_image(tmp_path, image, settings)
        ran = repository.doit()
    host = server.endpoint.removeprefix("dns:///")
    run = f"http://{host}/v2/domain/development/project/flytesnacks/runs/run1"
    told = failures(ran)["images:fraud"]
    assert (ran.code, list(failures(ran))) == (1, ["images:fraud"])
    assert (tagged(told) if "TAG" in expected else told) == expected.format(endpoint=server.endpoint, run=run)
