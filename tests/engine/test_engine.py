"""What tests of images may rely on: each capability of the engine, shown with the real clients."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.engine import images
from tests.engine.fixtures import Engine

pytestmark = pytest.mark.engine
ROOT = Path(__file__).parents[2]
SYNTAX = "# syntax=docker/dockerfile:1.10\n"
PYTHON = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim-bookworm"
FLYTE = f"ghcr.io/flyteorg/flyte:py{sys.version_info.major}.{sys.version_info.minor}-v{version('flyte')}"


def context(dockerfile: str, **files: str) -> bytes:
    """A build context as a tar archive, its Dockerfile under another name than the default."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, text in {"recipe": dockerfile, **files}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return sink.getvalue()


KINDS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


def manifest(name: str) -> dict[str, object]:
    """What a registry has under a name."""
    registry, _, rest = name.partition("/")
    path, _, tag = rest.rpartition(":")
    request = urllib.request.Request(
        f"http://{registry}/v2/{path}/manifests/{tag}", headers={"Accept": ", ".join(KINDS)}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, object] = json.load(answer)
        return found


def test_buildx_builds_a_context_from_standard_input_and_pushes_it(engine: Engine, image_name: str) -> None:
    feed = context(f"{SYNTAX}FROM scratch\nCOPY greeting /\n", greeting="hello")
    ran = engine.docker("buildx", "build", "-f", "recipe", "-t", image_name, "--push", "-", feed=feed)
    assert ran.returncode == 0, ran.stderr
    assert manifest(image_name)["schemaVersion"] == 2


@pytest.fixture
def older(engine: Engine) -> dict[str, str]:
    """The variables that choose the engine and the client from before buildx."""
    if not engine.record.older_environment:
        pytest.skip("this Debian release has no engine from before buildx")
    return {**engine.record.older_environment, "DOCKER_BUILDKIT": "1", "TOKEN": "s3cret"}


def mirrored_dockerfile(engine: Engine, step: str) -> str:
    syntax, python = (images.mirrored(name, engine.record) for name in ("docker/dockerfile:1.10", PYTHON))
    return f"# syntax={syntax}\nFROM {python}\n{step}\n"


def test_without_buildx_an_image_is_built_from_the_registry_alone_and_pushed(
    engine: Engine, older: dict[str, str], image_name: str
) -> None:
    known = engine.docker("image", "inspect", "docker/dockerfile:1.10", environ=older)
    assert "No such image" in known.stderr
    step = 'RUN --mount=type=secret,id=t,target=/token test "$(cat /token)" = s3cret'
    words = ("-f", "recipe", "-t", image_name, "--secret", "id=t,env=TOKEN", "-")
    ran = engine.docker("build", *words, environ=older, feed=context(mirrored_dockerfile(engine, step)))
    assert ran.returncode == 0, ran.stderr
    pushed = engine.docker("push", image_name, environ=older)
    assert pushed.returncode == 0, pushed.stderr
    assert manifest(image_name)["schemaVersion"] == 2


def test_the_older_engine_has_no_secrets_as_variables(engine: Engine, older: dict[str, str]) -> None:
    feed = context(mirrored_dockerfile(engine, "RUN --mount=type=secret,id=t,env=TOKEN true"))
    ran = engine.docker("build", "-f", "recipe", "--secret", "id=t,env=TOKEN", "-", environ=older, feed=feed)
    assert ran.returncode == 1
    assert "exec.secretenv  is not supported by build server" in ran.stderr


def test_a_newer_client_without_buildx_cannot_build(engine: Engine, image_name: str, tmp_path: Path) -> None:
    environ = {**engine.client_settings(tmp_path, buildx=False), "DOCKER_BUILDKIT": "1"}
    ran = engine.docker("build", "-t", image_name, "-", environ=environ, feed=context("FROM scratch\n"))
    assert ran.returncode != 0
    assert "buildx component is missing" in ran.stderr


def test_an_image_for_two_platforms_is_pushed_as_one_index(engine: Engine, image_name: str) -> None:
    feed = context("FROM scratch\nCOPY greeting /\n", greeting="hello")
    words = ("--platform", "linux/amd64,linux/arm64", "--provenance=false", "-t", image_name, "--push", "-")
    ran = engine.docker("buildx", "build", "-f", "recipe", *words, feed=feed)
    assert ran.returncode == 0, ran.stderr
    entries = manifest(image_name)["manifests"]
    assert isinstance(entries, list)
    assert {entry["platform"]["architecture"] for entry in entries} == {"amd64", "arm64"}


def test_a_secret_reaches_a_step_as_a_variable_and_stays_out_of_the_image(engine: Engine, image_name: str) -> None:
    dockerfile = f'{SYNTAX}FROM {PYTHON}\nRUN --mount=type=secret,id=t,env=TOKEN test "$TOKEN" = s3cret-here\n'
    words = ("-f", "recipe", "--secret", "id=t,env=TOKEN", "-t", image_name, "--push", "--progress=plain", "-")
    ran = engine.docker("buildx", "build", *words, feed=context(dockerfile), environ={"TOKEN": "s3cret-here"})
    assert ran.returncode == 0, ran.stderr
    inspected = engine.docker("image", "inspect", image_name).stdout
    shown = engine.docker("run", "--rm", image_name, "python3", "-c", "import os; print(dict(os.environ))").stdout
    assert "PATH" in shown
    assert "s3cret-here" not in inspected
    assert "s3cret-here" not in shown


def test_a_step_that_fails_ends_the_build_with_its_number(engine: Engine, image_name: str) -> None:
    feed = context(f"FROM {PYTHON}\nRUN echo so it ends && exit 7\n")
    ran = engine.docker("buildx", "build", "-f", "recipe", "-t", image_name, "--progress=plain", "-", feed=feed)
    assert ran.returncode == 1
    assert "exit code: 7" in ran.stderr
    assert "recipe:2" in ran.stderr


