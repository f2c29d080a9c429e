"""What is registered, in which order, and what is left when a deploy fails, is refused or is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from connectrpc.code import Code

from flyte_build.backend.database import IDENTITY
from flyte_build.errors import TasksNotRegistered, VersionTaken
from tests.checkout import Checkout
from tests.edits import replace
from tests.recording import PUT, RecordingServer
from tests.repository import SCRIPTS, Repository

SETTINGS = """
[flyte]
endpoint = "{endpoint}"
insecure = true
project = "payments"
domain = "staging"
org = "acme"

[profiles.prod.flyte]
domain = "production"

"""
MANIFEST = """
[targets.fraud]
path = "fraud.py"
environment = "score_env"
"""
TEN_TASKS = """
import os
import time

import flyte

from helper import NUMBER

if os.path.exists("wait"):
    open("waiting", "w").close()
    time.sleep(60)

prepare_env = flyte.TaskEnvironment(name="prepare", image="image:1")
score_env = flyte.TaskEnvironment(name="score", image="image:1", depends_on=[prepare_env])
"""
TASKS = tuple(f"{env}.step_{index}" for env in ("prepare", "score") for index in range(5))
FILES = {
    "fraud.py": TEN_TASKS
    + "".join(
        f"\n\n@{env}_env.task\nasync def step_{index}(x: int = 1) -> int:\n    return x + NUMBER\n"
        for env in ("prepare", "score")
        for index in range(5)
    ),
    "helper.py": "NUMBER = 1\n",
    "dodo.py": "from flyte_build.dodo import *\n",
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RecordingServer]:
    with RecordingServer(tmp_path / "server") as running:
        yield running


@pytest.fixture
def checkout(tmp_path: Path, server: RecordingServer) -> Checkout:
    """Ten tasks in two environments, one of which depends on the other."""
    return Checkout(tmp_path / "repo", {**FILES, "deploy.toml": SETTINGS.format(endpoint=server.endpoint) + MANIFEST})


@pytest.fixture
def embedded(tmp_path: Path) -> Checkout:
    """The same for the embedded control plane."""
    return Checkout(tmp_path / "repo", {**FILES, "deploy.toml": MANIFEST})


def sent(server: RecordingServer) -> list[str]:
    """The tasks of the DeployTask calls, in order."""
    return [request.task_id.name for request in server.requests("DeployTask")]


def is_task(*names: str) -> Callable[[Any], bool]:
    return lambda request: request.task_id.name in names


def is_other_task(*names: str) -> Callable[[Any], bool]:
    return lambda request: request.task_id.name not in names


# --- what is sent


def test_project_domain_and_org_of_the_manifest_are_in_every_request(
    checkout: Checkout, server: RecordingServer
) -> None:
    checkout.deploy()
    for request in server.requests("DeployTask"):
        for identifier in (request.task_id, request.spec.task_template.id):
            assert (identifier.org, identifier.project, identifier.domain) == ("acme", "payments", "staging")
            assert (identifier.name, identifier.version) == (request.task_id.name, request.task_id.version)
    (upload,) = server.requests("CreateUploadLocation")
    assert (upload.org, upload.project, upload.domain) == ("acme", "payments", "staging")


def test_the_whole_target_has_one_version_and_one_bundle(checkout: Checkout, server: RecordingServer) -> None:
    checkout.deploy()
    requests = server.requests("DeployTask")
    assert sorted(sent(server)) == sorted(TASKS)
    assert {request.task_id.version for request in requests} == {checkout.left("fraud").version}
    (bundle,) = {
        argument for r in requests for argument in r.spec.task_template.container.args if ".tar.gz" in argument
    }
    assert [name for name, _ in server.uploads] == [bundle.rpartition("/")[2]]
    assert server.uploads[0][1] == checkout.left("fraud").bundle


def test_dependencies_are_registered_before_what_depends_on_them(checkout: Checkout, server: RecordingServer) -> None:
    checkout.replace(
        "fraud.py", "prepare_env = flyte", "deep_env = flyte.TaskEnvironment(name='a')\nprepare_env = flyte"
    )
    checkout.replace("fraud.py", 'name="prepare", image="image:1"', 'name="prepare", depends_on=[deep_env]')
    checkout.write(
        "fraud.py", checkout.read("fraud.py") + "\n\n@deep_env.task\nasync def deep() -> int:\n    return 1\n"
    )
    checkout.deploy()
    environments = [name.partition(".")[0] for name in sent(server)]
    assert environments == ["a", *["prepare"] * 5, *["score"] * 5]


def test_a_dependency_that_is_slow_to_be_registered_is_waited_for(checkout: Checkout, server: RecordingServer) -> None:
    server.fail("DeployTask", Code.UNAVAILABLE, times=3, when=is_task("prepare.step_4"))
    checkout.deploy()
    names = sent(server)
    assert names.count("prepare.step_4") == 4
    environments = [name.partition(".")[0] for name in names]
    assert environments == sorted(environments)  # the tasks of one go side by side, in any order


def test_triggers_are_registered_with_their_task(checkout: Checkout, server: RecordingServer) -> None:
    trigger = 'flyte.Trigger(name="nightly", automation=flyte.Cron("0 2 * * *"), inputs={"x": 5})'
    checkout.replace(
        "fraud.py", "@score_env.task\nasync def step_3", f"@score_env.task(triggers={trigger})\nasync def step_3"
    )
    checkout.deploy()
    with_triggers = {r.task_id.name: [t.name for t in r.triggers] for r in server.requests("DeployTask") if r.triggers}
    assert with_triggers == {"score.step_3": ["nightly"]}
    checkout.replace("fraud.py", "0 2 * * *", "0 3 * * *")
    assert set(checkout.deploy()) >= {"serialize", "deploy"}
    last = server.requests("DeployTask")[-1]
    assert {r.task_id.version for r in server.requests("DeployTask")[10:]} == {last.task_id.version}


def test_another_profile_is_bound_without_running_code_again(checkout: Checkout, server: RecordingServer) -> None:
    checkout.deploy()
    version = checkout.left("fraud").version
    server.forget()
    checkout.variables["profile"] = "prod"
    assert set(checkout.deploy()) == {"images", "upload", "serialize", "deploy"}
    assert {request.task_id.domain for request in server.requests("DeployTask")} == {"production"}
    assert {request.task_id.version for request in server.requests("DeployTask")} == {version}
    server.forget()
    del checkout.variables["profile"]
    assert checkout.deploy() == {}
    assert server.counts == {}


def test_two_targets_of_one_file_have_one_version(checkout: Checkout, server: RecordingServer) -> None:
    checkout.write("deploy.toml", checkout.read("deploy.toml") + MANIFEST.replace("fraud]", "again]"))
    checkout.deploy()
    assert checkout.left("fraud") == checkout.left("again")
    assert len({request.task_id.version for request in server.requests("DeployTask")}) == 1


def test_targets_deployed_in_parallel_are_sent_once_each(checkout: Checkout, server: RecordingServer) -> None:
    for name in ("second", "third"):
        checkout.write(f"{name}.py", checkout.read("fraud.py").replace('name="', f'name="{name}_'))
        checkout.write("deploy.toml", checkout.read("deploy.toml") + MANIFEST.replace("fraud", name))
    repository = Repository(checkout.folder)
    first = repository.doit("-n", "3", "deploy")
    assert (first.code, len(sent(server)), server.count(PUT)) == (0, 30, 3), first.err
    server.forget()
    assert repository.doit("-n", "3", "deploy").code == 0
    assert server.counts == {}


def test_targets_deployed_in_parallel_to_the_embedded_control_plane_stay_fresh(embedded: Checkout) -> None:
    for name in ("second", "third"):
        embedded.write(f"{name}.py", embedded.read("fraud.py").replace('name="', f'name="{name}_'))
        embedded.write("deploy.toml", embedded.read("deploy.toml") + MANIFEST.replace("fraud", name))
    done = Repository(embedded.folder).doit("-n", "3", "deploy")
    assert done.code == 0, done.err
    assert embedded.deploy() == {}
    for name in ("fraud", "second", "third"):
        assert embedded.registered(name) == embedded.left(name).specs


# --- failures


def test_one_task_of_ten_that_fails_leaves_the_others_registered_and_is_all_that_the_next_run_sends(
    checkout: Checkout, server: RecordingServer
) -> None:
    repository = Repository(checkout.folder)
    server.fail("DeployTask", Code.INVALID_ARGUMENT, when=is_task("prepare.step_2"))
    failed = repository.doit("deploy")
    assert failed.code == 1
    assert failed.err.endswith(
        "FAILED deploy:fraud\n"
        "[targets.fraud]: 1 of 10 tasks were not registered; the next run registers only what is missing\n"
        f"{server.endpoint}: cannot register task `prepare.step_2` in `payments/staging`: invalid: "
        "made to fail: DeployTask; change what it names\n"
    )
    assert sorted(sent(server)) == sorted(TASKS)
    assert not checkout.state("targets/fraud/deploy.json").exists()
    server.forget()
    again = repository.doit("deploy")
    assert again.code == 0, again.err
    assert server.counts == {"DeployTask": 1}
    assert sent(server) == ["prepare.step_2"]
    assert "registered 1 task " in again.err
    server.forget()
    assert repository.doit("deploy").code == 0
    assert server.counts == {}


def test_several_failures_are_told_together_by_name(checkout: Checkout, server: RecordingServer) -> None:
    server.fail("DeployTask", Code.PERMISSION_DENIED, times=2, when=is_task("score.step_1", "prepare.step_0"))
    with pytest.raises(TasksNotRegistered) as caught:
        checkout.deploy()
    head, first, second = caught.value.message.split("\n")
    assert head.startswith("[targets.fraud]: 2 of 10 tasks were not registered; ")
    assert "`prepare.step_0`" in first
    assert "`score.step_1`" in second


def test_an_edit_after_a_failure_sends_everything_in_its_new_version(
    checkout: Checkout, server: RecordingServer
) -> None:
    server.fail("DeployTask", Code.INVALID_ARGUMENT, when=is_task("score.step_2"))
    with pytest.raises(TasksNotRegistered):
        checkout.deploy()
    server.forget()
    checkout.replace("helper.py", "1", "2")
    checkout.deploy()
    assert sorted(sent(server)) == sorted(TASKS)
    assert len({request.task_id.version for request in server.requests("DeployTask")}) == 1


def test_a_control_plane_that_is_away_for_a_moment_is_asked_again(checkout: Checkout, server: RecordingServer) -> None:
    server.fail("DeployTask", Code.UNAVAILABLE, times=2, when=is_task("score.step_0"))
    server.fail("CreateUploadLocation", Code.UNAVAILABLE, times=1)
    server.fail(PUT, 503, times=1)
    checkout.deploy()
    assert sorted(set(sent(server))) == sorted(TASKS)
    assert len(sent(server)) == len(TASKS) + 2
    assert server.count(PUT) == 2
    assert checkout.deploy() == {}


def test_a_journal_of_other_content_or_a_torn_one_is_not_believed(checkout: Checkout, server: RecordingServer) -> None:
    server.fail("DeployTask", Code.INVALID_ARGUMENT, when=is_task("score.step_4"))
    with pytest.raises(TasksNotRegistered):
        checkout.deploy()
    journal = checkout.state("targets/fraud/deploy.log")
    lines = journal.read_text().splitlines()
    assert sorted(lines[1:]) == sorted(set(TASKS) - {"score.step_4"})
    journal.write_text("\n".join([*lines[:4], "score.step_4"]))
    server.forget()
    checkout.deploy()
    assert sorted(sent(server)) == sorted(set(TASKS) - set(lines[1:4]))


def test_a_control_plane_made_anew_after_a_failure_gets_everything(embedded: Checkout) -> None:
    embedded.deploy()
    journal = embedded.state("targets/fraud/deploy.log")
    assert not journal.exists()
    identity = embedded.state(f"backend/{IDENTITY}").read_bytes()
    embedded.state("targets/fraud/deploy.json").unlink()
    for path in embedded.state("backend").iterdir():
        path.unlink()
    assert set(embedded.deploy()) == {"deploy"}
    assert embedded.state(f"backend/{IDENTITY}").read_bytes() != identity
    assert set(embedded.registered("fraud")) == set(TASKS)


# --- explicit versions


@pytest.fixture
def explicit(checkout: Checkout) -> Checkout:
    """Deployed as version v1."""
    checkout.write("deploy.toml", checkout.read("deploy.toml") + 'version = "v1"\n')
    checkout.deploy()
    return checkout


def test_an_explicit_version_with_other_content_is_refused_and_nothing_is_sent(
    explicit: Checkout, server: RecordingServer
) -> None:
    server.forget()
    explicit.replace("fraud.py", 'name="score", image="image:1"', 'name="score", image="image:2"')
    refused = Repository(explicit.folder).doit("deploy")
    assert refused.code == 1
    bundle = {name for name, _ in server.uploads}
    assert len(bundle) == 1
    assert refused.err.partition("FAILED ")[2].startswith(
        "deploy:fraud\n"
        f"{server.endpoint}: task `prepare.step_0` already has a version `v1` that is different; "
        "choose another version, or overwrite it with `force=true`\n"
        "  task_template.container.args"
    )
    assert server.count("DeployTask") == 0


def test_the_first_differing_fields_are_shown(embedded: Checkout) -> None:
    embedded.write("deploy.toml", embedded.read("deploy.toml") + 'version = "v1"\ncopy_style = "none"\n')
    embedded.deploy()
    edits = {
        'name="prepare", image="image:1"': 'name="prepare", image="image:2", resources=flyte.Resources(cpu=2)',
        "async def step_0(x: int = 1)": "async def step_0(x: int = 3)",
    }
    for old, new in edits.items():
        embedded.replace("fraud.py", old, new)
    with pytest.raises(VersionTaken) as caught:
        embedded.deploy()
    assert re.sub(r"'[0-9a-f]+\.\.\.", "...", caught.value.message) == (
        "the embedded control plane: task `prepare.step_0` already has a version `v1` that is different; "
        "choose another version, or overwrite it with `force=true`\n"
        "  default_inputs[0].parameter.default.scalar.primitive.integer: '1' -> '3'\n"
        "  task_template.container.image: 'image:1' -> 'image:2'\n"
        "  task_template.container.resources.requests[0].name: nothing -> 'CPU'\n"
        "  task_template.container.resources.requests[0].value: nothing -> '2'\n"
        "  task_template.metadata.discovery_version: ... -> ..."
    )


def test_a_refused_version_is_not_registered_in_part(explicit: Checkout, server: RecordingServer) -> None:
    """The first environment's tasks are new, those of the second are there with other content."""
    explicit.replace("fraud.py", 'name="prepare"', 'name="renamed"')
    server.forget()
    with pytest.raises(VersionTaken):
        explicit.deploy()
    assert server.count("DeployTask") == 0


