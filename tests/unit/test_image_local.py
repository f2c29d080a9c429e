"""A uv project's local dependencies are those that uv itself would name, found without uv."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flyte_build.errors import ImageFileMissing, ImageLayerInvalid
from flyte_build.images.context import Seen
from flyte_build.images.local import local_dependencies
from tests.image_planning import write

BUILD = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'


def project(name: str, *needs: str, sources: str = "", more: str = BUILD) -> str:
    dependencies = ", ".join(f'"{each}"' for each in needs)
    head = f'[project]\nname = "{name}"\nversion = "1"\nrequires-python = ">=3.10"\ndependencies = [{dependencies}]\n'
    return f"{head}{more}[tool.uv.sources]\n{sources}"


FILES = {
    "app/pyproject.toml": project(
        "app", "lib", "plain", sources='lib = { path = "../lib", editable = true }\nplain = { path = "../plain" }\n'
    ),
    "lib/pyproject.toml": project("lib", "deep", sources='deep = { path = "../deep", editable = true }\n'),
    "deep/pyproject.toml": project("deep"),
    "plain/pyproject.toml": project("plain"),
    "other/pyproject.toml": project("other"),
}
WORKSPACE = {
    "pyproject.toml": project("top", more='[tool.uv.workspace]\nmembers = ["packages/*"]\n'),
    "packages/a/pyproject.toml": project("a", "b", sources="b = { workspace = true }\n"),
    "packages/b/pyproject.toml": project("b"),
    "packages/c/pyproject.toml": project("c"),
}


def uv(folder: Path, *words: str) -> str:
    environ = {**os.environ, "UV_OFFLINE": "1", "UV_NO_CACHE": "1", "UV_PYTHON": sys.executable}
    command = [str(Path(sys.executable).with_name("uv")), *words]
    return subprocess.run(command, cwd=folder, env=environ, check=True, capture_output=True, text=True).stdout


def exported(folder: Path) -> set[str]:
    """Local paths in what `uv export` says, absolute."""
    found = re.findall(r"^(?:-e )?(\.\S*)", uv(folder, "export", "--no-emit-project"), re.MULTILINE)
    return {os.path.normpath(folder / path) for path in found}


def named(root: Path, found: tuple[str, ...]) -> list[str]:
    return [os.path.relpath(path, root) for path in found]


@pytest.mark.parametrize("has_lock", [True, False])
def test_they_are_found_with_a_lock_and_without(has_lock: bool, tmp_path: Path) -> None:
    write(tmp_path, FILES)
    lock = ""
    if has_lock:
        uv(tmp_path / "app", "lock")
        lock = str(tmp_path / "app/uv.lock")
    found = local_dependencies(str(tmp_path / "app/pyproject.toml"), lock, Seen().read)
    assert named(tmp_path, found) == ["deep", "lib", "plain"]
    assert set(found) == exported(tmp_path / "app")


def test_members_of_a_workspace_are_found_in_its_lock(tmp_path: Path) -> None:
    write(tmp_path, WORKSPACE)
    uv(tmp_path, "lock")
    found = local_dependencies(str(tmp_path / "packages/a/pyproject.toml"), str(tmp_path / "uv.lock"), Seen().read)
    assert named(tmp_path, found) == ["packages/b"]


def test_what_is_read_is_noted(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    seen = Seen()
    local_dependencies(str(tmp_path / "app/pyproject.toml"), "", seen.read)
    assert named(tmp_path, tuple(sorted(seen.files))) == [
        f"{name}/pyproject.toml" for name in ("app", "deep", "lib", "plain")
    ]


def test_sources_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    write(
        tmp_path, {f"{a}/pyproject.toml": project(a, sources=f'{b} = {{ path = "../{b}" }}') for a, b in ("ab", "ba")}
    )
    assert named(tmp_path, local_dependencies(str(tmp_path / "a/pyproject.toml"), "", Seen().read)) == ["b"]


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"a/pyproject.toml": project("a", sources='b = { path = "../b" }')})
    with pytest.raises(ImageFileMissing) as raised:
        local_dependencies(str(tmp_path / "a/pyproject.toml"), "", Seen().read)
    assert raised.value.path == str(tmp_path / "b/pyproject.toml")


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"a/pyproject.toml": "[project\n"})
    with pytest.raises(ImageLayerInvalid, match=r"a/pyproject.toml` is no TOML"):
        local_dependencies(str(tmp_path / "a/pyproject.toml"), "", Seen().read)
