"""What a user reads when an image cannot be built or pushed here: a real engine, each message whole, the exit code."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.engine.fixtures import Engine
from tests.http_faults import Reply, Request, faulty_server, forward
from tests.repository import MANIFEST, Repository, environment, failures, small
from tests.unprivileged import bound

pytestmark = [pytest.mark.timeout(300)]

TAG = re.compile(r"\b[0-9a-f]{32}\b")
SCRATCH = 'flyte.Image.from_dockerfile(pathlib.Path("Dockerfile"), "{registry}", "base")'


def repository_of(
    folder: Path, engine: Engine, dockerfile: str, *, image: str = SCRATCH, registry: str = ""
) -> Repository:
    """A repository whose one image is made of a Dockerfile."""
    made = image.format(registry=registry or engine.record.registry)
    repository = small(folder, fraud_py=f"import pathlib\n{environment('fraud', f', image={made}')}")
    repository.write("Dockerfile", dockerfile)
    repository.environ |= engine.record.environment
    return repository


def told(repository: Repository, **environ: str) -> str:
    """The failure of the images step, with TAG for the tag and LOG for the log's path."""
    repository.environ |= environ
    ran = repository.doit("deploy", timeout=250)
    assert (ran.code, list(failures(ran))) == (1, ["images:fraud"]), ran.err
    return re.sub(r"\.flyte-build/images/TAG\.log", "LOG", TAG.sub("TAG", failures(ran)["images:fraud"]))


# --- no engine


@pytest.mark.error("EngineUnreachable")
def test_an_engine_that_does_not_answer_is_told(tmp_path: Path) -> None:
    if not shutil.which("docker"):
        pytest.skip("there is no `docker` command")
    absent = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'
    with faulty_server(lambda _: Reply(404, absent)) as server:
        registry = server.url.removeprefix("http://")
        made = SCRATCH.format(registry=registry)
        repository = small(tmp_path, fraud_py=f"import pathlib\n{environment('fraud', f', image={made}')}")
        repository.write("Dockerfile", "FROM scratch\n")
        message = told(repository, DOCKER_HOST=f"unix://{tmp_path}/nowhere.sock")
    assert message == (
        f"`{registry}/base:TAG` has to be built, and the Docker engine does not answer: Cannot connect to the Docker "
        f"daemon at unix://{tmp_path}/nowhere.sock. Is the docker daemon running?; start it, or set DOCKER_HOST or "
        "`docker context use` to one that runs"
    )


