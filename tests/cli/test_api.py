"""`flyte_build.deploy(...)` in scripts, run as their users run them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.recording import RecordingServer
from tests.repository import Ran, Repository, environment, failures

CALL = """
import flyte_build
print(flyte_build.deploy({arguments}).json().decode())
"""
VERSION = r"[0-9a-f]{32}"


def script(name: str, arguments: str) -> str:
    """A workflow that deploys itself, at module level."""
    return environment(name) + CALL.format(arguments=arguments)


def result(ran: Ran) -> dict[str, Any]:
    assert (ran.code, ran.err) == (0, "")
    (line,) = ran.out.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def refusal(ran: Ran) -> str:
    """What an exception that nobody catches leaves on the screen: the SDK's hook splits it over both streams."""
    assert ran.code == 1
    return ran.out + ran.err


@pytest.fixture
def scripts(tmp_path: Path) -> Repository:
    """A folder with no manifest."""
    repository = Repository(tmp_path)
    (tmp_path / "dodo.py").unlink()
    return repository


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RecordingServer]:
    with RecordingServer(tmp_path / "server") as server:
        yield server


def settings(server: RecordingServer) -> str:
    """A manifest for the server, with a target that is not what scripts deploy."""
    return f"""
        [flyte]
        endpoint = "{server.endpoint}"
        insecure = true

        [targets.other]
        path = "other.py"
        all = true

        [profiles.prod.flyte]
        domain = "production"
        """


# --- deploying


def test_a_script_that_deploys_itself_at_module_level_runs_once_and_then_has_nothing_to_do(scripts: Repository) -> None:
    scripts.write("job.py", script("job", "env"))
    first = result(scripts.python("job.py"))
    assert re.fullmatch(VERSION, first["version"])
    assert re.fullmatch(r"file:///.*/\.flyte-build/store/[0-9a-f]{32}\.tar\.gz", first["bundle_uri"])
    assert (first["environments"], first["tasks"], first["changed"]) == (["job"], ["job.job_task"], True)
    assert result(scripts.python("job.py")) == {**first, "changed": False}
    assert result(scripts.run(sys.executable, "-m", "job")) == {**first, "changed": False}
    scripts.write("job.py", script("job", "env").replace("return amount", "return -amount"))
    changed = result(scripts.python("job.py"))
    assert changed["changed"]
    assert changed["version"] != first["version"]


def test_several_environments_are_deployed_with_what_they_depend_on(scripts: Repository) -> None:
    scripts.write("lib/prep.py", environment("prep"))
    first = environment("daily", ", depends_on=[prep]").replace("env", "daily_env")
    second = environment("weekly").replace("env", "weekly_env")
    scripts.write(
        "job.py",
        f"from lib.prep import env as prep\n{first}{second}" + CALL.format(arguments="[daily_env, weekly_env]"),
    )
    done = result(scripts.python("job.py"))
    assert done["environments"] == ["prep", "daily", "weekly"]
    assert done["tasks"] == ["prep.prep_task", "weekly.weekly_task", "daily.daily_task"]


def test_a_guarded_script_deploys_environments_that_it_imports(scripts: Repository) -> None:
    scripts.write("src/app/base.py", environment("base"))
    scripts.write(
        "src/app/flows.py",
        f"from app.base import env as base\n{environment('flows', ', depends_on=[base]')}\n"
        'if __name__ == "__main__":\n    import flyte_build\n\n'
        '    print(flyte_build.deploy(env, root_dir="src").json().decode())\n',
    )
    scripts.environ["PYTHONPATH"] = str(scripts.folder / "src")
    assert result(scripts.python("src/app/flows.py"))["tasks"] == ["base.base_task", "flows.flows_task"]


