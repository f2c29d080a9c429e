"""What a user reads when a target's code cannot be loaded, or declares something that cannot be deployed.

Each case is a folder of its own; all of them are targets of one repository, deployed by one command: that also shows
that a failing target leaves the others alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest

from tests.repository import Ran, Repository, environment, failures
from tests.unprivileged import bound


class Case(NamedTuple):
    error: str
    """The class."""
    expected: str
    """The message, whole."""
    files: dict[str, str] = {}
    """Below the case's folder."""
    keys: str = 'environment = "env"'
    """The rest of the target's table."""
    path: str = "job.py"
    step: str = "discover"


LOADING: dict[str, Case] = {
    "raises": Case(
        "FileRaised",
        """\
        raises/job.py:6: loading failed: ZeroDivisionError: division by zero; mend the code
        Traceback (most recent call last):
          File "raises/job.py", line 9, in <module>
            LIMIT = limit()
          File "raises/job.py", line 6, in limit
            return 1 / 0
        ZeroDivisionError: division by zero
        it printed:
        reading the limit
        twice""",
        {
            "job.py": """\
                import sys


                def limit() -> float:
                    print("twice", file=sys.stderr)
                    return 1 / 0

                print("reading the limit")
                LIMIT = limit()
                """
        },
    ),
    "helper": Case(
        "FileRaised",
        """\
        helper/shared/rates.py:2: loading failed: KeyError: 'eur'; mend the code
        Traceback (most recent call last):
          File "helper/job.py", line 1, in <module>
            from shared import rates
          File "helper/shared/rates.py", line 4, in <module>
            EURO = rate("eur")
          File "helper/shared/rates.py", line 2, in rate
            return {}[currency]
        KeyError: 'eur'""",
        {
            "job.py": "from shared import rates\n",
            "shared/__init__.py": "",
            "shared/rates.py": """\
                def rate(currency: str) -> float:
                    return {}[currency]

                EURO = rate("eur")
                """,
        },
    ),
    "chained": Case(
        "FileRaised",
        """\
        chained/job.py:4: loading failed: RuntimeError: no limit is set; mend the code
        Traceback (most recent call last):
          File "chained/job.py", line 2, in <module>
            LIMIT = int("x")
        ValueError: invalid literal for int() with base 10: 'x'

        The above exception was the direct cause of the following exception:

        Traceback (most recent call last):
          File "chained/job.py", line 4, in <module>
            raise RuntimeError("no limit is set") from error
        RuntimeError: no limit is set""",
        {
            "job.py": """\
                try:
                    LIMIT = int("x")
                except ValueError as error:
                    raise RuntimeError("no limit is set") from error
                """
        },
    ),
    "handling": Case(
        "FileRaised",
        """\
        handling/job.py:4: loading failed: KeyError: 'limit'; mend the code
        Traceback (most recent call last):
          File "handling/job.py", line 2, in <module>
            int("x")
        ValueError: invalid literal for int() with base 10: 'x'

        During handling of the above exception, another exception occurred:

        Traceback (most recent call last):
          File "handling/job.py", line 4, in <module>
            {}["limit"]
        KeyError: 'limit'""",
        {
            "job.py": """\
                try:
                    int("x")
                except ValueError:
                    {}["limit"]
                """
        },
    ),
    "library": Case(  # what happens inside a library is left out
        "FileRaised",
        """\
        library/job.py:4: loading failed: json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0); \
mend the code
        Traceback (most recent call last):
          File "library/job.py", line 6, in <module>
            OPTIONS = json.loads("{}", object_hook=limit)
          File "library/job.py", line 4, in limit
            return json.loads("")
        json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)""",
        {
            "job.py": """\
                import json

                def limit(options: object) -> object:
                    return json.loads("")

                OPTIONS = json.loads("{}", object_hook=limit)
                """
        },
    ),
    "sdk": Case(
        "FileRaised",
        """\
        sdk/job.py:3: loading failed: TypeError: Expected resources to be of type Resources, got <class 'str'>; \
mend the code
        Traceback (most recent call last):
          File "sdk/job.py", line 3, in <module>
            env = flyte.TaskEnvironment(name="fraud", resources="2 CPUs")
        TypeError: Expected resources to be of type Resources, got <class 'str'>""",
        {"job.py": 'import flyte\n\nenv = flyte.TaskEnvironment(name="fraud", resources="2 CPUs")\n'},
    ),
    "lines": Case(  # the first line of the text is enough at the top
        "FileRaised",
        """\
        lines/job.py:1: loading failed: ValueError: two limits:; mend the code
        Traceback (most recent call last):
          File "lines/job.py", line 1, in <module>
            raise ValueError("two limits:\\n- one\\n- two")
        ValueError: two limits:
        - one
        - two""",
        {"job.py": 'raise ValueError("two limits:\\n- one\\n- two")\n'},
    ),
    "syntax": Case(
        "FileRaised",
        """\
        syntax/shared.py:1: loading failed: SyntaxError: '(' was never closed; mend the code
        Traceback (most recent call last):
          File "syntax/job.py", line 1, in <module>
            import shared
          File "syntax/shared.py", line 1
            LIMITS = (1, 2
        SyntaxError: '(' was never closed""",
        {"job.py": "import shared\n", "shared.py": "LIMITS = (1, 2\n"},
    ),
    "package": Case(
        "FileRaised",
        """\
        package/job.py:1: loading failed: ModuleNotFoundError: No module named 'pandazz'; install what provides \
`pandazz`, or set `root_dir` in [targets.package] to the folder that it is in
        Traceback (most recent call last):
          File "package/job.py", line 1, in <module>
            import pandazz as pd
        ModuleNotFoundError: No module named 'pandazz'""",
        {"job.py": "import pandazz as pd\n"},
    ),
    "layout": Case(
        "FileRaised",
        """\
        layout/src/app/flows.py:1: loading failed: ModuleNotFoundError: No module named 'app'; \
set `root_dir = "layout/src"` in [targets.layout], the folder that `app` is in
        Traceback (most recent call last):
          File "layout/src/app/flows.py", line 1, in <module>
            from app import base
        ModuleNotFoundError: No module named 'app'""",
        {"src/app/__init__.py": "", "src/app/base.py": "", "src/app/flows.py": "from app import base\n"},
        path="src/app/flows.py",
    ),
    "dotted": Case(
        "FileRaised",
        """\
        dotted/v1.2/job.py:1: loading failed: ModuleNotFoundError: No module named 'v1'; \
set `root_dir = "dotted/v1.2"` in [targets.dotted], the folder that `job` is in
        ModuleNotFoundError: No module named 'v1'""",
        {"v1.2/job.py": environment("dotted")},
        path="v1.2/job.py",
    ),
    "talks": Case(
        "FileRaised",
        f"""\
        talks/job.py:2: loading failed: ValueError; mend the code
        Traceback (most recent call last):
          File "talks/job.py", line 2, in <module>
            raise ValueError
        ValueError
        it printed 1,000,003 characters, at the end:
        {"." * 9_997}end""",
        {"job.py": 'print("." * 1_000_000 + "end")\nraise ValueError\n'},
    ),
    "slip": Case(  # no advice about installing: the package is the user's and is there
        "FileRaised",
        """\
        slip/job.py:1: loading failed: ModuleNotFoundError: No module named 'shared.rate'; mend the code
        Traceback (most recent call last):
          File "slip/job.py", line 1, in <module>
            import shared.rate
        ModuleNotFoundError: No module named 'shared.rate'""",
        {"job.py": "import shared.rate\n", "shared/__init__.py": "", "shared/rates.py": ""},
    ),
    "exit": Case(
        "FileExited",
        """\
        exit/job.py:4: loading called `sys.exit(2)`; \
guard what is meant for the command line with `if __name__ == "__main__":`
        Traceback (most recent call last):
          File "exit/job.py", line 4, in <module>
            parser.parse_args(["--fast"])
        SystemExit: 2
        it printed:
        usage: job [-h]
        job: error: unrecognized arguments: --fast""",
        {
            "job.py": """\
                import argparse

                parser = argparse.ArgumentParser(prog="job")
                parser.parse_args(["--fast"])
                """
        },
    ),
    "exit_text": Case(
        "FileExited",
        """\
        exit_text/job.py:2: loading called `sys.exit('no data')`; \
guard what is meant for the command line with `if __name__ == "__main__":`
        Traceback (most recent call last):
          File "exit_text/job.py", line 2, in <module>
            sys.exit("no data")
        SystemExit: no data""",
        {"job.py": 'import sys\nsys.exit("no data")\n'},
    ),
    "defiant": Case(  # switches off what would tell its line
        "LoadTimedOut",
        """\
        defiant/job.py: loading did not end within 1 s; move the work into a task, \
or raise `load_timeout` in [targets.defiant]""",
        {
            "job.py": """\
                import faulthandler
                import time

                faulthandler.cancel_dump_traceback_later()
                time.sleep(1000)
                """
        },
        keys='environment = "env"\nload_timeout = 1',
    ),
    "leaves": Case(
        "LoadCrashed",
        """\
        leaves/shared.py:5: the Python interpreter ended with exit code 3 while loading; \
run the file alone with `python` to see why
        Traceback (most recent call last):
          File "leaves/job.py", line 1 in <module>
          File "leaves/shared.py", line 7 in <module>
          File "leaves/shared.py", line 5 in leave
        it printed:
        good bye""",
        {
            "job.py": "import shared\n",
            "shared.py": """\
                import os

                def leave() -> None:
                    print("good bye")
                    os._exit(3)

                leave()
                """,
        },
    ),
    "crashes": Case(
        "LoadCrashed",
        """\
        crashes/job.py:4: the Python interpreter was killed by SIGSEGV while loading; \
run the file alone with `python` to see why
        Traceback (most recent call last):
          File "crashes/job.py", line 6 in <module>
          File "crashes/job.py", line 4 in crash""",
        {
            "job.py": """\
                import ctypes

                def crash() -> None:
                    ctypes.string_at(0)

                crash()
                """
        },
    ),
    "killed": Case(  # as the kernel does when memory runs out: only the last imported file is known then
        "LoadCrashed",
        """\
        killed/shared.py: the Python interpreter was killed by SIGKILL, often for want of memory, while loading; \
run the file alone with `python` to see why
        it printed:
        reading everything""",
        {
            "job.py": "import shared\n",
            "shared.py": 'import os, signal\nprint("reading everything")\nos.kill(os.getpid(), signal.SIGKILL)\n',
        },
    ),
    "memory": Case(
        "FileRaised",
        """\
        memory/job.py:4: loading failed: MemoryError; mend the code
        Traceback (most recent call last):
          File "memory/job.py", line 4, in <module>
            TABLE = bytearray(1 << 36)
        MemoryError""",
        {
            "job.py": """\
                import resource

                resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))
                TABLE = bytearray(1 << 36)
                """
        },
    ),
    "interrupt": Case(
        "FileRaised",
        """\
        interrupt/job.py:1: loading failed: KeyboardInterrupt; mend the code
        Traceback (most recent call last):
          File "interrupt/job.py", line 1, in <module>
            raise KeyboardInterrupt
        KeyboardInterrupt""",
        {"job.py": "raise KeyboardInterrupt\n"},
    ),
    "loop": Case(
        "LoadTimedOut",
        """\
        loop/job.py:3: loading did not end within 1 s; move the work into a task, \
or raise `load_timeout` in [targets.loop]
        Traceback (most recent call last):
          File "loop/job.py", line 5 in <module>
          File "loop/job.py", line 3 in train
        it printed:
        training""",
        {
            "job.py": """\
                def train() -> None:
                    print("training")
                    while True: pass

                train()
                """
        },
        keys='environment = "env"\nload_timeout = 1',
    ),
    "hang": Case(  # in C, and with a thread of the user's that is elsewhere
        "LoadTimedOut",
        """\
        hang/shared.py:7: loading did not end within 1 s; move the work into a task, \
or raise `load_timeout` in [targets.hang]
        Traceback (most recent call last):
          File "hang/job.py", line 1 in <module>
          File "hang/shared.py", line 7 in <module>""",
        {
            "job.py": "import shared\n",
            "shared.py": """\
                import threading

                event = threading.Event()
                threading.Thread(target=lambda: event.wait(), daemon=True).start()
                lock = threading.Lock()
                lock.acquire()
                lock.acquire()
                """,
        },
        keys='environment = "env"\nload_timeout = 1',
    ),
    "hidden": Case(
        "FileRaised",
        """\
        hidden/job.py:3: loading failed: KeyError: 'STAGE'; it reads the environment variable `STAGE`, which is set \
here but not passed to the code: add it to `pass_env` in [targets.hidden]
        Traceback (most recent call last):
          File "hidden/job.py", line 3, in <module>
            STAGE = os.environ["STAGE"]
        KeyError: 'STAGE'""",
        {"job.py": 'import os\n\nSTAGE = os.environ["STAGE"]\n'},
    ),
    "unpassed": Case(
        "FileRaised",
        """\
        unpassed/job.py:2: loading failed: AttributeError: 'NoneType' object has no attribute 'lower'; it reads the \
environment variable `STAGE`, which is set here but not passed to the code: add it to `pass_env` in [targets.unpassed]
        Traceback (most recent call last):
          File "unpassed/job.py", line 2, in <module>
            STAGE = os.environ.get("STAGE").lower()
        AttributeError: 'NoneType' object has no attribute 'lower'""",
        {"job.py": 'import os\nSTAGE = os.environ.get("STAGE").lower()\n'},
    ),
    "read_before": Case(
        "FileRaised",
        """\
        read_before/job.py:3: loading failed: AssertionError; mend the code
        Traceback (most recent call last):
          File "read_before/job.py", line 3, in <module>
            assert STAGE
        AssertionError
        read_before/job.py:2: reads the environment variable `STAGE`, which is set here but not passed to the code; \
add it to `pass_env` in [targets.read_before]""",
        {"job.py": 'import os\nSTAGE = os.environ.get("STAGE")\nassert STAGE\n'},
    ),
    "several": Case(
        "FilesRaised",
        """\
        [targets.several]: 2 files cannot be loaded

        several/b.py:2: loading failed: ModuleNotFoundError: No module named 'pandazz'; \
install what provides `pandazz`, or set `root_dir` in [targets.several] to the folder that it is in, \
or leave out `b.py` with `exclude`
        Traceback (most recent call last):
          File "several/b.py", line 2, in <module>
            import pandazz
        ModuleNotFoundError: No module named 'pandazz'
        it printed:
        loading b

        several/c.py:2: loading failed: ValueError; mend the code, or leave out `c.py` with `exclude`
        Traceback (most recent call last):
          File "several/c.py", line 2, in <module>
            raise ValueError
        ValueError
        it printed:
        loading c""",
        {
            "a.py": environment("several"),
            "b.py": 'print("loading b")\nimport pandazz\n',
            "c.py": 'print("loading c")\nraise ValueError\n',
        },
        keys="recursive = true",
        path="",
    ),
}
"""The code does not load."""

