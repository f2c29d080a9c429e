"""What code can be told of files without reading them, and what stands in the way of looking again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkout import Checkout

CODE = """
import os
import shutil

import flyte

{0}
env = flyte.TaskEnvironment(name="fraud", env_vars={{"SEEN": str(SEEN)}})


@env.task
async def score(amount: int) -> int:
    return amount
"""
MANIFEST = """
[targets.fraud]
path = "fraud.py"
environment = "env"
"""
NAMELESS = b"data/\xff"


def checkout(folder: Path, code: str) -> Checkout:
    made = Checkout(folder, {"deploy.toml": MANIFEST, "fraud.py": CODE.format(code), "data/tool": "", "data/other": ""})
    (made.folder / "data/tool").chmod(0o755)
    return made


def not_executable(folder: Path) -> None:
    (folder / "data/tool").chmod(0o644)


def dangling(folder: Path) -> None:
    (folder / "data/link").symlink_to("nowhere")


def nameless(folder: Path) -> None:
    with open(os.path.join(os.fsencode(folder), NAMELESS), "w") as file:
        file.write("1")


def hard_linked(folder: Path) -> None:
    os.link(folder / "data/other", folder.parent / "elsewhere")
    (folder.parent / "elsewhere").write_text("1")


NO_NAME = "fraud.py:6 looked at `data/\\xff`, a name that is not UTF-8, whose inputs cannot be seen"
TOLD: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "executable": ("SEEN = os.access('data/tool', os.X_OK)", not_executable, "data/tool changed its executable bit"),
    "found": ("SEEN = shutil.which('tool', path='data')", not_executable, "data/tool changed its executable bit"),
    "dangling": ("SEEN = os.path.lexists('data/link')", dangling, "data/link is now link"),
    "no name": (f"SEEN = os.path.exists({NAMELESS!r})", nameless, NO_NAME),
    "no name, listed": (f"SEEN = os.path.isdir({NAMELESS!r}) and os.listdir({NAMELESS!r})", nameless, NO_NAME),
    "hard link": ("SEEN = open('data/other').read()", hard_linked, "data/other changed"),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_changes_in_a_folder_is_seen_however_code_is_told(name: str, tmp_path: Path) -> None:
    code, edit, reason = TOLD[name]
    made = checkout(tmp_path / "repo", code)
    made.deploy()
    edit(made.folder)
    assert made.deploy()["discover"] == reason
    other = checkout(tmp_path / "clean" / "repo", code)
    edit(other.folder)
    other.deploy()
    assert made.left("fraud").version == other.left("fraud").version


def test_a_program_of_the_machine_counts_by_being_there(tmp_path: Path) -> None:
    program = tmp_path / "bin/program"
    program.parent.mkdir()
    program.write_text("one")
    program.chmod(0o755)
    made = checkout(tmp_path / "repo", f"SEEN = shutil.which('program', path='{program.parent}') is None")
    made.deploy()
    program.write_text("two")
    assert made.deploy() == {}
    program.unlink()
    assert made.deploy()["discover"] == f"{program} is now gone"


@pytest.mark.parametrize("link", [".gitignore", "data/.flyteignore"])
def test_an_ignore_file_that_is_a_link_to_nowhere_leaves_everything_fresh(link: str, tmp_path: Path) -> None:
    made = checkout(tmp_path / "repo", "SEEN = 1")
    made.write("deploy.toml", f'{MANIFEST}include = ["data/other"]\n')
    (made.folder / link).symlink_to("nowhere")
    made.deploy()
    assert made.deploy() == {}
