"""Two runs in one checkout: the second waits, says for whom, and neither sees half of what the other does."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repository import Ran, Repository, environment

HEAD = """
import os
import time

while os.path.exists("gate"):
    time.sleep(0.01)
"""
HOLDER = r"process (\d+), which has been at work here since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
WAITING = re.compile(rf"waiting for {HOLDER}; `wait=false` fails at once instead\n")


def gated(folder: Path, *names: str) -> Repository:
    """A repository whose code loads only when the file `gate` is gone."""
    tables = "".join(f'[targets.{name}]\npath = "{name}.py"\nall = true\n' for name in names)
    files = {f"{name}.py": HEAD + environment(name) for name in names}
    return Repository(folder, {"deploy.toml": tables, "gate": "", **files})


@contextlib.contextmanager
def started(repository: Repository, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A run, ended with all its processes when the test is over."""
    run = repository.start(*words)
    try:
        yield run
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.communicate()


def wait_for(run: subprocess.Popen[str], text: str) -> str:
    """The line of a run's talk that holds a text."""
    assert run.stderr is not None
    return next(line for line in run.stderr if text in line)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return gated(tmp_path, "a")


def test_the_second_deploy_waits_for_the_first_and_then_finds_nothing_to_do(repository: Repository) -> None:
    with started(repository, "deploy") as first:
        wait_for(first, "discover")
        with started(repository, "deploy") as second:
            said = WAITING.fullmatch(wait_for(second, "waiting"))
            assert said is not None
            assert int(said[1]) == first.pid
            (repository.folder / "gate").unlink()
            assert "deployed  a" in first.communicate()[1]
            assert "fresh     a" in second.communicate()[1]
    assert (first.returncode, second.returncode) == (0, 0)


@pytest.mark.error("StateBusy")
def test_with_wait_false_the_second_deploy_fails_at_once(repository: Repository) -> None:
    with started(repository, "deploy") as first:
        wait_for(first, "discover")
        ran = repository.doit("deploy", "wait=false")
        assert ran.code == 3
        said = re.fullmatch(
            rf"ERROR: (.*): in use by {HOLDER}; run again when that has ended, or leave out `wait=false`\n", ran.err
        )
        assert said is not None
        assert (said[1], int(said[2])) == (str(repository.folder / ".flyte-build"), first.pid)


@pytest.mark.parametrize("command", ["forget", "clean"])
def test_with_wait_false_nothing_else_starts_either(command: str, repository: Repository) -> None:
    with started(repository, "deploy") as first:
        wait_for(first, "discover")
        ran = repository.doit(command, "deploy:a", "wait=false")
        assert ran.code == 3
        assert f"ERROR: {repository.folder / '.flyte-build'}: in use by process {first.pid}" in ran.err


def test_who_waits_says_so_in_json_too(repository: Repository) -> None:
    with started(repository, "deploy") as first:
        wait_for(first, "discover")
        with started(repository, "deploy", "output=jsonl") as second:
            assert second.stdout is not None
            assert f'"event":"waiting","holder":"process {first.pid}, which' in second.stdout.readline()


def test_wait_takes_true_or_false(repository: Repository) -> None:
    ran = repository.doit("deploy", "wait=no")
    assert (ran.code, ran.err) == (3, "ERROR: command line: wait: `no` is not a choice; known: `false` and `true`\n")


@pytest.mark.parametrize("words", [(), ("-n", "2")])
def test_a_deploy_that_was_killed_holds_up_nobody(words: tuple[str, ...], tmp_path: Path) -> None:
    """Its workers end with it, though nobody tells them."""
    repository = gated(tmp_path, "a", "b")
    with started(repository, *words, "deploy") as first:
        wait_for(first, "discover")
        first.kill()
        first.wait()
        (repository.folder / "gate").unlink()
        ran = repository.doit("deploy")
    assert ran.code == 0, ran.err
    assert "2 targets: 2 done" in ran.err


@pytest.mark.parametrize("words", [("list", "--all"), ("info", "deploy:a"), ("help",)])
def test_who_only_looks_does_not_wait(words: tuple[str, ...], repository: Repository) -> None:
    with started(repository, "deploy") as first:
        wait_for(first, "discover")
        ran = repository.doit(*words)
        assert "waiting" not in ran.err
        assert first.poll() is None


def test_a_plan_waits_only_where_it_has_work_to_do(tmp_path: Path) -> None:
    repository = gated(tmp_path, "a", "b")
    (repository.folder / "gate").unlink()
    assert repository.doit("deploy:a").code == 0
    repository.write("gate", "")
    with started(repository, "deploy:b") as first:
        wait_for(first, "discover")
        repository.write("b.py", repository.read("b.py"))
        assert "a" in repository.read("deploy.toml")
        with started(repository, "plan:b") as plan:
            assert WAITING.fullmatch(wait_for(plan, "waiting"))
            (repository.folder / "gate").unlink()
            assert plan.communicate()[0].startswith("b: ")
        assert plan.returncode == 0


TAKEN_AWAY = """
import subprocess
import sys
from pathlib import Path
from flyte_build.dodo import *
from flyte_build import planning, project

plan, result = planning.plan, project.Project.result


def another_run(*words):
    Path("gate").unlink()
    Path("a.py").write_text("# tasks are in other lines now" + chr(10) + Path("a.py").read_text())
    subprocess.run([sys.executable, "-m", "doit", *words], check=True, stdout=subprocess.DEVNULL)


def with_another_run_before(self, *asked):
    if Path("gate").exists():
        another_run("forget", "discover:a")
    return result(self, *asked)


def with_another_run_after(self, *asked):
    found = result(self, *asked)
    if Path("gate").exists():
        another_run("deploy")
    return found


def planned(*asked):
    project.Project.result = with_another_run_after
    return plan(*asked)


if Path("gate").exists():
    {when}
"""