DECLARING: dict[str, Case] = {
    "variable": Case(
        "VariableUnknown",
        "[targets.variable] environment: variable/job.py has no environment `envv`; did you mean `env`?",
        {"job.py": environment("variable")},
        keys='environment = "envv"',
    ),
    "variable_of_another_kind": Case(
        "VariableUnknown",
        "[targets.variable_of_another_kind] environment: variable_of_another_kind/job.py has no environment `LIMIT`; "
        "known: `daily` and `weekly`",
        {
            "job.py": """\
                import flyte

                daily = flyte.TaskEnvironment(name="daily")
                weekly = flyte.TaskEnvironment(name="weekly")
                LIMIT = 3
                """
        },
        keys='environment = "LIMIT"',
    ),
    "variable_of_none": Case(
        "VariableUnknown",
        "[targets.variable_of_none] environment: variable_of_none/job.py has no environment `env`; "
        "declare one there with `flyte.TaskEnvironment`",
        {"job.py": "LIMIT = 3\n"},
    ),
    "nothing": Case(
        "NoEnvironments",
        "nothing/job.py: declares no flyte.TaskEnvironment; declare one, "
        "or point `path` in [targets.nothing] at the file that does",
        {"job.py": "LIMIT = 3\n"},
        keys="all = true",
    ),
    "no_code": Case(
        "NoEnvironments",
        "no_code: declares no flyte.TaskEnvironment; declare one, "
        "or point `path` in [targets.no_code] at the file that does",
        {"notes.txt": ""},
        keys="recursive = true",
        path="",
    ),
    "one_name": Case(
        "EnvironmentDuplicated",
        "one_name/b.py: environment `one_name` was already declared in one_name/a.py; "
        "rename one of them, names are unique in a deployment",
        {"a.py": environment("one_name"), "b.py": environment("one_name")},
        keys="recursive = true",
        path="",
    ),
    "one_name_in_a_file": Case(
        "EnvironmentDuplicated",
        "one_name_in_a_file/job.py: two environments are named `daily`; "
        "rename one of them, names are unique in a deployment",
        {"job.py": environment("daily") + 'other = flyte.TaskEnvironment(name="daily", depends_on=[env])\n'},
        keys='environment = "other"',
    ),
    "two_modules": Case(
        "ModuleImportedTwice",
        "two_modules/src/app/base.py: imported under two module names, `app.base` and "
        "`two_modules.src.app.base`; "
        'import it by one name everywhere, or set `root_dir = "two_modules/src"` in [targets.two_modules], '
        "the folder that your imports start from",
        {
            "src/app/base.py": environment("base"),
            "src/app/flows.py": """\
                import pathlib
                import sys

                sys.path.append(str(pathlib.Path(__file__).parents[1]))
                from app.base import env
                """,
        },
        keys="recursive = true",
        path="",
    ),
    "taken": Case(
        "ModuleNameTaken",
        "taken/resource.py: another module named `resource` is imported in its place; rename the file, "
        "or set `root_dir` in [targets.taken] to a folder above it",
        {"resource.py": environment("taken")},
        path="resource.py",
    ),
    "cycle": Case(
        "EnvironmentCycle",
        "cycle/job.py: `depends_on` is circular: extract -> load -> report -> extract; "
        "remove one of these dependencies",
        {
            "job.py": """\
                import flyte

                extract = flyte.TaskEnvironment(name="extract")
                load = flyte.TaskEnvironment(name="load")
                report = flyte.TaskEnvironment(name="report")
                env = flyte.TaskEnvironment(name="all", depends_on=[extract])
                extract.add_dependency(load)
                load.add_dependency(report)
                report.add_dependency(extract)
                """
        },
    ),
    "web": Case(
        "AppNotSupported",
        "web/job.py: environment `ui` is of type AppEnvironment, and only a TaskEnvironment can be deployed; "
        "set `skip_apps = true` in [targets.web] to deploy the others",
        {
            "job.py": environment("web", ", depends_on=[ui]").replace(
                "import flyte\n",
                'import flyte.app\n\nui = flyte.app.AppEnvironment(name="ui", image="ghcr.io/org/ui:v1")\n',
            )
        },
    ),
    "serializing": Case(
        "TaskNotSerialized",
        "serializing/job.py:6: task `serializing.score` cannot be serialized: ValueError: Trigger default input 'rate' "
        "must be an input to the task, but not found in task serializing.score. Available inputs: ['amount']; "
        "change its declaration",
        {
            "job.py": """\
                import flyte

                env = flyte.TaskEnvironment(name="serializing")


                @env.task(triggers=flyte.Trigger.hourly(inputs={"rate": 3}))
                async def score(amount: int) -> int:
                    return amount
                """
        },
    ),
}
"""The code loads, and what it declares cannot be deployed."""


