"""Code that loads although it is unusual: what is kept, what is told, and what is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import ends
from tests.repository import Repository, environment, failures, small

CHILD = """\
import pathlib
import subprocess

child = subprocess.Popen(["sleep", "1000"])
pathlib.Path(__file__).with_suffix(".pid").write_text(str(child.pid))
"""

FILES = {
    "prints/job.py": 'print("hello")\n' + environment("prints"),
    "thread/job.py": "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
    + environment("thread"),
    "child/job.py": CHILD + environment("child"),
    "passed/job.py": 'import os\nassert os.environ["STAGE"] == "production"\n' + environment("passed"),
    "told/job.py": 'import os\nSTAGE = os.environ.get("STAGE", "development")\n' + environment("told"),
    "layout/src/app/base.py": environment("base"),
    "layout/src/app/flows.py": "from app import base\n" + environment("flows", ", depends_on=[base.env]"),
    "diamond/job.py": """\
        import flyte

        base = flyte.TaskEnvironment(name="base")
        left = flyte.TaskEnvironment(name="left", depends_on=[base])
        right = flyte.TaskEnvironment(name="right", depends_on=[base])
        env = flyte.TaskEnvironment(name="top", depends_on=[left, right])


        @env.task
        async def report() -> int:
            return 1


        @right.task
        async def load() -> int:
            return 1


        @left.task
        async def clean() -> int:
            return 1


        @base.task
        async def extract() -> int:
            return 1
        """,
    "elsewhere/job.py": "from lib.prep import env as prep\n" + environment("elsewhere", ", depends_on=[prep]"),
    "elsewhere/lib/prep.py": "from lib import raw\n" + environment("prep", ", depends_on=[raw.env]"),
    "elsewhere/lib/raw.py": environment("raw"),
    "apps/job.py": 'import flyte.app\nui = flyte.app.AppEnvironment(name="ui", image="ghcr.io/org/ui:v1")\n'
    + environment("apps", ", depends_on=[ui]"),
    "partly/a.py": environment("partly"),
    "partly/b.py": 'print("loading b")\nimport pandazz\n',
    "partly/c.py": "import sys\nsys.exit()\n",
    "outside/src/job.py": "import sys\nsys.path.append('..')\nimport sibling\n" + environment("outside"),
    "outside/sibling.py": "",
    "resource.py": 'raise RuntimeError("a standard module of this name is needed to start")\n',
}
KEYS = {
    "passed": 'pass_env = ["STAGE"]',
    "layout": 'path = "layout/src/app/flows.py"\nroot_dir = "layout/src"',
    "apps": "skip_apps = true",
    "partly": 'path = "partly"\nrecursive = true\nignore_load_errors = true',
    "outside": 'path = "outside/src/job.py"\nroot_dir = "outside/src"',
}
NAMES = sorted({name.partition("/")[0] for name in FILES} - {"resource.py"})


def table(name: str) -> str:
    keys = KEYS.get(name, "")
    rest = [
        f'path = "{name}/job.py"' if "path =" not in keys else "",
        f'root_dir = "{name}"' if "root_dir" not in keys else "",
        'environment = "env"' if "recursive" not in keys else "",
    ]
    return "\n".join([f"[targets.{name}]", keys, *rest, ""])


class Results:
    """What one `doit plan` told of every target, and what a `doit` after it printed."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        planned = repository.doit("plan", "output=jsonl")
        self.code = planned.code
        self.plans = {event["target"]: event for event in planned.events if event["event"] == "plan"}
        self.discoveries = {
            event["target"]: event
            for event in planned.events
            if event["event"] == "finished" and "notes" in event
            if event["step"] == "discover"
        }
        self.deployed = repository.doit()
        self.again = repository.doit()

    def registered(self, target: str) -> list[str]:
        names: list[str] = self.plans[target]["register"]
        return names

    def notes(self, target: str) -> list[str]:
        notes: list[str] = self.discoveries[target]["notes"]
        return notes


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    repository = Repository(tmp_path_factory.mktemp("repository"), FILES)
    repository.write("deploy.toml", "\n".join(map(table, NAMES)))
    repository.environ["STAGE"] = "production"
    return Results(repository)


def test_all_of_them_are_planned_deployed_and_then_fresh(results: Results) -> None:
    assert (results.code, results.deployed.code, results.again.code) == (0, 0, 0)
    assert f"{len(NAMES)} targets: {len(NAMES)} done  " in results.deployed.err
    # One of them starts a process, and nobody can see what that depends on.
    assert f"{len(NAMES)} targets: 1 unchanged, {len(NAMES) - 1} fresh  " in results.again.err


def test_what_code_prints_while_it_loads_is_not_shown(results: Results) -> None:
    assert "hello" not in results.deployed.err
    assert results.deployed.out == ""
    assert results.notes("prints") == []


