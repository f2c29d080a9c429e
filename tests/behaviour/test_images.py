"""Images with layers: built once, pushed, reused for ever, never stale, never assumed to exist.

With a real engine and a real registry on loopback; nothing outside is reached.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.cluster import registered_in, run
from tests.engine.fixtures import Engine
from tests.engine.images import outside_names
from tests.namespaces import apart
from tests.processes import ends, with_words
from tests.repository import Ran, Repository

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

BASE = """
import pathlib
import flyte

HERE = pathlib.Path(__file__).parent
image = flyte.Image.from_debian_base(name="{name}", platform=("linux/amd64",)){layers}
env = flyte.TaskEnvironment(name="{name}", image=image)


@env.task
async def {name}_task(amount: int) -> int:
    return amount
"""
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}-slim-bookworm"
TEST_RUN = uuid.uuid4().hex
UV = outside_names()[1].rpartition(":")[2]


MORE = """

{variable} = flyte.TaskEnvironment(name="{name}", image={image})


@{variable}.task
async def {name}_task() -> int:
    return 1
"""


def code(name: str, layers: str = '.with_commands(["echo made > /made"])') -> str:
    """A file with an environment in `env` and its image in `image`, which no earlier test run has pushed."""
    return BASE.format(name=name, layers=f'{layers}.with_env_vars({{"TEST_RUN": "{TEST_RUN}"}})')


def more(name: str, image: str) -> str:
    """One more environment for such a file, under its own name."""
    return MORE.format(variable=name, name=name, image=image)


def toml(value: dict[str, str]) -> str:
    return "{ " + ", ".join(f"{json.dumps(key)} = {json.dumps(text)}" for key, text in value.items()) + " }"


def manifest(engine: Engine, *names: str, registry: str = "", images: str = "") -> str:
    targets = "".join(f'[targets.{name}]\npath = "{name}.py"\nenvironment = "env"\n' for name in names)
    pushed_to = registry or engine.record.registry
    return f'[images]\nregistry = "{pushed_to}"\nmirrors = {toml(engine.record.mirrors)}\n{dedent(images)}\n{targets}'


@pytest.fixture
def workplace(engine: Engine, tmp_path: Path) -> Callable[..., Repository]:
    """Makes a repository whose commands find the engine."""

    def make(files: dict[str, str], *names: str, **settings: str) -> Repository:
        made = Repository(tmp_path, {"deploy.toml": manifest(engine, *names, **settings), **files})
        made.environ |= engine.record.environment
        return made

    return make


Workplace = Callable[..., Repository]


def deployed(repository: Repository, *words: str) -> Ran:
    done = repository.doit("deploy", *words, timeout=500)
    assert done.code == 0, done.err
    return done


def image_of(repository: Repository, task: str) -> str:
    """The image in the newest spec of a task."""
    spec = registered_in(repository.folder)[task][-1].spec
    return str(spec.task_template.container.image)


def summaries(ran: Ran) -> dict[str, str]:
    """Target -> what was done about its images, of a run with `output=jsonl`."""
    finished = [event for event in ran.events if event["event"] == "finished" and event["step"] == "images"]
    return {event["target"]: event["summary"] for event in finished if "summary" in event}


# --- the whole round


def test_a_task_runs_in_the_image_that_was_built_for_it(engine: Engine, workplace: Workplace) -> None:
    layers = (
        '.with_pip_packages("six==1.17.0").with_source_folder(HERE / "data", "/opt")'
        '.with_commands(["cp /opt/word.txt /word.txt"])'
    )
    task = """

@env.task
async def read(times: int) -> str:
    import six
    from helper import doubled
    return doubled(pathlib.Path("/word.txt").read_text().strip()) * times + six.__version__