def with_image(image: str) -> dict[str, str]:
    return {
        "job.py": environment("priced", f", image={image}").replace("import flyte\n", "import flyte\nimport pathlib\n")
    }


LATER: dict[str, Case] = {
    "reference": Case(
        "ImageReferenceUnknown",
        "reference/job.py: environment `priced` takes its image from the reference `bas`, which is not in "
        '[images.refs]; add `bas = "URI"` there (did you mean `base`?)',
        with_image('flyte.Image.from_ref_name("bas")'),
        step="images",
    ),
    "sha": Case(
        "VersionWithoutGit",
        "[targets.sha] version: `{git_sha}` has no value: no commit is checked out; "
        "commit or tag the checkout, or use `{content}`",
        {"job.py": environment("sha")},
        keys='environment = "env"\nversion = "v{git_sha}"',
        step="serialize",
    ),
    "tag": Case(
        "VersionWithoutGit",
        "[targets.tag] version: `{git_tag}` has no value: the commit has no tag; "
        "commit or tag the checkout, or use `{content}`",
        {"job.py": environment("tag")},
        keys='environment = "env"\nversion = "{git_tag}"',
        step="serialize",
    ),
    "build_number": Case(
        "VersionVariableUnset",
        "[targets.build_number] version: the environment variable `BUILD_NUMBER` is not set; "
        "set it, or use `{content}`",
        {"job.py": environment("build_number")},
        keys='environment = "env"\nversion = "{content}-{env:BUILD_NUMBER}"',
        step="serialize",
    ),
}
"""Discovered well, and wrong in a later step."""

