"""doit's commands on a repository, as its users know them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.recording import PUT, RecordingServer
from tests.repository import MANIFEST, SCRIPTS, Ran, Repository, environment, failures, small

SERVICES = """
    [targets.services]
    for_each = "services/*"
    path = "{dir}/workflow.py"
    all = true

    [targets.report]
    path = "report.py"
    all = true

    [profiles.prod.flyte]
    project = "risk"
    domain = "production"
"""
STEPS = ["discover", "images", "bundle", "upload", "serialize", "deploy"]
"""In the order in which they are told."""
VERSION = r"[0-9a-f]{32}"


def services(folder: Path, *names: str) -> Repository:
    files = {f"services/{name}/workflow.py": environment(name) for name in names}
    return Repository(folder, {"deploy.toml": SERVICES, "report.py": environment("report"), **files})


def shape(ran: Ran) -> list[str]:
    """The lines of a run's talk, without versions and seconds."""
    return [re.sub(r"  \d+\.\d s$", "", re.sub(VERSION, "VERSION", line)) for line in ran.err.splitlines()]


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".flyte-build" not in path.parts
    }


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RecordingServer]:
    with RecordingServer(tmp_path / "server") as server:
        yield server


@pytest.fixture
def remote(repository: Repository, server: RecordingServer) -> Repository:
    """Deploys to the recording server."""
    settings = f'[flyte]\nendpoint = "{server.endpoint}"\ninsecure = true\n'
    repository.write("deploy.toml", settings + repository.read("deploy.toml"))
    return repository


# --- deploying


def test_a_first_deploy_tells_each_step_and_a_second_finds_nothing_to_do(repository: Repository) -> None:
    first = repository.doit()
    assert (first.code, first.out) == (0, "")
    assert shape(first) == [
        *(f"{step:<10}fraud  (not done here yet)" for step in STEPS),
        "deployed  fraud  version VERSION, registered 1 task  (not done here yet)",
        "1 target: 1 done",
    ]
    second = repository.doit("deploy")
    assert (second.code, second.out) == (0, "")
    assert shape(second) == ["fresh     fraud", "1 target: 1 fresh"]


def test_the_reason_stands_beside_the_target(repository: Repository) -> None:
    assert repository.doit().code == 0
    repository.write("fraud.py", environment("env", "").replace("amount", "sum"))
    assert shape(repository.doit())[-2:] == [
        "deployed  fraud  version VERSION, registered 1 task  (fraud.py changed)",
        "1 target: 1 done",
    ]


def test_wildcards_and_names_choose_targets(tmp_path: Path) -> None:
    repository = services(tmp_path, "churn", "fraud")
    chosen = repository.doit("deploy:services/*")
    assert (chosen.code, shape(chosen)[-1]) == (0, "2 targets: 2 done")
    one = repository.doit("deploy:services/fraud")
    assert (one.code, shape(one)) == (0, ["fresh     services/fraud", "1 target: 1 fresh"])
    everything = repository.doit()
    assert (everything.code, shape(everything)[-1]) == (0, "3 targets: 1 done, 2 fresh")


@pytest.mark.parametrize("how", [("-P", "process"), ("-P", "thread")], ids=["processes", "threads"])
def test_a_parallel_deploy_gives_what_a_serial_one_gives(how: tuple[str, ...], tmp_path: Path) -> None:
    names = ("a", "b", "c", "d")
    serial, parallel = (services(tmp_path / kind, *names) for kind in ("serial", "parallel"))
    first, second = serial.doit("-n", "0"), parallel.doit("-n", "4", *how)
    assert (first.code, second.code) == (0, 0)
    told = [sorted(line for line in ran.err.splitlines() if line.startswith("deployed")) for ran in (first, second)]
    versions = [re.findall(rf"(\S+)  version ({VERSION})", "\n".join(lines)) for lines in told]
    assert len(versions[0]) == len(names) + 1
    assert versions[0] == versions[1]
    assert shape(second)[-1] == "5 targets: 5 done"
    again = parallel.doit("-n", "4", *how)
    assert (again.code, shape(again)[-1]) == (0, "5 targets: 5 fresh")


