"""Where no engine runs or none can be had."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.__main__ import main
from tests.engine.folder import VARIABLE, Folder, Unavailable
from tests.unprivileged import unprivileged

ROOT = Path(__file__).parents[2]
REASON = "no Docker engine; start one with `python -m tests.engine start`"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which no engine runs."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "engine"))


def test_status_says_that_none_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 1
    assert capsys.readouterr().err == f"no engine runs in {tmp_path / 'engine'}\n"


def test_starting_one_takes_root(capsys: pytest.CaptureFixture[str]) -> None:
    with unprivileged():
        assert main(["start"]) == 3
    said = capsys.readouterr().err
    assert said.endswith("tests that need one are skipped\n") or "needs root" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of somebody else")
def test_a_folder_of_somebody_else_is_not_used() -> None:
    with unprivileged() as folder, pytest.raises(Unavailable, match="belongs to somebody else"):
        Folder(folder).make()


@pytest.mark.parametrize(("ci", "outcome", "code"), [("", "1 skipped", 0), ("true", "1 error", 1)])
def test_tests_that_need_one_are_skipped_but_fail_in_ci(ci: str, outcome: str, code: int) -> None:
    test = "tests/engine/test_engine.py::test_the_flyte_image_is_set_up_as_the_sdks"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", test]
    environ = {**os.environ, "CI": ci, "COLUMNS": "200"}
    ran = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert ran.returncode == code, ran.stdout
    assert outcome in ran.stdout
    assert REASON in ran.stdout