def test_force_overwrites_an_explicit_version(explicit: Checkout, server: RecordingServer) -> None:
    server.forget()
    explicit.replace("helper.py", "1", "2")
    forced = Repository(explicit.folder).doit("deploy", "force=true")
    assert forced.code == 0, forced.err
    assert sorted(sent(server)) == sorted(TASKS)
    assert {request.task_id.version for request in server.requests("DeployTask")} == {"v1"}
    assert explicit.deploy() == {}


def test_an_explicit_version_with_equal_content_is_not_sent_again(explicit: Checkout, server: RecordingServer) -> None:
    server.forget()
    explicit.state("targets/fraud/deploy.json").unlink()
    assert set(explicit.deploy()) == {"deploy"}
    assert server.counts == {"GetTaskDetails": 10}
    server.forget()
    assert explicit.deploy() == {}
    assert server.counts == {}


def test_an_explicit_version_that_was_refused_and_undone_is_fresh_after_one_look(
    explicit: Checkout, server: RecordingServer
) -> None:
    explicit.replace("helper.py", "1", "2")
    with pytest.raises(VersionTaken):
        explicit.deploy()
    explicit.replace("helper.py", "2", "1")
    server.forget()
    explicit.deploy()
    assert server.count("DeployTask") == 0
    assert explicit.deploy() == {}