def test_a_thread_that_never_ends_holds_nothing_up(results: Results) -> None:
    assert results.registered("thread") == ["thread.thread_task"]


def test_a_process_that_code_leaves_running_is_ended(results: Results) -> None:
    pid = int(results.repository.read("child/job.pid"))
    assert ends(pid)


def test_a_variable_that_is_passed_is_seen_and_needs_no_note(results: Results) -> None:
    assert results.notes("passed") == []


def test_a_variable_that_is_read_and_not_passed_is_noted(results: Results) -> None:
    assert results.notes("told") == [
        "told/job.py:2: reads the environment variable `STAGE`, which is set here but not passed to the code; "
        "add it to `pass_env` in [targets.told]"
    ]


def test_a_src_layout_loads_with_its_root_dir(results: Results) -> None:
    assert results.registered("layout") == ["base.base_task", "flows.flows_task"]


def test_a_diamond_of_dependencies_is_registered_once_from_the_bottom_up(results: Results) -> None:
    assert results.registered("diamond") == ["base.extract", "left.clean", "right.load", "top.report"]


def test_dependencies_declared_in_other_files_are_deployed_too(results: Results) -> None:
    assert results.registered("elsewhere") == ["raw.raw_task", "prep.prep_task", "elsewhere.elsewhere_task"]


def test_an_app_is_left_out_when_the_target_skips_apps(results: Results) -> None:
    assert results.registered("apps") == ["apps.apps_task"]


def test_ignored_load_errors_are_noted_and_the_other_files_deployed(results: Results) -> None:
    assert results.registered("partly") == ["partly.partly_task"]
    assert results.notes("partly") == [
        "partly/b.py:2: loading failed: ModuleNotFoundError: No module named 'pandazz'; "
        "install what provides `pandazz`, or set `root_dir` in [targets.partly] to the folder that it is in, "
        "or leave out `b.py` with `exclude`",
        "partly/c.py:2: loading called `sys.exit()`; "
        'guard what is meant for the command line with `if __name__ == "__main__":`',
    ]


def test_an_import_from_outside_the_root_is_noted(results: Results) -> None:
    assert results.notes("outside") == [
        "outside/sibling.py: imported from outside the root, so the bundle will not have it; install it in the image, "
        "or set `root_dir` in [targets.outside] to a folder that holds it"
    ]


def test_a_note_is_a_line_of_its_own(repository: Repository) -> None:
    repository.write("fraud.py", 'import os\nos.getenv("STAGE")\n' + environment("fraud"))
    repository.environ["STAGE"] = "production"
    assert (
        "note      fraud: fraud.py:2: reads the environment variable `STAGE`, which is set here but not passed "
        "to the code; add it to `pass_env` in [targets.fraud]"
    ) in repository.doit("discover").err.splitlines()


def test_a_file_that_is_mended_is_deployed_and_the_rest_stays(tmp_path: Path) -> None:
    repository = small(tmp_path, churn_py="1 / 0\n")
    repository.write("deploy.toml", repository.read("deploy.toml") + '[targets.churn]\npath = "churn.py"\nall = true\n')
    first = repository.doit()
    assert (first.code, list(failures(first))) == (1, ["discover:churn"])
    again = repository.doit()
    assert (again.code, list(failures(again))) == (1, ["discover:churn"])
    assert "fresh     fraud" in again.err.splitlines()
    repository.write("churn.py", environment("churn"))
    mended = repository.doit()
    assert mended.code == 0
    assert "2 targets: 1 done, 1 fresh  " in mended.err


def test_parallel_runs_fail_with_the_same_messages(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    names = ("a", "b", "c")
    for name in names:
        repository.write(f"{name}.py", f'print("{name}")\nraise ValueError("{name}")\n')
    repository.write("deploy.toml", "".join(f'[targets.{n}]\npath = "{n}.py"\nall = true\n' for n in names))
    serial, parallel = repository.doit(), repository.doit("-n", "3")
    assert (serial.code, parallel.code) == (1, 1)
    assert failures(serial) == failures(parallel)
    assert sorted(failures(parallel)) == ["discover:a", "discover:b", "discover:c"]


def test_a_load_that_takes_too_long_is_ended_with_all_that_it_started(repository: Repository) -> None:
    repository.write("fraud.py", f"{CHILD}child.wait()\n")
    repository.write("deploy.toml", repository.read("deploy.toml") + "load_timeout = 1\n")
    ran = repository.doit()
    assert (ran.code, list(failures(ran))) == (1, ["discover:fraud"])
    assert ends(int(repository.read("fraud.pid")))


def test_files_named_like_standard_modules_do_not_run_in_doits_own_process(tmp_path: Path) -> None:
    repository = small(tmp_path)
    for name in ("queue", "gzip", "secrets", "sqlite3"):
        repository.write(f"{name}.py", 'raise SystemExit("imported by doit itself")\n')
    assert repository.doit().err.splitlines()[-1].startswith("1 target: 1 done")