def test_one_after_another_brings_each_target_to_its_end_before_the_next_begins(tmp_path: Path) -> None:
    ran = services(tmp_path, "a", "b").doit("-n", "0", "output=jsonl", "deploy:services/*")
    assert ran.code == 0
    finished = [(event["target"], event["step"]) for event in ran.events if event["event"] == "finished"]
    assert finished == [(f"services/{name}", step) for name in "ab" for step in STEPS]


def test_failures_are_told_in_the_order_of_the_targets(tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(6)]
    repository = services(tmp_path, *names)
    for name in names:
        repository.write(f"services/{name}/workflow.py", "1 / 0\n")
    ran = repository.doit("deploy")
    assert ran.code == 1
    assert re.findall(r"^FAILED discover:services/(\w+)$", ran.err, re.MULTILINE) == names


def test_a_plan_names_the_version_that_a_deploy_then_registers(tmp_path: Path) -> None:
    environments = "".join(
        f"""
{name} = flyte.TaskEnvironment(name="{name}", image=flyte.Image.from_base("{name}:1"))


@{name}.task
async def {name}_task() -> int:
    return 1
"""
        for name in ("late", "early")
    )
    target = '[targets.both]\npath = "both.py"\nall = true\n'
    repository = Repository(tmp_path, {"deploy.toml": target, "both.py": f"import flyte\n{environments}"})
    planned = re.search(r"as version (\w+)", repository.doit("plan").out)
    deployed = re.search(r"version (\w+),", repository.doit("deploy").err)
    assert planned is not None
    assert deployed is not None
    assert planned[1] == deployed[1]


def test_plans_are_told_in_the_order_of_the_targets_also_when_one_fails(tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(6)]
    repository = services(tmp_path, *names)
    repository.write("services/s0/workflow.py", "import time\n" + environment("s0") + "\ntime.sleep(0.2)\n")
    repository.write("services/s3/workflow.py", "1 / 0\n")
    ran = repository.doit("plan:services/*")
    assert ran.code == 1
    assert re.findall(r"^services/(\w+): ", ran.out, re.MULTILINE) == ["s0", "s1", "s2", "s4", "s5"]


def test_a_single_step_brings_what_it_needs_and_no_more(repository: Repository) -> None:
    ran = repository.doit("bundle:fraud")
    assert ran.code == 0
    assert [line.split()[0] for line in shape(ran)] == ["discover", "bundle", "bundle", "1"]
    state = {path.name for path in (repository.folder / ".flyte-build").iterdir()}
    assert "bundles" in state
    assert not state & {"store", "backend"}


# --- looking


def test_list_names_the_steps_and_all_names_every_target(repository: Repository) -> None:
    assert repository.doit("list").out.splitlines() == [
        "bundle      pack the target's code",
        "cache       say what the shared cache holds and gave; prune=30d removes what no recent deploy used",
        "check       load each target twice, and say what differs",
        "deploy      bring targets up to date",
        "discover    run the target's files and keep what they declare",
        "images      find or build the image of each environment",
        "plan        say what a deploy would do, and why",
        "serialize   bind tasks to version, bundle, images, project and domain",
        "serve       serve the embedded control plane (port=8090) for the flyte CLI",
        "upload      put the bundle into the store",
    ]
    everything = repository.doit("list", "--all", "--quiet")
    assert everything.out.split() == sorted(
        ["cache", "serve", *(name for step in [*STEPS, "plan", "check"] for name in (step, f"{step}:fraud"))]
    )
    assert (everything.code, everything.err) == (0, "")


def test_info_says_whether_a_task_is_up_to_date_and_why_not(repository: Repository) -> None:
    assert repository.doit().code == 0
    fresh = repository.doit("info", "deploy:fraud")
    assert fresh.code == 0
    assert re.search(r"^status +: up-to-date$", fresh.out, re.MULTILINE)
    assert " - serialize:fraud" in fresh.out.splitlines()
    repository.write("fraud.py", environment("fraud"))
    stale = repository.doit("info", "discover:fraud")
    assert stale.code == 1
    assert " * fraud.py changed" in stale.out.splitlines()


def test_help_is_doits_own(repository: Repository) -> None:
    assert "  doit forget            clear successful run status from internal DB" in repository.doit("help").out


# --- forgetting and cleaning