def test_a_version_is_taken_as_it_is_and_not_overwritten_unless_forced(scripts: Repository) -> None:
    scripts.write("job.py", script("job", 'env, version="v2.0.0"'))
    assert result(scripts.python("job.py"))["version"] == "v2.0.0"
    scripts.write("job.py", script("job", 'env, version="v2.0.0"').replace("amount: int", "amount: float"))
    assert (
        "the embedded control plane: task `job.job_task` already has a version `v2.0.0` that is different; "
        "choose another version, or overwrite it with `force=true`\n  "
    ) in refusal(scripts.python("job.py"))
    scripts.write("job.py", scripts.read("job.py").replace('"v2.0.0"', '"v2.0.0", force=True'))
    assert result(scripts.python("job.py"))["changed"]


def test_a_dry_run_says_what_would_be_done_and_sends_nothing(scripts: Repository, server: RecordingServer) -> None:
    scripts.write("deploy.toml", settings(server))
    scripts.write("other.py", "1 / 0\n")
    scripts.write("job.py", script("job", "env, dry_run=True"))
    planned = result(scripts.python("job.py"))
    assert (planned["tasks"], planned["changed"], planned["bundle_uri"]) == (["job.job_task"], True, "")
    assert server.counts.total() == 0

    scripts.write("now.py", "import flyte_build\nfrom job import env\nprint(flyte_build.deploy(env).json().decode())\n")
    scripts.write("job.py", environment("job"))
    assert result(scripts.python("now.py"))["changed"]
    scripts.write("now.py", scripts.read("now.py").replace("(env)", "(env, dry_run=True)"))
    server.forget()
    # The script is a part of what is deployed.
    assert result(scripts.python("now.py"))["changed"]
    assert server.counts.total() == 0


def test_the_manifest_above_says_where(scripts: Repository, server: RecordingServer) -> None:
    scripts.write("deploy.toml", settings(server))
    scripts.write("other.py", "")
    scripts.write("jobs/job.py", script("job", 'env, profile="prod", project="risk", version="v1"'))
    ran = scripts.run("sh", "-c", f"cd jobs && {sys.executable} job.py")
    assert result(ran)["tasks"] == ["job.job_task"]
    (request,) = server.requests("DeployTask")
    assert (request.task_id.project, request.task_id.domain, request.task_id.version) == ("risk", "production", "v1")
    assert not (scripts.folder / "jobs/.flyte-build").exists()


def test_code_sees_the_variables_that_are_passed(scripts: Repository) -> None:
    reads = 'import os\nSTAGE = os.environ["STAGE"]\n'
    scripts.environ["STAGE"] = "production"
    scripts.write("job.py", reads + script("job", "env"))
    assert (
        "; it reads the environment variable `STAGE`, which is set here but not passed to the code: "
        "add it to `pass_env` in flyte_build.deploy()\n"
    ) in refusal(scripts.python("job.py"))
    scripts.write("job.py", reads + script("job", 'env, pass_env=["STAGE"]'))
    assert result(scripts.python("job.py"))["changed"]


# --- failing

REFUSALS = {
    "flyte_build.deploy()": "NothingToDeploy: flyte_build.deploy(): no environment was given; "
    "pass the environments to deploy",
    "flyte_build.deploy([])": "NothingToDeploy: flyte_build.deploy(): no environment was given; "
    "pass the environments to deploy",
    'flyte_build.deploy("env")': "NotAnEnvironment: flyte_build.deploy(): 'env' is no environment; "
    "pass objects of flyte.TaskEnvironment",
    'flyte_build.deploy(env, domian="x")': "CommandLineVariableUnknown: command line: no variable `domian`; "
    "did you mean `domain`?",
    'flyte_build.deploy(env, profile="prod")': "UnknownProfile: deploy.toml: no profile `prod`; there are none",
    'flyte_build.deploy(env, copy_style="loaded")': "UnknownChoice: flyte_build.deploy(): copy_style: "
    "`loaded` is not a choice; did you mean `loaded_modules`?",
    'flyte_build.deploy(env, copy_style="none")': "VersionRequired: flyte_build.deploy(): copy_style: "
    '`copy_style = "none"` bundles no code that could give a version; write a `version` without `{content}`, '
    "or give `version=` on the command line",
    'flyte_build.deploy(env, version="{sha}")': "UnknownPlaceholder: flyte_build.deploy(): version: "
    "`{sha}` is not a placeholder; did you mean `{git_sha}`?",
    'flyte_build.deploy(env, version="{git_sha}")': "VersionWithoutGit: flyte_build.deploy() version: `{git_sha}` "
    "has no value: no commit is checked out; commit or tag the checkout, or use `{content}`",
    'flyte_build.deploy(env, root_dir="src")': "PathOutsideRoot: flyte_build.deploy(): root_dir: "
    "`job.py` is outside the root `src`; set `root_dir` to a folder that holds it",
    'flyte_build.deploy(env, manifest="ci.toml")': "ManifestMissing: ci.toml: no such file; "
    'write one, for example:\n\n[targets.hello]\npath = "hello.py"\nall = true',
}
"""Call -> the exception's type and text."""


