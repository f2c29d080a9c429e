"""State that cannot be read or written, as the user reads it."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyte_build.backend.database import Database
from tests.repository import SCRIPTS, Ran, Repository, failures

MEND = "free some space, make the folder writable, or remove what is in its place"
BOUND = """
import ctypes, os, sys
for capability in (1, 2):  # a superuser's, to read and write whatever the modes say
    ctypes.CDLL(None).prctl(24, capability)
os.execv(sys.argv[1], sys.argv[1:])
"""


def doit_bound_by_modes(repository: Repository) -> Ran:
    return repository.run(str(SCRIPTS / "python"), "-c", BOUND, str(SCRIPTS / "doit"), "deploy")


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
    for path in modes:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def unwritable(path: Path) -> str:
    return f"{path}: cannot be written: Permission denied; {MEND}"


def test_state_that_may_not_be_written_is_told_when_there_is_something_to_write(repository: Repository) -> None:
    assert repository.doit("deploy").code == 0
    state = repository.folder / ".flyte-build"
    with read_only(state):
        ran = doit_bound_by_modes(repository)
        assert (ran.code, "1 fresh" in ran.err) == (0, True), ran.err
        repository.write("fraud.py", repository.read("fraud.py") + "# more\n")
        ran = doit_bound_by_modes(repository)
        assert (ran.code, failures(ran)) == (1, {"discover:fraud": unwritable(state / "targets/fraud/discover.json")})
    ran = repository.doit("deploy")
    assert (ran.code, "deployed  fraud" in ran.err) == (0, True)


def test_a_folder_in_which_no_state_can_be_made_is_told(repository: Repository) -> None:
    with read_only(repository.folder):
        ran = doit_bound_by_modes(repository)
    assert (ran.code, failures(ran)) == (
        1,
        {"discover:fraud": unwritable(repository.folder / ".flyte-build/.gitignore")},
    )


LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))
os.execv(sys.argv[1], sys.argv[1:])
"""
MENDS = (
    rf"^/.*: cannot be written: File too large; {MEND}$"
    r"|^/.*: what loading gives cannot be written there; free some space, or set TMPDIR to another folder$"
    r"|^/.*: the embedded control plane cannot be used: .*; make the folder writable or remove it"
    r"|^file:///.*: the disk is full; free some space"
)
COMMANDS = (("deploy",), ("list", "-s", "--all"), ("info", "deploy:fraud"), ("forget", "deploy:fraud"), ("deploy",))


def doit_with_files_up_to(size: int, repository: Repository) -> Ran:
    """As on a disk that is full after so many bytes of one file: writing more fails half way."""
    return repository.run(str(SCRIPTS / "python"), "-c", LIMITED.format(size), str(SCRIPTS / "doit"), "deploy")


@pytest.mark.parametrize("size", [0, 1, 100, 300, 500, 700, 900, 1500, 4096, 20_000])
def test_a_disk_that_is_full_is_told_and_then_taken_up(size: int, repository: Repository) -> None:
    ran = doit_with_files_up_to(size, repository)
    assert ran.code == 1, ran.err
    (message,) = failures(ran).values()
    assert "Traceback" not in ran.err
    assert re.search(MENDS, message), message
    assert not list((repository.folder / ".flyte-build").rglob(".*.json.*"))
    again = repository.doit("deploy")
    assert again.code == 0, again.err
    assert "1 fresh" in repository.doit("deploy").err


@pytest.mark.error("ScratchUnwritable")
def test_a_full_disk_for_temporary_files_is_told(repository: Repository) -> None:
    assert failures(doit_with_files_up_to(300, repository)) == {
        "discover:fraud": f"{tempfile.gettempdir()}: what loading gives cannot be written there; "
        "free some space, or set TMPDIR to another folder"
    }


def test_a_control_plane_that_was_cut_off_is_started_over_and_told_once(repository: Repository) -> None:
    repository.doit("deploy")
    path = repository.folder / ".flyte-build" / "backend" / "control-plane.sqlite"
    path.write_bytes(path.read_bytes()[:5000])
    ran = repository.doit("deploy")
    assert ran.code == 0
    assert "deploy    fraud  (.flyte-build/backend/control-plane.sqlite is damaged)\n" in ran.err
    note = f"the embedded control plane was damaged; starting over, and keeping what is left as {path}.damaged"
    assert ran.err.count(note) == 1
    assert "note" not in repository.doit("deploy").err


def test_a_control_plane_that_something_else_has_made_anew_gets_everything(repository: Repository) -> None:
    repository.doit("deploy")
    folder = repository.folder / ".flyte-build" / "backend"
    (folder / "control-plane.sqlite").unlink()
    Database(folder).close()  # as `doit serve` opens it
    ran = repository.doit("deploy")
    assert "deploy    fraud  (.flyte-build/backend/identity changed)\n" in ran.err
    assert "1 fresh" in repository.doit("deploy").err


@pytest.mark.parametrize("content", ["", "rubbish", "[]", "null", '{"deploy:fraud": 1}', '{"other": []}', '"x"'])
def test_doits_own_database_may_hold_anything(content: str, repository: Repository) -> None:
    repository.doit("deploy")
    repository.write(".flyte-build/doit.json", content)
    for words in (
        ("deploy",),
        ("list", "-s", "--all"),
        ("info", "deploy:fraud"),
        ("forget", "deploy:fraud"),
        ("deploy",),
    ):
        ran = repository.doit(*words)
        assert (ran.code, "Traceback" in ran.err) == (0, False), (words, ran.err)
