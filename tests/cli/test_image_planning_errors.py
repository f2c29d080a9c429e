"""What an image cannot be planned with: each message whole, and the exit code, through the command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.repository import Repository, environment, failures


class Case(NamedTuple):
    image: str
    """What makes it, in Python; `BASE` is an image that layers can be added to."""
    problem: str
    """The message, after the file."""
    files: dict[str, str] = {}
    """Below the case's folder."""


DECLARED = "correct the path where the image is declared (relative ones start from the root)"
CASES = {
    "requirements": Case(
        'BASE.with_requirements("requirements.txt")',
        f"the image of environment `priced` needs the file `requirements/requirements.txt`, which does not exist; "
        f"{DECLARED}",
    ),
    "source": Case(
        'BASE.with_source_folder(pathlib.Path("src"))',
        f"the image of environment `priced` needs the folder `source/src`, which does not exist; {DECLARED}",
    ),
    "kind": Case(
        'BASE.with_source_file(pathlib.Path("src"))',
        f"the image of environment `priced` needs the file `kind/src`, which is a folder; {DECLARED}",
        {"src/a.py": ""},
    ),
    "dockerfile": Case(
        'flyte.Image.from_dockerfile("Dockerfile", "ghcr.io/org", "i")',
        f"the image of environment `priced` needs the file `dockerfile/Dockerfile`, which does not exist; {DECLARED}",
    ),
    "ignore": Case(
        'BASE.with_dockerignore(pathlib.Path("ignored.txt"))',
        f"the image of environment `priced` needs the file `ignore/ignored.txt`, which does not exist; {DECLARED}",
    ),
    "lock": Case(
        'BASE.with_poetry_project("pyproject.toml")',
        f"the image of environment `priced` needs the file `lock/poetry.lock`, which does not exist; {DECLARED}",
        {"pyproject.toml": ""},
    ),
    "local": Case(
        'BASE.with_uv_project("pyproject.toml")',
        "the image of environment `priced` needs the file `local/lib/pyproject.toml`, which does not exist; "
        f"{DECLARED}",
        {"pyproject.toml": '[tool.uv.sources]\nlib = { path = "lib", editable = true }\n'},
    ),
    "toml": Case(
        'BASE.with_uv_project("pyproject.toml")',
        "the image of environment `priced` cannot be built as declared: `toml/pyproject.toml` is no TOML: Expected ']' "
        "at the end of a table declaration (at line 1, column 9); mend that file",
        {"pyproject.toml": "[project\n"},
    ),
    "script": Case(
        'flyte.Image.from_uv_script("script.py", name="i")',
        "the image of environment `priced` cannot be built as declared: `script/script.py`: No uv metadata block "
        "found; mend the header of that script",
        {"script.py": "print(1)\n"},
    ),
    "pipe": Case(
        'BASE.with_source_folder(pathlib.Path("src"))',
        "the image of environment `priced` cannot hold `pipe/src/pipe`: it is a FIFO; mend it, or leave it out with a "
        "line in .dockerignore",
        {"src/a.py": ""},
    ),
    "broken": Case(
        'BASE.with_source_folder(pathlib.Path("src"))',
        "the image of environment `priced` cannot hold `broken/src/link`: it is a symbolic link to `nowhere`, which "
        "does not exist; mend it, or leave it out with a line in .dockerignore",
        {"src/a.py": ""},
    ),
    "left_out": Case(
        'BASE.with_source_folder(pathlib.Path("src"))',
        "the image of environment `priced` copies the folder `left_out/src`, of which `left_out/.dockerignore` leaves "
        "out every file; add a line `!PATH` there, or do not copy it",
        {"src/a.py": "", ".dockerignore": "**/*.py\n"},
    ),
    "empty": Case(
        'BASE.with_source_folder(pathlib.Path("src"))',
        "the image of environment `priced` copies the folder `empty/src`, which holds no files; put some there, or "
        "drop it",
        {"src/__pycache__/a.pyc": ""},
    ),
    "variable": Case(
        'BASE.with_env_vars({"A": "one\\ntwo"})',
        "the image of environment `priced` cannot be built as declared: the value of variable `A` has a line break, "
        "which a Dockerfile cannot say; set it in the environment's `env_vars` instead",
    ),
    "unnamed": Case(
        'flyte.Image.from_base("python:3.12").clone(registry="ghcr.io/org")',
        "the image of environment `priced` has layers or a registry, but no name; give it one with `.clone(name=...)`",
    ),
    "no_base": Case(
        "flyte.Image.from_base(None)",
        "the image of environment `priced` has no base; give `Image.from_base` a URI (one from an environment variable "
        "needs that variable in `pass_env`)",
    ),
    "unknown": Case(
        "BASE.clone(addl_layer=Mine())",
        "the image of environment `priced` cannot be built as declared: it has a layer of the kind `Mine`, which "
        "flyte_build does not know; build it with `flyte build`, and name it by its URI",
    ),
}
HEAD = """\
import pathlib

import flyte
from flyte._image import Layer

BASE = flyte.Image.from_base("python:3.12").clone(name="i", extendable=True)


class Mine(Layer):
    pass

"""


def repository_of_cases(folder: Path) -> Repository:
    repository = Repository(folder)
    tables = []
    for name, case in CASES.items():
        tables.append(f'[targets.{name}]\npath = "{name}/job.py"\nall = true\nroot_dir = "{name}"\n')
        code = environment("priced", f", image={case.image}").replace("import flyte\n", HEAD)
        for path, text in {"job.py": code, **case.files}.items():
            repository.write(f"{name}/{path}", text)
    repository.write("deploy.toml", "\n".join(tables))
    os.mkfifo(folder / "pipe/src/pipe")
    os.symlink("nowhere", folder / "broken/src/link")
    return repository


@pytest.mark.error(
    *("ImageFileMissing", "ImageFileUnusable", "ImageLayerInvalid", "ImageSourceEmpty", "ImageUnnamed"),
    "ImageWithoutBase",
)
def test_an_image_that_cannot_be_planned_is_said_and_ends_with_1(tmp_path: Path) -> None:
    ran = repository_of_cases(tmp_path).doit("discover")
    wanted = {f"discover:{name}": f"{name}/job.py: {case.problem}" for name, case in CASES.items()}
    assert (ran.code, failures(ran)) == (1, wanted)


def test_what_an_image_holds_is_not_taken_for_what_the_code_reads(tmp_path: Path) -> None:
    repository = Repository(tmp_path, {"deploy.toml": '[targets.job]\npath = "job.py"\nall = true\n'})
    image = ', image=flyte.Image.from_debian_base().with_requirements("requirements.txt")'
    repository.write("job.py", environment("priced", image))
    repository.write("requirements.txt", "httpx\n")
    ran = repository.doit("bundle")
    assert ran.code == 0
    assert "requirements.txt" not in ran.err