@pytest.mark.error(*(told.partition(":")[0] for told in REFUSALS.values()))
def test_what_cannot_be_deployed_is_an_exception_with_the_words_of_the_command(scripts: Repository) -> None:
    scripts.write("src/app.py", "")
    lines = [f"        lambda: {call}," for call in REFUSALS]
    scripts.write(
        "job.py",
        environment("job")
        + """\
if __name__ == "__main__":
    import json
    import flyte_build
    from flyte_build.errors import BuildError

    told = []
    for call in [
"""
        + "\n".join(lines)
        + """
    ]:
        try:
            told.append(str(call()))
        except BuildError as error:
            told.append(f"{type(error).__name__}: {error}")
    print(json.dumps(told))
""",
    )
    ran = scripts.python("job.py")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == list(REFUSALS.values())


def test_code_that_fails_is_told_as_the_command_tells_it(scripts: Repository) -> None:
    broken = f'if __name__ != "__main__":\n    print("loading")\n    1 / 0\n{environment("job")}'
    scripts.write(
        "job.py",
        f"{broken}\ntry:\n    import flyte_build\n\n    flyte_build.deploy(env)\n"
        "except flyte_build.errors.StepError as error:\n    print(error)\n",
    )
    told = scripts.python("job.py")
    scripts.write("dodo.py", "from flyte_build.dodo import *\n")
    scripts.write("deploy.toml", '[targets.job]\npath = "job.py"\nall = true\n')
    assert told.out.rstrip("\n") == failures(scripts.doit())["discover:job"]
    assert told.out.startswith("job.py:3: loading failed: ZeroDivisionError: division by zero; mend the code\n")


@pytest.mark.error("EnvironmentNotReproduced")
def test_an_environment_that_only_running_declares_is_refused(scripts: Repository) -> None:
    body = "".join(f"    {line}\n" for line in script("job", "env").splitlines())
    scripts.write("job.py", f'if __name__ == "__main__":\n{body}')
    assert (
        "EnvironmentNotReproduced: job.py: importing it does not give environment `job`; declare or import it at "
        'module level, outside of `if __name__ == "__main__":`\n'
    ) in refusal(scripts.python("job.py"))


@pytest.mark.error("EnvironmentWithoutFile")
def test_an_environment_that_is_in_no_file_is_refused(scripts: Repository) -> None:
    code = "import flyte, flyte_build\nenv = flyte.TaskEnvironment(name='job')\nflyte_build.deploy(env)\n"
    ran = scripts.run(sys.executable, "-c", code)
    assert (
        "EnvironmentWithoutFile: flyte_build.deploy(): environment `job` is declared in no file; put it into a module\n"
    ) in refusal(ran)


@pytest.mark.error("FileOutsideFolder")
def test_a_script_outside_the_folder_is_refused(scripts: Repository) -> None:
    scripts.write("job.py", script("job", "env"))
    (scripts.folder / "elsewhere").mkdir()
    ran = scripts.run("sh", "-c", f"cd elsewhere && {sys.executable} ../job.py")
    folder = scripts.folder.resolve()
    assert (
        f"FileOutsideFolder: {folder}/job.py: is not below {folder}/elsewhere; run from the repository's folder, "
        "or name its deploy.toml with `manifest=`\n"
    ) in refusal(ran)
