"""The image that is built here equals the one that the SDK's own `flyte build` makes of the same code.

Same packages, environment, user, working folder and files. Both are built by the same engine, the SDK's from the images
that the engine holds under their outside names, ours through mirrors.
"""

from __future__ import annotations

import json
import os
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cluster import registered_in
from tests.engine.fixtures import Engine
from tests.repository import SCRIPTS, Repository

FLYTE = f"ghcr.io/flyteorg/flyte:py{sys.version_info.major}.{sys.version_info.minor}-v{version('flyte')}"
pytestmark = [pytest.mark.engine, pytest.mark.long, pytest.mark.timeout(900)]

SURVEY = """
import hashlib, importlib.metadata, json, os, pwd, stat, sys

def files(top, content):
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name not in ("__pycache__", ".cache", ".flyte")]
        for name in names:
            path = f"{folder}/{name}"
            if name.endswith(LEFT_OUT) or os.path.islink(path):
                continue
            found = os.stat(path)
            owner = pwd.getpwuid(found.st_uid).pw_name
            digest = hashlib.sha256(open(path, "rb").read()).hexdigest() if content else found.st_size
            yield path, [owner, stat.S_IMODE(found.st_mode) & 0o100, digest]

LEFT_OUT = (".pyc", "RECORD", "direct_url.json", "uv_cache.json", "CACHEDIR.TAG")
mine = [path for top in ("/opt", "/home", "/root", "/made") for path in files(top, content=True)]
rest = list(files("/usr/bin", content=False)) + list(files("/etc/ssl", content=False))
packages = sorted((d.metadata["Name"], d.version) for d in importlib.metadata.distributions())
variables = {k: v for k, v in os.environ.items() if k not in ("_F_IMG_ID", "HOSTNAME")}
print(json.dumps({
    "packages": packages, "variables": variables, "user": pwd.getpwuid(os.getuid()).pw_name, "folder": os.getcwd(),
    "python": sys.executable, "files": dict(mine), "programs": dict(rest),
}))
"""

HEAD = """
import pathlib
import flyte

HERE = pathlib.Path(__file__).parent
base = flyte.Image.from_debian_base(registry="{registry}", name="{name}", platform=("linux/amd64",))
image = {image}
env = flyte.TaskEnvironment(name="{name}", image=image)


@env.task
async def work(amount: int) -> int:
    return amount
"""

PYPROJECT = """
[project]
name = "wares"
version = "1.0"
dependencies = ["six==1.17.0"]

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
"""
SCRIPT = """
# /// script
# requires-python = ">=3.10"
# dependencies = ["six==1.17.0"]
# ///
print("hello")
"""
PROJECT = {"wares/pyproject.toml": PYPROJECT, "wares/wares/__init__.py": "PRICE = 1\n", "wares/README.md": "wares\n"}
TREE = {"data/one.txt": "1\n", "data/deep/two.txt": "2\n", "data/left.log": "left out\n"}


class Case(NamedTuple):
    image: str
    files: dict[str, str] = {}


CASES = {
    "plain": Case("base"),
    "packages": Case('base.with_pip_packages("six==1.17.0", "idna==3.10")'),
    "options": Case('base.with_pip_packages("six", pre=True, extra_args="--no-deps")'),
    "requirements": Case('base.with_requirements(HERE / "needs.txt")', {"needs.txt": "six==1.17.0\nidna==3.10\n"}),
    "apt": Case('base.with_apt_packages("tree")'),
    "commands": Case('base.with_commands(["mkdir -p /made", "echo done > /made/file"])'),
    "variables": Case('base.with_env_vars({"STAGE": "test", "EMPTY": "", "PATH": "/made:$PATH"})'),
    "folder": Case('base.with_workdir("/home/elsewhere")'),
    "source_file": Case('base.with_source_file(HERE / "data" / "one.txt", "/made/")', TREE),
    "source_folder": Case('base.with_source_folder(HERE / "data")', TREE),
    "contents": Case('base.with_source_folder(HERE / "data", "/made", copy_contents_only=True)', TREE),
    "ignored": Case(
        'base.with_dockerignore(HERE / ".dockerignore").with_source_folder(HERE / "data")',
        {**TREE, ".dockerignore": "**/*.log\n"},
    ),
    "uv_script": Case(
        'flyte.Image.from_uv_script(HERE / "job.py", registry="{registry}", name="{name}", platform=("linux/amd64",))',
        {"job.py": SCRIPT},
    ),
    "uv_dependencies": Case('base.with_uv_project(HERE / "wares" / "pyproject.toml")', PROJECT),
    "uv_project": Case(
        'base.with_uv_project(HERE / "wares" / "pyproject.toml", project_install_mode="install_project")', PROJECT
    ),
    "dockerfile": Case(
        'flyte.Image.from_dockerfile(HERE / "box" / "Dockerfile", registry="{registry}", name="{name}")',
        {
            "box/Dockerfile": "FROM {flyte}\nCOPY data /made\nENV A=b\nUSER root\nWORKDIR /made\n",
            "box/data/one.txt": "1\n",
            "box/data/two.log": "2\n",
            "box/.dockerignore": "**/*.log\n",
        },
    ),
}


def surveyed(engine: Engine, uri: str) -> dict[str, Any]:
    """What is in an image, as its own Python sees it."""
    pulled = engine.docker("pull", uri)
    assert pulled.returncode == 0, pulled.stderr
    ran = engine.docker("run", "--rm", "--network=none", uri, "python", "-c", SURVEY)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("name", CASES)
def test_an_image_is_the_one_that_flyte_build_makes(name: str, engine: Engine, tmp_path: Path) -> None:
    case = CASES[name]
    registry, image_name = engine.record.registry, name.replace("_", "-")
    image = f"{registry}/{image_name}"
    filled = {"{image}": case.image, "{registry}": registry, "{name}": image_name, "{flyte}": FLYTE}
    mirrors = ", ".join(f'"{key}" = "{value}"' for key, value in engine.record.mirrors.items())
    manifest = f'[images]\nmirrors = {{ {mirrors} }}\n[targets.it]\npath = "it.py"\nenvironment = "env"\n'
    repository = Repository(tmp_path / "repo", {"deploy.toml": manifest})
    for path, text in {"it.py": HEAD, **case.files}.items():
        for mark, value in filled.items():
            text = text.replace(mark, value)
        repository.write(path, text.lstrip())
    repository.environ |= engine.record.environment
    repository.environ["PATH"] = f"{SCRIPTS}{os.pathsep}{repository.environ['PATH']}"  # `flyte build` asks uv

    ours = repository.doit("deploy", timeout=600)  # before `flyte build`, which may leave a uv.lock in a project
    assert ours.code == 0, ours.err
    theirs = repository.run(str(SCRIPTS / "flyte"), "--output-format", "json", "build", "it.py", "env", timeout=600)
    assert theirs.code == 0, theirs.out + theirs.err
    (uri,) = set(re.findall(rf"{re.escape(image)}:[\w.-]+", theirs.out + theirs.err))
    spec = registered_in(repository.folder)[f"{image_name}.work"][-1].spec
    assert surveyed(engine, spec.task_template.container.image) == surveyed(engine, uri)