def test_a_failed_explicit_version_is_completed(checkout: Checkout, server: RecordingServer) -> None:
    checkout.write("deploy.toml", checkout.read("deploy.toml") + 'version = "v1"\n')
    server.fail("DeployTask", Code.INVALID_ARGUMENT, when=is_task("score.step_2"))
    with pytest.raises(TasksNotRegistered):
        checkout.deploy()
    server.forget()
    checkout.deploy()
    assert sent(server) == ["score.step_2"]


def test_a_version_that_holds_the_content_is_never_looked_up(checkout: Checkout, server: RecordingServer) -> None:
    checkout.write("deploy.toml", checkout.read("deploy.toml") + 'version = "release-{content}"\n')
    checkout.deploy()
    assert server.count("GetTaskDetails") == 0
    assert checkout.left("fraud").version.startswith("release-")


# --- killed


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("FLYTE", "AWS", "UCTL"))}
    return subprocess.Popen(
        [SCRIPTS / "doit", *words],
        cwd=folder,
        env=environ,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_killed_while_it_registers_the_next_run_sends_only_what_is_missing(
    checkout: Checkout, server: RecordingServer
) -> None:
    first = ("prepare.step_0", "prepare.step_1", "prepare.step_2")
    server.fail("DeployTask", Code.UNAVAILABLE, times=-1, when=is_other_task(*first))
    process = start(checkout.folder, "deploy")
    journal = checkout.state("targets/fraud/deploy.log")
    wait_for(lambda: journal.exists() and len(journal.read_text().splitlines()) == 4, process)
    kill(process)
    assert not checkout.state("targets/fraud/deploy.json").exists()
    server._failures.clear()
    server.forget()
    assert set(checkout.deploy()) == {"deploy"}
    assert sorted(sent(server)) == sorted(set(TASKS) - set(first))
    assert server.count(PUT) == 0
    assert checkout.deploy() == {}


def test_killed_while_it_uploads_the_next_run_uploads_again(checkout: Checkout, server: RecordingServer) -> None:
    running: list[subprocess.Popen[str]] = []

    def kill_it(_name: str) -> bool:
        while not running:
            time.sleep(0.01)
        running.pop().kill()
        return False

    server.fail(PUT, 503, when=kill_it)
    process = start(checkout.folder, "deploy")
    running.append(process)
    assert process.wait(60) == -signal.SIGKILL
    server._failures.clear()
    server.forget()
    assert set(checkout.deploy()) == {"upload", "serialize", "deploy"}
    assert (server.count(PUT), sorted(sent(server))) == (1, sorted(TASKS))


def test_killed_while_code_loads_it_leaves_no_process_and_nothing_done(
    checkout: Checkout, server: RecordingServer
) -> None:
    (checkout.folder / "wait").touch()
    process = start(checkout.folder, "deploy")
    wait_for((checkout.folder / "waiting").exists, process)
    kill(process)
    deadline = time.monotonic() + 10
    while processes_in(checkout.folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes_in(checkout.folder) == []
    (checkout.folder / "wait").unlink()
    assert len(checkout.deploy()) == 6
    assert sorted(sent(server)) == sorted(TASKS)


def processes_in(folder: Path) -> list[str]:
    """Command lines of the processes whose current folder this is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder:
                found.append((process / "cmdline").read_text())
        except OSError:
            continue  # it has ended, or is another user's
    return found


EVENTS = 60
"""So often, and a little oftener, does a first deploy change its state folder."""
_KILLED_AT = """
import os, signal, sys

state, left = os.path.join(os.getcwd(), ".flyte-build", ""), [int(sys.argv.pop(1))]


def writes(path, mode, flags):
    return mode[0] in "wax" if isinstance(mode, str) else bool(flags & os.O_CREAT)


def hook(event, arguments):
    if event not in ("open", "os.rename", "os.remove", "os.mkdir", "sqlite3.connect"):
        return
    if not str(arguments[0]).startswith(state) or event == "open" and not writes(*arguments):
        return
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)


from flyte_build.graph import main
sys.addaudithook(hook)
sys.argv = ["flyte-build", "deploy"]
status = main()
sys.exit(status)
"""


def kill_at(moment: int, checkout: Checkout) -> bool:
    """Whether the deploy was killed just before it changed the state folder for the so manieth time."""
    command = [sys.executable, "-c", _KILLED_AT, str(moment)]
    done = subprocess.run(command, cwd=checkout.folder, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def check_after_kill(moment: int, embedded: Checkout) -> bool:
    killed = kill_at(moment, embedded)
    embedded.deploy()
    left = embedded.left("fraud")
    assert embedded.registered("fraud") == left.specs
    assert embedded.deploy() == {}
    replace("helper.py", "1", "2")(embedded)
    killed_again = kill_at(moment, embedded)
    replace("helper.py", "2", "1")(embedded)
    embedded.deploy()
    assert embedded.left("fraud") == left
    assert embedded.registered("fraud") == left.specs
    assert embedded.deploy() == {}
    return killed or killed_again


@pytest.mark.parametrize("moment", [3, 9, 17, 24, 30])
def test_killed_before_any_change_of_its_state_the_next_run_completes_it(moment: int, embedded: Checkout) -> None:
    assert check_after_kill(moment, embedded)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("moment", range(1, EVENTS + 1))
def test_killed_before_each_change_of_its_state_the_next_run_completes_it(moment: int, embedded: Checkout) -> None:
    assert check_after_kill(moment, embedded)
