"""`hermetic = true`: code that reads what nobody can see while it loads is refused; without it, it is told once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.repository import MANIFEST, WORKFLOW, Repository, failures, small

STARTS = "import subprocess\nNAME = subprocess.run(['touch', 'made'])"
CAUGHT = "import subprocess\ntry:\n    subprocess.run(['touch', 'made'])\nexcept Exception:\n    pass"
MEND = "move it into a task, or keep its result in a file and read that"
FORBIDS = f"while loading, which `hermetic = true` in [targets.fraud] forbids; {MEND}"


def repository(folder: Path, code: str, *, hermetic: bool = True) -> Repository:
    manifest = f"{MANIFEST}    hermetic = {'true' if hermetic else 'false'}\n"
    made = small(folder, deploy__toml=manifest)
    made.write("deploy.toml", manifest)
    made.write("fraud.py", f"{code}\n{Repository(folder / 'other', {'x': WORKFLOW}).read('x')}")
    return made


@pytest.mark.error("NotHermetic")
@pytest.mark.parametrize(
    ("code", "message"),
    [
        (STARTS, f"fraud.py:2 started `touch` {FORBIDS}"),
        (
            f"try:\n    {STARTS.replace(chr(10), '; ')}\nexcept Exception:\n    pass",
            f"fraud.py:2 started `touch` {FORBIDS}",
        ),
        ("import os\nos.system('touch made')", f"fraud.py:2 started `touch made` {FORBIDS}"),
        (
            "import socket\nfor port in (8, 9):\n    try:\n        socket.create_connection(('127.0.0.1', port))\n"
            "    except Exception:\n        pass",
            f"fraud.py:4 looked up host `127.0.0.1` {FORBIDS}",
        ),
    ],
)
def test_a_hermetic_target_starts_and_asks_nothing(code: str, message: str, tmp_path: Path) -> None:
    made = repository(tmp_path, code)
    ran = made.doit("deploy")
    assert (ran.code, failures(ran)) == (1, {"discover:fraud": message})
    assert not (tmp_path / "made").exists()


def test_a_hermetic_target_that_only_reads_is_deployed(tmp_path: Path) -> None:
    (tmp_path / "fraud.txt").touch()
    made = repository(tmp_path, "NAME = open('fraud.txt').read()")
    assert made.doit("deploy").code == 0
    assert "1 fresh" in made.doit("deploy").err


def test_a_target_that_becomes_hermetic_is_looked_at_again(tmp_path: Path) -> None:
    assert repository(tmp_path, STARTS, hermetic=False).doit("deploy").code == 0
    made = repository(tmp_path, STARTS)
    assert failures(made.doit("deploy")) == {"discover:fraud": f"fraud.py:2 started `touch` {FORBIDS}"}


def test_what_makes_a_target_load_in_every_run_is_told_once_in_each(tmp_path: Path) -> None:
    made = repository(tmp_path, STARTS, hermetic=False)
    unseen = "fraud.py:2 started `touch`, whose inputs cannot be seen"
    first, second = made.doit("deploy").err, made.doit("deploy").err
    assert f"note      fraud: {unseen}: it will be loaded in every run\n" in first
    assert f"discover  fraud  ({unseen})\n" in second
    assert "note" not in second