def test_what_is_forgotten_is_done_and_sent_again(remote: Repository, server: RecordingServer) -> None:
    assert remote.doit().code == 0
    server.forget()
    forgotten = remote.doit("forget", "deploy:fraud")
    assert (forgotten.code, forgotten.out) == (0, "forgetting deploy:fraud\n")
    assert shape(remote.doit()) == [
        "deploy    fraud  (not done here yet)",
        "deployed  fraud  version VERSION, registered 1 task  (not done here yet)",
        "1 target: 1 done",
    ]
    assert (server.count("DeployTask"), server.count(PUT)) == (1, 0)
    server.forget()
    assert remote.doit("forget", "--all").out == "forgetting all tasks\n"
    assert len(shape(remote.doit())) == len(STEPS) + 2
    assert server.count("DeployTask") == 1


def test_forgetting_one_target_leaves_the_others(tmp_path: Path) -> None:
    repository = services(tmp_path, "churn", "fraud")
    assert repository.doit().code == 0
    assert repository.doit("forget", "discover:services/fraud").code == 0
    assert shape(repository.doit())[-1] == "3 targets: 1 unchanged, 2 fresh"


def test_forgetting_without_a_name_forgets_every_deploy(repository: Repository) -> None:
    assert repository.doit().code == 0
    assert repository.doit("forget").out.splitlines() == ["forgetting deploy", "forgetting deploy:fraud"]
    assert shape(repository.doit())[-1] == "1 target: 1 done"


def test_clean_removes_what_steps_left_and_the_next_deploy_gives_the_same(repository: Repository) -> None:
    first = repository.doit()
    asked = repository.doit("clean", "--dry-run", "bundle:fraud")
    assert re.fullmatch(r"would remove 3 files, [\d,]+ bytes\n", asked.out), "receipt, archive, and what is in it"
    assert list((repository.folder / ".flyte-build/bundles").iterdir())
    cleaned = repository.doit("clean")
    assert (cleaned.code, cleaned.err) == (0, "")
    assert not list((repository.folder / ".flyte-build/bundles").iterdir())
    assert not list((repository.folder / ".flyte-build/objects").iterdir())
    second = repository.doit()
    assert shape(second) == shape(first)
    assert re.findall(VERSION, first.err) == re.findall(VERSION, second.err)


def test_an_ignored_target_is_told_and_counted_as_such(repository: Repository) -> None:
    assert repository.doit("ignore", "deploy:fraud").code == 0
    ran = repository.doit()
    assert (ran.code, shape(ran)[-2:]) == (0, ["ignored   deploy:fraud", "1 target: 1 ignored"])
    assert repository.doit("forget", "deploy:fraud").code == 0
    assert shape(repository.doit())[-1] == "1 target: 1 done"


# --- planning


def test_a_plan_says_what_would_be_built_uploaded_and_registered_and_changes_nothing(
    remote: Repository, server: RecordingServer
) -> None:
    before = tree(remote.folder)
    planned = remote.doit("plan")
    assert planned.code == 0
    lines = [re.sub(rf"{VERSION}|(?<=, )\d+ compressed", "", line) for line in planned.out.splitlines()]
    image = lines.pop(2)
    assert lines == [
        "fraud: would register 1 task as version : not done here yet",
        "  upload    .tar.gz: 1 file, 128 bytes, ",
        "  register  fraud.score",
    ]
    assert re.fullmatch(r"  image     fraud: ghcr\.io/flyteorg/flyte:py3\S+", image)
    assert (tree(remote.folder), server.counts.total()) == (before, 0)

    assert remote.doit().code == 0
    (version,) = {request.task_id.version for request in server.requests("DeployTask")}
    assert version in planned.out.splitlines()[0]
    server.forget()
    fresh = remote.doit("plan")
    assert (fresh.code, fresh.out, fresh.err) == (0, f"fraud: fresh, version {version}\n", "")

    remote.write("fraud.py", remote.read("fraud.py").replace("+ 1", "+ 2"))
    stale = remote.doit("plan:fraud")
    new = re.search(rf"as version ({VERSION}) \(now {version}\): fraud\.py changed$", stale.out, re.MULTILINE)
    assert new
    assert new[1] != version
    assert server.counts.total() == 0