CASES = LOADING | DECLARING | LATER
WHOLE = ("layout", "two_modules")
"""Cases whose root is the manifest's folder."""


def manifest(cases: dict[str, Case]) -> str:
    tables = ['[images.refs]\nbase = "ghcr.io/org/base:v1"\n']
    for name, case in cases.items():
        root = "." if name in WHOLE else name
        path = f"{name}/{case.path}".rstrip("/")
        tables.append(f'[targets.{name}]\npath = "{path}"\nroot_dir = "{root}"\n{case.keys}\n')
    return "\n".join(tables)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    made = Repository(tmp_path_factory.mktemp("dépôt"), {"sound/job.py": environment("sound")})
    for name, case in CASES.items():
        for file, text in case.files.items():
            made.write(f"{name}/{file}", text)
    sound = Case("", "", keys="all = true")
    # The sound target stands in the middle: neither the failures before it nor those after it stop it.
    made.write("deploy.toml", manifest({**LOADING, "sound": sound, **DECLARING, **LATER}))
    made.environ["STAGE"] = "production"
    return made


@pytest.fixture(scope="module")
def ran(repository: Repository) -> Ran:
    return repository.doit()


def without_carets(text: str) -> str:
    """Without the marks below a traceback's lines, which differ between versions of Python."""
    return re.sub(r"^ +[~^]*\^[~^]*\n", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.error(CASES[name].error)) for name in CASES])