def plan_beside(repository: Repository, when: str) -> Ran:
    """What `doit plan` says of a deployed target, with another run in its midst."""
    repository.write("a.py", environment("a"))
    (repository.folder / "gate").unlink()
    assert repository.doit("deploy").code == 0
    repository.write("dodo.py", TAKEN_AWAY.format(when=when))
    repository.write("gate", "")
    return repository.doit("plan")


@pytest.mark.error("TakenAway")
def test_a_plan_fails_where_another_run_takes_away_what_it_looks_at(repository: Repository) -> None:
    ran = plan_beside(repository, "planning.plan = planned")
    why = "removed while this run looked at it, as another run does, or `doit clean`; run this again"
    assert ran.code == 1
    assert re.search(rf"\n\nFAILED plan:a\n.flyte-build/objects/[0-9a-f]{{32}}: {why}\n$", ran.err), ran.err
    assert repository.doit("plan").out.startswith("a: fresh, ")


def test_a_plan_whose_receipts_are_forgotten_beside_it_says_what_was_not_done(repository: Repository) -> None:
    ran = plan_beside(repository, "project.Project.result = with_another_run_before")
    assert (ran.code, "Traceback" in ran.err) == (1, False)
    assert "bundle:a: needs `discover:a`, which was not done; " in ran.err


def test_who_has_waited_looks_again_at_what_it_saw_before(tmp_path: Path) -> None:
    repository = gated(tmp_path, "a", "b")
    for name in ("a", "b"):
        repository.write(f"{name}.py", f"{HEAD}\nimport shared\n{environment(name)}")
    repository.write("shared.py", "")
    (repository.folder / "gate").unlink()
    assert repository.doit("deploy:a").code == 0
    repository.write("gate", "")
    with started(repository, "deploy:b") as first:
        wait_for(first, "discover")
        with started(repository, "plan") as plan:
            assert WAITING.fullmatch(wait_for(plan, "waiting"))
            repository.write("shared.py", "edited = True")
            (repository.folder / "gate").unlink()
            assert "deployed  b" in first.communicate()[1]
            out, err = plan.communicate()
    assert "b: fresh" in out
    assert "discover  b" not in err


@pytest.mark.parametrize("words", [("forget", "deploy:a"), ("forget", "--all"), ("clean", "-a")])
def test_who_takes_results_away_waits(words: tuple[str, ...], repository: Repository) -> None:
    with started(repository, "deploy") as first:
        wait_for(first, "discover")
        with started(repository, *words) as second:
            assert WAITING.fullmatch(wait_for(second, "waiting"))
            (repository.folder / "gate").unlink()
            first.communicate()
            second.communicate()
    assert (first.returncode, second.returncode) == (0, 0)
    assert "deployed  a" in repository.doit("deploy").err


SCRIPT = """
import flyte_build
import a

if __name__ == "__main__":
    print(flyte_build.deploy(a.env, wait=False).changed)
"""


def test_a_deploy_from_python_keeps_to_the_same_rule(repository: Repository) -> None:
    repository.write("script.py", SCRIPT)
    with started(repository, "deploy") as first:
        wait_for(first, "discover")
        repository.write("a.py", environment("a"))
        ran = repository.python("script.py")
        assert ran.code == 1
        assert f"in use by process {first.pid}, which has been at work here since" in ran.out
    assert repository.python("script.py").out == "True\n"


def test_a_script_that_deploys_within_a_run_does_not_wait_for_its_own_run(tmp_path: Path) -> None:
    task = 'def task_script():\n    return {"actions": [[sys.executable, "script.py"]], "task_dep": ["deploy:a"]}\n'
    repository = gated(tmp_path, "a")
    (repository.folder / "gate").unlink()
    repository.write("script.py", SCRIPT)
    repository.write(
        "dodo.py", f"import sys\nfrom flyte_build.dodo import *\n{task}".replace('"PYTHON"', "sys.executable")
    )
    ran = repository.doit("script")
    assert ran.code == 0, ran.err


@pytest.mark.parametrize("words", [(), ("-n", "0")])
def test_an_action_that_deploys_from_python_does_not_wait_for_its_own_run(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    repository = gated(tmp_path, "a")
    (repository.folder / "gate").unlink()
    repository.write("script.py", "import flyte_build\nimport a\n\ndef main():\n    flyte_build.deploy(a.env)\n")
    task = 'def task_script():\n    return {"actions": [main], "task_dep": ["deploy:a"]}\n'
    repository.write("dodo.py", f"from flyte_build.dodo import *\nfrom script import main\n{task}")
    ran = repository.doit(*words, "script")
    assert (ran.code, "waiting" in ran.err) == (0, False), ran.err


def test_workers_of_one_run_share_its_hold(tmp_path: Path) -> None:
    repository = gated(tmp_path, "a", "b")
    (repository.folder / "gate").unlink()
    for words in (("-n", "2", "deploy"), ("-n", "2", "-a", "deploy"), ("-n", "2", "plan")):
        ran = repository.doit(*words)
        assert (ran.code, "waiting" in ran.err) == (0, False), ran.err


def test_what_a_lock_file_holds_does_not_matter(repository: Repository) -> None:
    (repository.folder / "gate").unlink()
    for text in (b"", b"rubbish", b"1 2 3", b"\xff", b"999999 1\n"):
        path = repository.folder / ".flyte-build" / "lock"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text)
        assert repository.doit("deploy").code == 0