def test_the_cache_goes_to_the_registry_and_comes_back(engine: Engine, image_name: str) -> None:
    reference = f"type=registry,ref={image_name.removesuffix(':1')}:cache"
    words = ("-f", "recipe", "--progress=plain", "-t", image_name, "--push", "-")
    feed = context(f"FROM {PYTHON}\nRUN echo {image_name} > /made\n")
    first = engine.docker("buildx", "build", "--cache-to", f"{reference},mode=max", *words, feed=feed)
    assert first.returncode == 0, first.stderr
    assert manifest(f"{image_name.removesuffix(':1')}:cache")["schemaVersion"] == 2
    second = engine.docker("buildx", "build", "--cache-from", reference, *words, feed=feed)
    assert second.returncode == 0, second.stderr
    assert "importing cache manifest" in second.stderr


@pytest.mark.long
def test_steps_install_packages_with_uv_pip_and_apt(engine: Engine, image_name: str) -> None:
    dockerfile = f"""\
FROM {FLYTE}
USER root
RUN uv pip install --no-cache six && python3 -m venv /tmp/v && /tmp/v/bin/pip install six
RUN apt-get update && apt-get install -y --no-install-recommends tree
"""
    ran = engine.docker("buildx", "build", "-f", "recipe", "-t", image_name, "--load", "-", feed=context(dockerfile))
    assert ran.returncode == 0, ran.stderr
    shown = engine.docker("run", "--rm", image_name, "python", "-c", "import six; print(six.__name__)")
    assert shown.stdout == "six\n", shown.stderr


def test_the_flyte_image_is_set_up_as_the_sdks(engine: Engine) -> None:
    script = 'id -un; pwd; echo $VIRTUAL_ENV $PYTHONPATH; python -c "import flyte; print(flyte.__version__)"; which a0'
    ran = engine.docker("run", "--rm", FLYTE, "bash", "-c", script)
    expected = ["flyte", "/home/flyte", "/opt/venv /root", version("flyte"), "/opt/venv/bin/a0"]
    assert ran.stdout.splitlines() == expected, ran.stderr


@pytest.mark.parametrize("name", [FLYTE, PYTHON, "docker/dockerfile:1.10"])
def test_every_base_image_is_in_the_registry_where_mirrors_look(engine: Engine, name: str) -> None:
    assert manifest(images.mirrored(name, engine.record))["schemaVersion"] == 2


def test_flyte_build_builds_and_pushes_with_the_outside_unreachable(
    engine: Engine, image_name: str, tmp_path: Path
) -> None:
    registry, _, name = image_name.removesuffix(":1").partition("/")
    text = f"""\
import flyte

image = flyte.Image.from_debian_base(platform=("linux/amd64",), registry="{registry}", name="{name}")
env = flyte.TaskEnvironment(name="sdk", image=image.with_pip_packages("six"))
"""
    (tmp_path / "workflow.py").write_text(text)
    flyte = str(Path(sys.executable).parent / "flyte")
    environ = {**engine.environ, "HOME": str(tmp_path), "NO_COLOR": "1", "COLUMNS": "200"}
    ran = subprocess.run(
        [flyte, "build", "workflow.py", "env"], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    built = re.search(rf"{image_name.removesuffix(':1')}:\w+", ran.stdout)
    assert built, ran.stdout
    assert manifest(built[0])["schemaVersion"] == 2


def test_the_registry_with_a_login_refuses_strangers(engine: Engine, tmp_path: Path) -> None:
    name = f"{engine.record.login_registry}/test/login:1"
    build = ("buildx", "build", "-f", "recipe", "-t", name, "--push", "-")
    feed = context("FROM scratch\nCOPY greeting /\n", greeting="hello")
    stranger = engine.docker(*build, feed=feed, environ=engine.client_settings(tmp_path / "stranger"))
    assert stranger.returncode == 1
    assert "401 Unauthorized" in stranger.stderr
    known = engine.docker(*build, feed=feed, environ=engine.client_settings(tmp_path / "known", login=True))
    assert known.returncode == 0, known.stderr


def test_the_readonly_registry_gives_and_refuses_to_take(engine: Engine) -> None:
    name = f"{engine.record.readonly_registry}/test/readonly:1"
    feed = context("FROM scratch\nCOPY greeting /\n", greeting="hello")
    ran = engine.docker("buildx", "build", "-f", "recipe", "-t", name, "--push", "-", feed=feed)
    assert ran.returncode == 1
    assert "405 Method Not Allowed" in ran.stderr
    there = images.mirrored(PYTHON, engine.record).replace(engine.record.registry, engine.record.readonly_registry)
    assert manifest(there)["schemaVersion"] == 2


def test_a_base_image_that_the_registry_lacks_ends_the_build(engine: Engine, image_name: str) -> None:
    feed = context(f"FROM {image_name}\n")
    ran = engine.docker("buildx", "build", "-f", "recipe", "-", feed=feed)
    assert ran.returncode == 1
    assert f"{image_name}: not found" in ran.stderr
    with pytest.raises(urllib.error.HTTPError, match="404"):
        manifest(image_name)


def test_starting_twice_leaves_the_engine_as_it_is(engine: Engine) -> None:
    before = (engine.folder.root / "engine/pid").read_text()
    ran = subprocess.run(
        [sys.executable, "-m", "tests.engine", "start"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert f"export FLYTE_BUILD_REGISTRY={engine.record.registry}\n" in ran.stdout
    assert (engine.folder.root / "engine/pid").read_text() == before