def test_the_message_says_what_where_and_what_to_do(name: str, ran: Ran) -> None:
    case = CASES[name]
    assert without_carets(failures(ran)[f"{case.step}:{name}"]) == dedent(case.expected)


@pytest.mark.error("PathLeavesRoot")
def test_a_path_that_leads_out_of_its_root_says_where_to(tmp_path: Path) -> None:
    repository = Repository(tmp_path, {"elsewhere/job.py": environment("job")})
    repository.write("deploy.toml", '[targets.job]\npath = "app/job.py"\nroot_dir = "app"\nall = true\n')
    (tmp_path / "app").mkdir()
    (tmp_path / "app/job.py").symlink_to("../elsewhere/job.py")
    ran = repository.doit()
    assert (ran.code, failures(ran)) == (
        1,
        {
            "discover:job": "[targets.job] path: `app/job.py` leads to `elsewhere/job.py`, which is outside the root "
            "`app`; put the file itself there, or set `root_dir` to a folder that holds both"
        },
    )


@pytest.mark.error("FileUnreadable")
def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    repository = Repository(tmp_path, {"jobs/job.py": environment("job"), "jobs/closed/other.py": environment("other")})
    repository.write("deploy.toml", '[targets.jobs]\npath = "jobs"\nrecursive = true\n')
    (tmp_path / "jobs/closed").chmod(0)
    ran = repository.doit(under=bound())
    (tmp_path / "jobs/closed").chmod(0o700)
    assert (ran.code, failures(ran)) == (
        1,
        {
            "discover:jobs": "jobs/closed: cannot be read: Permission denied; make it readable, "
            "or leave it out with `exclude`"
        },
    )


def test_failing_targets_stop_no_other_and_their_messages_come_last(ran: Ran) -> None:
    assert ran.code == 1
    assert len(failures(ran)) == len(CASES)
    lines = ran.err.splitlines()
    assert [line for line in lines if line.startswith("deployed  sound  version ")]
    summary = next(index for index, line in enumerate(lines) if line.startswith(f"{len(CASES) + 1} targets: "))
    assert lines[summary].startswith(f"{len(CASES) + 1} targets: 1 done, {len(CASES)} failed  ")
    assert lines[summary + 1 : summary + 3] == ["", "FAILED discover:raises"]
    assert "failed    raises  at discover" in lines[:summary]
    assert "failed    reference  at images" in lines[:summary]


def test_none_of_our_own_code_is_in_a_message(ran: Ran) -> None:
    assert "flyte_build/" not in ran.err
    assert "importlib" not in ran.err
    assert "site-packages" not in ran.err