@pytest.mark.engine
@pytest.mark.error("EngineForbidden")
def test_an_engine_that_this_user_may_not_use_is_told(engine: Engine, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only the superuser can lock a socket up")
    socket = Path(engine.record.environment["DOCKER_HOST"].removeprefix("unix://"))
    mode = socket.stat().st_mode
    repository = repository_of(tmp_path, engine, "FROM scratch\n")
    try:
        socket.chmod(0)
        ran = repository.doit("deploy", under=bound())
    finally:
        socket.chmod(mode)
    assert (ran.code, list(failures(ran))) == (1, ["images:fraud"])
    message = TAG.sub("TAG", failures(ran)["images:fraud"])
    start = f"`{engine.record.registry}/base:TAG` has to be built, and this user may not use the Docker engine: "
    assert message.startswith(start)
    assert "permission denied" in message
    assert message.endswith(
        "; add the user to the group that owns the socket (often `docker`), or use a rootless engine"
    )


@pytest.mark.engine
@pytest.mark.error("BuildxMissing")
def test_a_client_that_cannot_build_is_told(engine: Engine, tmp_path: Path) -> None:
    repository = repository_of(tmp_path, engine, "FROM scratch\n")
    client = engine.folder.programs.docker
    path = f"{Path(client).parent}{os.pathsep}{tmp_path}"
    message = told(repository, **engine.client_settings(tmp_path / "client", buildx=False), PATH=path)
    assert message == (
        f"`{engine.record.registry}/base:TAG` has to be built, and `{client}` builds with buildx, which is missing; "
        "install docker-buildx"
    )


@pytest.mark.engine
@pytest.mark.error("SeveralPlatforms")
def test_several_platforms_without_buildx_are_refused_before_anything_is_built(engine: Engine, tmp_path: Path) -> None:
    if not engine.record.older_environment:
        pytest.skip("this Debian release has no client that builds without buildx")
    image = SCRATCH.removesuffix(")") + ', platform=("linux/amd64", "linux/arm64"))'
    repository = repository_of(tmp_path, engine, "FROM scratch\n", image=image)
    assert told(repository, **engine.record.older_environment) == (
        f"`{engine.record.registry}/base:TAG` is for linux/amd64 and linux/arm64, and there is no buildx, without "
        "which an image can be built for one platform only; install docker-buildx, or set "
        '`platforms = ["linux/amd64"]` in [images]'
    )


@pytest.mark.engine
def test_one_platform_of_several_is_built_without_buildx_when_the_manifest_says_which(
    engine: Engine, tmp_path: Path
) -> None:
    if not engine.record.older_environment:
        pytest.skip("this Debian release has no client that builds without buildx")
    image = SCRATCH.removesuffix(")") + ', platform=("linux/amd64", "linux/arm64"))'
    repository = repository_of(tmp_path, engine, "FROM scratch\nCOPY Dockerfile /\n", image=image)
    repository.write("deploy.toml", repository.read("deploy.toml") + '[images]\nplatforms = ["linux/amd64"]\n')
    repository.environ |= engine.record.older_environment
    ran = repository.doit("deploy", timeout=250)
    assert ran.code == 0, ran.err


# --- what is needed is not there


@pytest.mark.engine
@pytest.mark.error("BuildSecretMissing")
def test_a_secret_that_is_nowhere_is_told_before_anything_is_built(engine: Engine, tmp_path: Path) -> None:
    image = (
        'flyte.Image.from_base("debian:12").clone(name="base", registry="{registry}", extendable=True)'
        '.with_commands(["true"], secret_mounts=[flyte.Secret(key="token", group="acme")])'
    )
    assert told(repository_of(tmp_path, engine, "", image=image)) == (
        f"building `{engine.record.registry}/base:TAG` needs a secret that is not here; set the environment variable "
        "`ACME_TOKEN`, or write the file `/etc/secrets/acme_token`"
    )


class Failing(NamedTuple):
    error: str
    dockerfile: str
    message: str
    """With REGISTRY and TAG; what the engine says may differ between versions, and stands as `...`."""


def no_space(step: str) -> str:
    return (
        f"building `REGISTRY/base:TAG`: no space was left for `{step}`: either the disk of the Docker engine is "
        "full, then free some with `docker system prune` or `docker builder prune`; or the step wrote into a tmpfs of "
        "its own or /dev/shm, then give that a greater size; the whole log is in LOG"
    )


FAILING = {
    "base": Failing(
        "BaseImageMissing",
        "FROM REGISTRY/no/such:1\n",
        "building `REGISTRY/base:TAG`: the image `REGISTRY/no/such:1` cannot be pulled: ...not found; check its name, "
        "`docker login`, and `mirrors` in [images]",
    ),
    "copied": Failing(
        "BaseImageMissing",
        "FROM scratch\nCOPY --from=REGISTRY/no/such:1 /a /b\n",
        "building `REGISTRY/base:TAG`: the image `REGISTRY/no/such:1` cannot be pulled: ...not found; check its name, "
        "`docker login`, and `mirrors` in [images]",
    ),
    "full": Failing(
        "EngineDiskFull",
        "FROM REGISTRY/hub/PYTHON\nRUN dd if=/dev/zero of=/dev/full count=1\n",
        no_space("[2/2] RUN dd if=/dev/zero of=/dev/full count=1"),
    ),
    "said-by-another-step": Failing(
        "BuildFailed",
        "FROM REGISTRY/hub/PYTHON\nRUN echo no space left on device\nRUN exit 7\n",
        "building `REGISTRY/base:TAG` failed at `[3/3] RUN exit 7`; the whole log is in LOG\n...",
    ),
    "tmpfs": Failing(
        "EngineDiskFull",
        "FROM REGISTRY/hub/PYTHON\nRUN --mount=type=tmpfs,target=/s,size=65536 head -c 99999 /dev/zero > /s/x\n",
        no_space("... RUN --mount=type=tmpfs,target=/s,size=65536 head -c 99999 /dev/zero > /s/x"),
    ),
}


@pytest.mark.engine
@pytest.mark.parametrize("case", [pytest.param(c, id=i, marks=pytest.mark.error(c.error)) for i, c in FAILING.items()])
def test_what_stops_a_build_is_named_with_what_to_do(case: Failing, engine: Engine, tmp_path: Path) -> None:
    python = f"python:{'.'.join(map(str, sys.version_info[:2]))}-slim-bookworm"
    registry = engine.record.registry
    dockerfile = case.dockerfile.replace("REGISTRY", registry).replace("PYTHON", python)
    message = told(repository_of(tmp_path, engine, dockerfile))
    expected = re.escape(case.message.replace("REGISTRY", registry)).replace(r"\.\.\.", "[^;]*")
    assert re.fullmatch(expected, message), message


@pytest.mark.engine
@pytest.mark.error("PushRefused")
def test_a_registry_that_takes_nothing_is_told(engine: Engine, tmp_path: Path) -> None:
    registry = engine.record.readonly_registry
    message = told(repository_of(tmp_path, engine, "FROM scratch\nCOPY Dockerfile /\n", registry=registry))
    start = f"`{registry}/base:TAG` was built and cannot be pushed: "
    assert message.startswith(start)
    assert "405" in message
    assert message.endswith(
        f"; run `docker login {registry}` with an account that may write there, or set another `registry` in [images]"
    )


@pytest.mark.engine
def test_a_registry_that_wants_a_login_is_given_the_one_that_docker_keeps(engine: Engine, tmp_path: Path) -> None:
    registry = engine.record.login_registry
    repository = repository_of(tmp_path, engine, "FROM scratch\nCOPY Dockerfile /\n", registry=registry)
    assert told(repository) == (
        f"cannot tell whether `{registry}/base:TAG` exists: 401 authentication required; check that the registry "
        f"`{registry}` runs and that `docker login {registry}` was done with an account that may read it"
    )
    repository.environ |= engine.client_settings(tmp_path / "client", login=True)
    ran = repository.doit("deploy", timeout=250)
    assert ran.code == 0, ran.err


@pytest.mark.engine
@pytest.mark.error("PushedImageMissing")
def test_an_image_that_is_not_where_it_was_pushed_is_told(engine: Engine, tmp_path: Path) -> None:
    if not engine.record.older_environment:
        pytest.skip("only an older engine pushes without TLS to whatever is on this machine")
    there = forward(f"http://{engine.record.registry}")

    def forgetful(request: Request) -> Reply:
        return Reply(404) if request.method == "GET" and "/manifests/" in request.target else there(request)

    with faulty_server(forgetful) as server:
        registry = server.url.removeprefix("http://").replace("127.0.0.1", "localhost")
        repository = repository_of(tmp_path, engine, "FROM scratch\nCOPY Dockerfile /\n", registry=registry)
        message = told(repository, **engine.record.older_environment)
    assert message == (
        f"`{registry}/base:TAG` was built and pushed, and is not there for all its platforms; check that `{registry}` "
        "means the same registry to the Docker engine and to this machine"
    )


@pytest.mark.engine
@pytest.mark.error("BuildFailed")
def test_a_step_that_fails_is_named_and_its_last_lines_shown(engine: Engine, tmp_path: Path) -> None:
    lines = "for i in $(seq 100 199); do echo line $i; done; exit 7"
    python = f"python:{'.'.join(map(str, sys.version_info[:2]))}-slim-bookworm"
    dockerfile = f"FROM {engine.record.registry}/hub/{python}\nRUN {lines}\n"
    repository = repository_of(tmp_path, engine, dockerfile)
    first, *shown = told(repository).splitlines()
    log = re.escape(
        f"building `{engine.record.registry}/base:TAG` failed at `[2/2] RUN {lines}`; the whole log is in LOG"
    )
    assert re.fullmatch(log, first)
    assert len(shown) == 30
    assert any("line 199" in line for line in shown)
    assert not any("line 150" in line for line in shown)
    (kept,) = (repository.folder / ".flyte-build" / "images").glob("*.log")
    assert "line 100" in kept.read_text()


@pytest.mark.engine
def test_a_build_that_failed_is_tried_again_and_then_done(engine: Engine, tmp_path: Path) -> None:
    repository = repository_of(tmp_path, engine, f"FROM {engine.record.registry}/no/such:1\n")
    told(repository)
    repository.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
    ran = repository.doit("deploy", timeout=250)
    assert ran.code == 0, ran.err


@pytest.mark.error("RegistryMisnamed")
@pytest.mark.parametrize(
    ("registry", "reason"),
    [("localhost:50O0", "invalid port: '50O0'"), ("registry..example.com", "a part of its name is empty or too long")],
    ids=["port", "host"],
)
def test_a_registry_that_no_server_can_be_named_as_is_told(registry: str, reason: str, tmp_path: Path) -> None:
    image = ', image=flyte.Image.from_debian_base(name="own").with_pip_packages("httpx")'
    repository = small(tmp_path, fraud_py=environment("fraud", image))
    repository.write("deploy.toml", f'{MANIFEST}\n[images]\nregistry = "{registry}"\n')
    ran = repository.doit("images")
    assert ran.code == 1
    (message,) = failures(ran).values()
    assert TAG.sub("TAG", message) == (
        f"`{registry}/own:TAG`: `{registry}` cannot name a registry: {reason}; write HOST or HOST:PORT as the image's "
        "registry in the code or `registry` in [images]"
    )