def test_a_plan_as_json_is_one_object_for_each_target(tmp_path: Path) -> None:
    repository = services(tmp_path, "fraud")
    planned = repository.doit("plan", "output=jsonl")
    assert (planned.code, planned.err) == (0, "")
    plans = {event["target"]: event for event in planned.events if event["event"] == "plan"}
    assert set(plans) == {"services/fraud", "report"}
    plan = plans["report"]
    assert set(plan) == {
        *("event", "target", "version", "deployed_version", "register", "upload", "bundle_files", "bundle_size"),
        *("archive_size", "images", "builds", "reason", "cause"),
    }
    assert plan["cause"] == {"kind": "missing", "name": "", "old": "", "new": "", "chain": []}
    assert (plan["register"], plan["deployed_version"], plan["bundle_files"]) == (["report.report_task"], "", 1)
    assert plan["upload"].endswith(".tar.gz")
    assert list(plan["images"]) == ["report"]
    assert not (tmp_path / ".flyte-build/backend").exists()
    assert not (tmp_path / ".flyte-build/store").exists()


def test_a_plan_of_another_domain_does_not_speak_of_this_one(repository: Repository) -> None:
    assert repository.doit().code == 0
    first = repository.doit("plan", "domain=staging").out.splitlines()[0]
    assert re.fullmatch(rf"fraud: would register 1 task as version {VERSION}: not done here yet", first)


def test_a_plan_that_cannot_be_made_fails_as_the_deploy_would(repository: Repository) -> None:
    repository.write("fraud.py", "1 / 0\n")
    planned = repository.doit("plan")
    assert (planned.code, planned.out) == (1, "")
    assert failures(planned) == failures(repository.doit())
    repository.write("fraud.py", environment("fraud").replace("env =", "env = other ="))
    repository.write("deploy.toml", MANIFEST + '    version = "{env:BUILD}"\n')
    assert failures(repository.doit("plan")) == {
        "plan:fraud": "[targets.fraud] version: the environment variable `BUILD` is not set; set it, or use `{content}`"
    }


# --- JSON lines


def test_events_as_json_lines(repository: Repository) -> None:
    ran = repository.doit("output=jsonl")
    assert (ran.code, ran.err) == (0, "")
    events = ran.events
    assert [(event["event"], event.get("step")) for event in events] == [
        *((kind, step) for step in STEPS for kind in ("started", "finished")),
        ("target", "deploy"),
        ("summary", None),
    ]
    fields = {event["event"]: sorted(event.keys() - {"event"}) for event in events}
    assert fields == {
        "started": ["cause", "reason", "step", "target"],
        "finished": ["cause", "notes", "reason", "seconds", "status", "step", "summary", "target"],
        "target": ["cause", "reason", "seconds", "status", "step", "summary", "target"],
        "summary": ["done", "failed", "fresh", "ignored", "seconds", "targets", "unchanged", "unfinished"],
    }
    assert {event["target"] for event in events if "target" in event} == {"fraud"}
    assert (events[-1]["targets"], events[-1]["done"]) == (1, 1)
    again = repository.doit("output=jsonl").events
    assert [(event["event"], event.get("status")) for event in again] == [
        *(("finished", "fresh") for _ in STEPS),
        ("target", "fresh"),
        ("summary", None),
    ]


def test_a_failure_as_json_lines_has_the_message_last(repository: Repository) -> None:
    repository.write("fraud.py", "1 / 0\n")
    ran = repository.doit("output=jsonl")
    assert (ran.code, ran.err) == (1, "")
    statuses = [(event["step"], event["status"]) for event in ran.events if event["event"] == "finished"]
    assert statuses == [("discover", "failed"), *((step, "blocked") for step in STEPS[1:])]
    *_, target, summary, last = ran.events
    assert (target["status"], target["step"]) == ("failed", "discover")
    assert (summary["failed"], summary["done"]) == (1, 0)
    assert (last["event"], last["step"], last["target"]) == ("failure", "discover", "fraud")
    assert last["message"].startswith(
        "fraud.py:1: loading failed: ZeroDivisionError: division by zero; mend the code\n"
    )


# --- variables