"""
    repository = workplace(
        {
            "full.py": code("full", layers) + task,
            "helper.py": "def doubled(text: str) -> str:\n    return text + text\n",
            "data/word.txt": "ab\n",
        },
        "full",
    )
    deployed(repository)
    spec = registered_in(repository.folder)["full.read"][-1].spec
    assert spec.task_template.container.image == image_of(repository, "full.full_task")

    def in_container(command: list[str], work: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
        (work.parent / "outputs").chmod(0o777)
        work.chmod(0o777)
        work.parent.chmod(0o777)
        mounted = f"--volume={repository.folder}:{repository.folder}"
        variables = [f"--env={name}={value}" for name, value in environ.items()]
        image = spec.task_template.container.image
        words = [
            "run",
            "--rm",
            "--network=none",
            "--user=root",
            mounted,
            f"--workdir={work}",
            *variables,
            image,
            *command,
        ]
        return engine.docker(*words)

    assert run(spec, repository.folder / "run", {"times": 2}, in_container) == {"o0": "abababab1.17.0"}


# --- done once


def test_an_unchanged_deploy_needs_neither_engine_nor_registry(workplace: Workplace) -> None:
    without_network = apart("net")
    repository = workplace({"once.py": code("once")}, "once")
    deployed(repository)
    repository.environ["DOCKER_HOST"] = "unix:///nowhere"
    again = repository.doit("deploy", under=without_network)
    assert again.code == 0, again.err
    assert "1 target: 1 fresh" in again.err
    repository.write("once.py", code("once", '.with_commands(["echo other > /made"])'))
    assert repository.doit("deploy", under=without_network).code == 1


def test_an_image_of_two_environments_and_two_targets_is_built_once(workplace: Workplace) -> None:
    one = code("shared", '.with_commands(["echo shared > /made"])') + more("again", "image")
    two = one.replace('TaskEnvironment(name="shared"', 'TaskEnvironment(name="other"').replace("again", "more")
    repository = workplace({"one.py": one, "two.py": two}, "one", "two")
    repository.write("deploy.toml", repository.read("deploy.toml").replace('environment = "env"', "all = true"))
    done = deployed(repository, "output=jsonl")
    assert sorted(summaries(done).values()) == ["1 built", "1 reused"]
    uris = {image_of(repository, task) for task in registered_in(repository.folder)}
    assert len(uris) == 1


def test_only_the_image_whose_requirements_changed_is_built_again(workplace: Workplace) -> None:
    layers = '.with_requirements(HERE / "needs.txt")'
    repository = workplace(
        {"plain.py": code("plain"), "needy.py": code("needy", layers), "needs.txt": "six==1.16.0\n"}, "plain", "needy"
    )
    deployed(repository)
    before = {name: image_of(repository, f"{name}.{name}_task") for name in ("plain", "needy")}

    repository.write("needy.py", repository.read("needy.py") + "\n# a remark\n")
    edited = deployed(repository, "output=jsonl")
    assert summaries(edited) == {}
    assert image_of(repository, "needy.needy_task") == before["needy"]

    repository.write("needs.txt", "six==1.17.0\n")
    done = deployed(repository, "output=jsonl")
    assert summaries(done) == {"needy": "1 built"}
    assert image_of(repository, "plain.plain_task") == before["plain"]
    assert image_of(repository, "needy.needy_task") != before["needy"]


def test_another_checkout_reuses_what_is_in_the_registry(workplace: Workplace, tmp_path: Path) -> None:
    repository = workplace({"twice.py": code("twice")}, "twice")
    deployed(repository)
    other = Repository(tmp_path / "elsewhere" / "deeper")
    for name in ("deploy.toml", "twice.py"):
        shutil.copy(repository.folder / name, other.folder / name)
    other.environ |= repository.environ | {"DOCKER_HOST": "unix:///nowhere"}
    assert summaries(deployed(other, "output=jsonl")) == {"twice": "1 reused"}
    assert image_of(other, "twice.twice_task") == image_of(repository, "twice.twice_task")


def test_a_plan_says_of_each_image_what_would_be_done_and_why(workplace: Workplace, tmp_path: Path) -> None:
    repository = workplace({"shown.py": code("shown")}, "shown")
    (line,) = (line for line in repository.doit("plan").out.splitlines() if line.startswith("  image "))
    uri = line.split()[2].rstrip(":")
    assert line == f"  image     shown: {uri}: would be built unless it is there (not done here yet)"
    deployed(repository)
    repository.write("shown.py", repository.read("shown.py").replace("return amount", "return amount + 1"))
    (line,) = (line for line in repository.doit("plan").out.splitlines() if line.startswith("  image "))
    assert re.fullmatch(f"  image     shown: {re.escape(uri)}: built, sha256:[0-9a-f]{{64}}", line)
    repository.write("shown.py", repository.read("shown.py").replace("echo made", "echo more"))
    (line,) = (line for line in repository.doit("plan").out.splitlines() if line.startswith("  image "))
    assert re.fullmatch(r"  image     shown: \S+: would be built unless it is there \(shown\.py changed\)", line)


# --- what goes into specs


def test_a_pinned_image_is_registered_by_its_digest(engine: Engine, workplace: Workplace) -> None:
    repository = workplace({"pinned.py": code("pinned")}, "pinned", images="pin = true")
    planned = repository.doit("plan")
    assert "as version [images]" in planned.out
    deployed(repository)
    uri = image_of(repository, "pinned.pinned_task")
    assert uri.startswith(f"{engine.record.registry}/pinned@sha256:")
    assert engine.docker("pull", uri).returncode == 0


def test_the_image_cache_of_every_task_holds_all_environments(workplace: Workplace) -> None:
    leaf = more("leaf", '"auto"') + "\nenv.depends_on.append(leaf)\n"
    repository = workplace({"tree.py": code("tree") + leaf}, "tree")
    deployed(repository)
    tasks = registered_in(repository.folder)
    for name in ("tree.tree_task", "leaf.leaf_task"):
        arguments = list(tasks[name][-1].spec.task_template.container.args)
        packed = arguments[arguments.index("--image-cache") + 1]
        cache: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(packed)))
        assert set(cache["image_lookup"]) == {"tree", "leaf"}
        assert cache["image_lookup"]["tree"] == image_of(repository, "tree.tree_task")


# --- the outside is unreachable, and layers are cached


def test_every_image_that_a_dockerfile_pulls_comes_from_the_mirror(engine: Engine, workplace: Workplace) -> None:
    dockerfile = """
        # syntax=docker/dockerfile:1.10
        ARG BASE=python
        FROM ghcr.io/astral-sh/uv:{uv} AS tools
        FROM ${{BASE}}:{python}
        COPY --from=tools /uv /usr/bin/uv
        COPY greeting.txt /
        RUN --mount=type=bind,from=ghcr.io/astral-sh/uv:{uv},source=/uv,target=/mounted /mounted --version
    """
    text = dedent(dockerfile).lstrip().format(uv=UV, python=PYTHON)
    image = 'flyte.Image.from_dockerfile(HERE / "docker" / "Dockerfile", registry="{registry}", name="mine")'
    source = BASE.replace('flyte.Image.from_debian_base(name="{name}", platform=("linux/amd64",)){layers}', image)
    files = {
        "mirrored.py": source.replace("{name}", "mirrored").replace("{registry}", engine.record.registry),
        "docker/Dockerfile": text,
        "docker/greeting.txt": "hello\n",
    }
    repository = workplace(files, "mirrored")
    repository.environ |= engine.record.older_environment or engine.record.environment
    deployed(repository)
    uri = image_of(repository, "mirrored.mirrored_task")
    assert engine.docker("run", "--rm", uri, "cat", "/greeting.txt").stdout == "hello\n"


def test_layers_go_to_the_cache_and_come_from_it(engine: Engine, workplace: Workplace) -> None:
    place = f"type=registry,ref={engine.record.registry}/layers:cache"
    settings = f"cache_from = [{json.dumps(place)}]\ncache_to = [{json.dumps(place + ',mode=max')}]"
    repository = workplace({"cached.py": code("cached", '.with_commands(["echo one"])')}, "cached", images=settings)
    deployed(repository)
    repository.write("cached.py", code("cached", '.with_commands(["echo one"]).with_env_vars({"A": "1"})'))
    deployed(repository)
    logs = "".join(path.read_text() for path in (repository.folder / ".flyte-build/images").glob("*.log"))
    assert "importing cache manifest" in logs


# --- secrets


def test_a_build_secret_is_nowhere_but_in_the_step_that_mounts_it(engine: Engine, workplace: Workplace) -> None:
    step = "test ${#TOKEN} = 9 && echo said $TOKEN"
    layers = f'.with_commands(["{step}"], secret_mounts="TOKEN")'
    repository = workplace({"secret.py": code("secret", layers)}, "secret")
    repository.environ["TOKEN"] = "hush-hush"
    done = deployed(repository, "output=jsonl")
    assert "hush-hush" not in done.out + done.err
    kept = [path for path in repository.folder.rglob("*") if path.is_file() and b"hush-hush" in path.read_bytes()]
    assert kept == []
    uri = image_of(repository, "secret.secret_task")
    assert "hush-hush" not in engine.docker("history", "--no-trunc", uri).stdout
    assert "hush-hush" not in engine.docker("image", "inspect", uri).stdout


def test_a_secret_that_a_failing_step_prints_is_shown_nowhere(workplace: Workplace) -> None:
    layers = '.with_commands(["echo said $TOKEN && exit 7"], secret_mounts="TOKEN")'
    repository = workplace({"loud.py": code("loud", layers)}, "loud")
    repository.environ["TOKEN"] = "hush-hush"
    done = repository.doit("deploy", "output=jsonl", timeout=500)
    assert done.code == 1
    assert "said ***" in done.out
    assert "failed at `" in done.out
    assert "hush-hush" not in done.out + done.err
    kept = [path for path in repository.folder.rglob("*") if path.is_file() and b"hush-hush" in path.read_bytes()]
    assert kept == []


# --- Ctrl-C


@pytest.mark.parametrize("words", [(), ("-n", "0")], ids=["threads", "one-after-another"])
def test_ctrl_c_ends_a_build_that_says_nothing(words: tuple[str, ...], workplace: Workplace) -> None:
    mark = str(uuid.uuid4())
    layers = f'.with_commands(["sleep 1000 && echo {mark}"])'
    repository = workplace({"endless.py": code("endless", layers)}, "endless")
    process = repository.start(*words, "deploy")
    assert process.stderr is not None
    assert any(f"RUN sleep 1000 && echo {mark}" in line for line in process.stderr)
    while not (steps := with_words(mark)):
        time.sleep(0.05)
    clients = with_words("/endless:")
    assert clients
    (log,) = (repository.folder / ".flyte-build/images").glob("*.log")
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert err.splitlines()[-1] == "interrupted; what had finished stays done"
    assert "FAILED" not in err
    assert all(map(ends, [*clients, *steps]))
    assert f"RUN sleep 1000 && echo {mark}" in log.read_text()
    assert not (repository.folder / ".flyte-build/targets/endless/images.json").exists()


# --- cleaning


def test_clean_removes_what_was_built_here_and_asks_no_registry(engine: Engine, workplace: Workplace) -> None:
    repository = workplace({"dusty.py": code("dusty")}, "dusty")
    deployed(repository)
    uri = image_of(repository, "dusty.dusty_task")
    assert engine.docker("image", "inspect", uri).returncode == 0
    dry = repository.doit("clean", "-n", "images")
    assert f"would remove image {uri}" in dry.out
    assert engine.docker("image", "inspect", uri).returncode == 0
    cleaned = repository.doit("clean", "images")
    assert f"removed image {uri}" in cleaned.out
    assert engine.docker("image", "inspect", uri).returncode != 0
    assert summaries(deployed(repository, "output=jsonl")) == {"dusty": "1 reused"}
    assert repository.doit("clean", "images").out.count("image ") == 0


def test_clean_removes_what_an_edit_has_left_behind_and_nothing_of_another_target(workplace: Workplace) -> None:
    repository = workplace({"old.py": code("old"), "kept.py": code("kept")}, "old", "kept")
    deployed(repository)
    before = image_of(repository, "old.old_task")
    repository.write("old.py", code("old", '.with_commands(["echo edited"])'))
    deployed(repository)
    cleaned = repository.doit("clean", "images:old").out
    for uri in (before, image_of(repository, "old.old_task")):
        assert f"removed image {uri}" in cleaned
    assert cleaned.count("removed image ") == 2
