"""Each command of doit with names of tasks: one that there is, one that is misspelled, and none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.repository import Ran, Repository, environment, small

COMMANDS = ("clean", "forget", "help", "ignore", "info", "list", "reset-dep", "run", "strace")
OWN = """
from flyte_build.dodo import *


def task_lint():
    return {"actions": ["echo linted"], "uptodate": [True]}
"""


def refused(ran: Ran) -> str:
    """The message of a command that did nothing."""
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("ERROR: command line: ")
    return ran.err.removeprefix("ERROR: command line: ").rstrip("\n")


@pytest.fixture
def own(tmp_path: Path) -> Repository:
    """With a task of the user's own in dodo.py."""
    repository = small(tmp_path)
    repository.write("dodo.py", OWN)
    return repository


@pytest.mark.error("UnknownTask")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_that_is_no_task_is_told_with_the_one_that_is_meant(command: str, own: Repository) -> None:
    assert refused(own.doit(command, "depoy")) == "depoy: no such task; did you mean `deploy`?"
    assert refused(own.doit(command, "fraud")) == "fraud: no such task; did you mean `deploy:fraud`?"


@pytest.mark.parametrize("command", ["plan", "check"])
def test_a_target_beside_a_plan_is_told_to_be_named_with_it(command: str, own: Repository) -> None:
    assert refused(own.doit(command, "fraud")) == f"fraud: no such task; did you mean `{command}:fraud`?"
    assert refused(own.doit(command, "frad")) == f"frad: no such task; did you mean `{command}:fraud`?"
    problem = f"`doit {command} deploy` would run `deploy` too; write `doit {command}`"
    assert refused(own.doit(command, "deploy")) == problem


def test_a_target_of_a_for_each_may_be_meant_by_its_last_part(tmp_path: Path) -> None:
    manifest = '[targets.services]\nfor_each = "services/*"\npath = "{dir}/w.py"\nall = true\n'
    repository = Repository(tmp_path, {"deploy.toml": manifest, "services/fraud/w.py": environment("fraud")})
    assert refused(repository.doit("fraud")) == "fraud: no such task; did you mean `deploy:services/fraud`?"
    assert refused(repository.doit("why", "fraud")) == (
        "why fraud: is no step of a target; write `doit why deploy:services/fraud`"
    )


def test_a_name_like_no_other_is_told_with_all_there_are(own: Repository) -> None:
    known = (
        "`bundle`, `cache`, `check`, `deploy`, `discover`, `images`, `lint`, `plan`, `serialize`, `serve` and `upload`"
    )
    assert refused(own.doit("info", "xyz")) == f"xyz: no such task; known: {known}"


@pytest.mark.error("TaskNotNamed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("info",), "info: name one task, such as `doit info deploy:fraud`"),
        (("info", "deploy", "upload"), "info: name one task, such as `doit info deploy:fraud`"),
        (("ignore",), "ignore: name what to leave out, such as `doit ignore deploy:fraud`"),
    ],
)
def test_a_command_that_needs_a_name_says_so(words: tuple[str, ...], expected: str, own: Repository) -> None:
    assert refused(own.doit(*words)) == expected


@pytest.mark.error("NotForTask")
def test_what_makes_no_sense_for_a_step_is_refused_and_says_what_does(own: Repository) -> None:
    assert refused(own.doit("strace", "deploy:fraud")) == (
        "strace deploy:fraud: only commands of a shell can be followed, and this is none; "
        "`doit why deploy:fraud` says what it depends on"
    )
    assert refused(own.doit("reset-dep", "deploy")) == (
        "reset-dep deploy: only the work itself makes it done; run `doit deploy`, which does what is not done yet"
    )
    assert not (own.folder / ".flyte-build").exists()


def test_a_task_of_the_users_own_is_one_to_every_command(own: Repository) -> None:
    assert own.doit("reset-dep").out == "skip lint\n"
    assert own.doit("reset-dep", "lint").out == "skip lint\n"
    assert own.doit("list", "lint").out == "lint   \n"
    assert own.doit("forget", "lint").out == "forgetting lint\n"
    assert own.doit("help", "lint").out.startswith("lint ")
    assert "status     : up-to-date" in own.doit("info", "lint").out


def test_a_pattern_names_each_task_that_matches(own: Repository) -> None:
    assert own.doit("forget", "deploy:*", "up*:fr*").out == "forgetting deploy:fraud\nforgetting upload:fraud\n"
    assert own.doit("list", "deploy:*").out == "deploy:fraud   bring targets up to date: fraud.py\n"
    assert own.doit("ignore", "deploy:*").out == "ignoring deploy:fraud\n"
    assert "deploy:fraud" in own.doit("info", "deploy:*").out


def test_info_says_in_words_why_a_task_runs(own: Repository) -> None:
    stale = own.doit("info", "discover:fraud")
    assert (stale.code, stale.out.splitlines()[5:7]) == (1, ["status     : run", " * not done here yet"])
    always = own.doit("info", "plan:fraud")
    assert always.out.splitlines()[5:7] == ["status     : run", " * it runs whenever it is asked for"]


def test_clean_says_what_it_does(own: Repository) -> None:
    assert own.doit("clean", "bundle:fraud").out == "nothing to remove\n"
    own.doit("bundle")
    assert re.fullmatch(r"removed \d+ files, [\d,]+ bytes\n", own.doit("clean", "bundle:fraud").out)


def test_a_database_that_cannot_be_dumped_is_told_as_such(own: Repository) -> None:
    dumped = own.doit("dumpdb")
    assert (dumped.code, dumped.out) == (3, "")
    assert dumped.err == (
        "ERROR: dumpdb: .doit.db is no database of the kind dbm; "
        "`doit why` and `doit info deploy:NAME` say what is known of the tasks of flyte_build\n"
    )


def test_help_on_a_target_that_there_is_not_is_an_error(own: Repository) -> None:
    assert refused(own.doit("help", "deploy:frad")) == "deploy:frad: no target `frad`; did you mean `fraud`?"
    assert own.doit("help", "deploy:fraud").out == "deploy:fraud  bring targets up to date: fraud.py\n"


def test_completion_lists_the_tasks(own: Repository) -> None:
    completion = own.doit("tabcompletion", "--hardcode-tasks")
    assert (completion.code, completion.err) == (0, "")
    assert "deploy" in completion.out