def test_a_manifest_elsewhere_has_its_paths_and_state_beside_it(tmp_path: Path) -> None:
    repository = Repository(tmp_path, {"other/deploy.toml": MANIFEST, "other/fraud.py": "raise SystemExit(4)\n"})
    failed = repository.doit("manifest=other/deploy.toml")
    assert (failed.code, list(failures(failed))) == (1, ["discover:fraud"])
    assert failures(failed)["discover:fraud"].startswith("fraud.py:1: loading called `sys.exit(4)`; ")
    repository.write("other/fraud.py", environment("fraud"))
    assert shape(repository.doit("manifest=other/deploy.toml"))[-1] == "1 target: 1 done"
    assert shape(repository.doit("manifest=other/deploy.toml"))[-1] == "1 target: 1 fresh"
    assert (tmp_path / "other/.flyte-build/backend").is_dir()
    assert not (tmp_path / ".flyte-build").exists()


def places(server: RecordingServer) -> set[tuple[str, str, str]]:
    return {(r.task_id.project, r.task_id.domain, r.task_id.version) for r in server.requests("DeployTask")}


def test_profile_project_domain_and_version_say_where_and_as_what(remote: Repository, server: RecordingServer) -> None:
    remote.write("deploy.toml", remote.read("deploy.toml") + '[profiles.prod.flyte]\ndomain = "production"\n')
    assert remote.doit("profile=prod", "version=v1").code == 0
    assert places(server) == {("flytesnacks", "production", "v1")}
    server.forget()
    assert remote.doit("deploy:fraud", "profile=prod", "project=risk", "domain=staging", "version=v2").code == 0
    assert places(server) == {("risk", "staging", "v2")}


def test_a_version_that_is_taken_by_other_code_is_refused_unless_forced(repository: Repository) -> None:
    assert repository.doit("version=v1").code == 0
    repository.write("fraud.py", repository.read("fraud.py").replace("amount: int", "amount: float"))
    refused = repository.doit("version=v1")
    assert refused.code == 1
    head, *differences = failures(refused)["deploy:fraud"].splitlines()
    assert head == (
        "the embedded control plane: task `fraud.score` already has a version `v1` that is different; "
        "choose another version, or overwrite it with `force=true`"
    )
    assert any(line.startswith("  task_template.interface.inputs") for line in differences)
    forced = repository.doit("version=v1", "force=true")
    assert (forced.code, shape(forced)[-1]) == (0, "1 target: 1 done")


# --- without a dodo.py


def test_the_flyte_build_script_needs_no_dodo(tmp_path: Path) -> None:
    repository = small(tmp_path)
    (tmp_path / "dodo.py").unlink()
    command = str(SCRIPTS / "flyte-build")
    first = repository.run(command)
    assert (first.code, shape(first)[-1]) == (0, "1 target: 1 done")
    assert repository.run(command, "list", "--quiet").out.split() == sorted([*STEPS, "cache", "check", "plan", "serve"])
    assert repository.run(command, "deploy:frad").err == (
        "ERROR: command line: deploy:frad: no target `frad`; did you mean `fraud`?\n"
    )
    # With the same state as `doit`.
    repository.write("dodo.py", "from flyte_build.dodo import *\n")
    assert shape(repository.doit()) == ["fresh     fraud", "1 target: 1 fresh"]


@pytest.mark.error("VariableOfAnotherTask")
@pytest.mark.parametrize(("given", "task"), [("prune=30d", "cache"), ("port=8090", "serve")])
def test_a_variable_of_another_task_is_refused(given: str, task: str, repository: Repository) -> None:
    ran = repository.doit("deploy", given)
    assert (ran.code, ran.out) == (3, "")
    name = given.partition("=")[0]
    mend = f"write `doit {task} {given}`, or leave it out"
    assert ran.err == f"ERROR: command line: `{name}` means something to `{task}` alone; {mend}\n"
    assert not (repository.folder / ".flyte-build").exists()


@pytest.mark.error("StepBesidesPlan")
@pytest.mark.parametrize("command", ["plan", "check"])
def test_a_step_beside_a_plan_is_refused_since_it_would_be_done(command: str, repository: Repository) -> None:
    ran = repository.doit(command, "deploy:fraud")
    assert (ran.code, ran.out) == (3, "")
    problem = f"`doit {command} deploy:fraud` would run `deploy:fraud` too; write `doit {command}:fraud`"
    assert ran.err == f"ERROR: command line: {problem}\n"
    assert not (repository.folder / ".flyte-build").exists()
