"""A fresh checkout reuses what another did, exactly when its own work would give the same."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from connectrpc.code import Code

from flyte_build.cache.client import Client
from flyte_build.model import CacheSettings
from flyte_build.sharing.entries import KINDS
from flyte_build.state.trace import variable_digest
from tests.archives import noise
from tests.checkout import Checkout, Left
from tests.edits import Edit, copy, each, mode, remove, rewrite, setting, table, touch_everything, variable
from tests.moto_server import ENVIRONMENT, moto_server, s3_client
from tests.recording import RecordingServer
from tests.repository import SCRIPTS, Ran, Repository, environment

FILES = {
    "fraud.py": """
        import os
        from pathlib import Path

        import flyte

        from shared import rules

        RATES = Path("rates.csv").read_text()
        OVERRIDE = Path("override.txt").exists()
        env = flyte.TaskEnvironment(name="fraud", env_vars={"STAGE": os.environ.get("STAGE", "dev")})


        @env.task
        async def score(amount: int) -> int:
            return amount + rules.LIMIT
        """,
    "shared/__init__.py": "",
    "shared/rules.py": "LIMIT = 1\n",
    "shared/unused.py": "UNUSED = 1\n",
    "rates.csv": "a,1\n",
    "deploy.toml": """
        [targets.fraud]
        path = "fraud.py"
        environment = "env"
        include = ["rates.csv"]
        pass_env = ["STAGE"]
        """,
}
REUSED = {"discover", "bundle", "images", "upload", "serialize", "deploy"}


class Machine(Repository):
    """A checkout of one repository at a path of its own, whose state is nobody else's."""

    def ran(self, *words: str) -> set[str]:
        """Deploy; the steps that ran."""
        return done(self.doit("output=jsonl", *words))

    def edit(self, edit: Edit) -> None:
        checkout = Checkout(self.folder)
        edit(checkout)
        self.environ |= checkout.environ

    @property
    def left(self) -> Left:
        checkout = Checkout(self.folder)
        checkout.environ |= self.environ
        return checkout.left("fraud")


def done(ran: Ran) -> set[str]:
    assert ran.code == 0, ran.err + ran.out
    return {event["step"] for event in ran.events if event["event"] == "finished" and event["status"] == "done"}


class World:
    """A control plane, a store and a shared cache, and machines that use them."""

    def __init__(self, folder: Path, server: RecordingServer) -> None:
        self.folder = folder
        self.server = server
        self.cache = f'url = "file://{folder}/cache"'
        self.environ: dict[str, str] = {}

    def machine(self, name: str, *, manifest: str = "", cache: str = "", embedded: bool = False) -> Machine:
        machine = Machine(self.folder / name / "repository", FILES)
        endpoint = "" if embedded else f'endpoint = "{self.server.endpoint}"\ninsecure = true\n'
        store = "" if embedded else f'[store]\nurl = "file://{self.folder}/store"\n'
        tables = f"[flyte]\n{endpoint}{store}[cache]\n{self.cache}\n{cache}\n"
        machine.write("deploy.toml", tables + machine.read("deploy.toml") + manifest)
        machine.environ |= self.environ
        return machine

    def objects(self, kind: str = "") -> list[Path]:
        return sorted(path for path in (self.folder / "cache" / "v1" / kind).rglob("*") if path.is_file())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with RecordingServer(tmp_path / "backend") as server:
        yield World(tmp_path, server)


# --- what a fresh machine finds


def test_a_fresh_checkout_reuses_everything_and_says_whence(world: World) -> None:
    first, second = world.machine("first"), world.machine("some/other/path")
    assert first.ran() == REUSED
    world.server.forget()
    ran = second.doit("deploy")
    assert ran.code == 0
    assert not world.server.count("DeployTask")
    line, summary, _ = ran.err.split("\n")
    assert line.startswith("fresh     fraud  (from the shared cache: made 20")
    assert f" on {os.uname().nodename}" in line
    assert summary.startswith("1 target: 1 fresh  ")
    assert second.left == first.left


def test_why_tells_of_a_hit_as_of_the_receipt_that_another_machine_made(world: World) -> None:
    first, second = world.machine("first"), world.machine("second")
    assert first.ran() == REUSED
    made = first.doit("why").out
    assert made.count("fresh: equals the receipt of 20") == len(REUSED)
    assert second.doit("why").out.count("runs: not done here yet") == len(REUSED)
    assert second.ran() == set()
    whence = f", on {os.uname().nodename}"
    told = second.doit("why").out
    assert told.count(f"{whence}, from the shared cache\n") == len(REUSED)
    assert told == made.replace(whence, f"{whence}, from the shared cache")
    answers = second.doit("why", "output=jsonl").events
    assert [answer["made"]["shared"] for answer in answers] == [True] * len(REUSED)


def test_why_tells_what_was_done_here_from_what_came_from_the_cache(world: World) -> None:
    assert world.machine("first").ran() == REUSED
    second = world.machine("second", embedded=True)
    assert second.ran()
    shared = {answer["step"] for answer in second.doit("why", "output=jsonl").events if answer["made"]["shared"]}
    assert {"discover", "bundle"} <= shared
    assert "deploy" not in shared


def test_what_is_left_after_a_hit_is_what_a_clean_deploy_leaves(world: World) -> None:
    world.machine("first").ran()
    second = world.machine("second")
    assert second.ran() == set()
    reused = second.left
    third = world.machine("third")
    third.write("deploy.toml", third.read("deploy.toml").replace("[cache]", "[profiles.x.cache]"))
    assert third.ran() == REUSED
    assert third.left == reused


def test_json_events_say_what_came_from_the_cache(world: World) -> None:
    world.machine("first").ran()
    events = world.machine("second").doit("output=jsonl").events
    finished = [event for event in events if event["event"] == "finished"]
    assert {event["step"] for event in finished} == REUSED
    assert all(event["reason"].startswith("from the shared cache: made ") for event in finished)
    (target,) = (event for event in events if event["event"] == "target")
    assert (target["status"], target["reason"].partition(" made ")[0]) == ("fresh", "from the shared cache:")


def test_a_run_in_parallel_reuses_too(world: World) -> None:
    world.machine("first").ran("-n", "2")
    assert world.machine("second").ran("-n", "2") == set()


def test_registrations_in_an_embedded_control_plane_are_made_here_and_the_discovery_is_not(world: World) -> None:
    first, second = world.machine("first", embedded=True), world.machine("second", embedded=True)
    first.ran()
    assert second.ran() == {"upload", "serialize", "deploy"}
    checkout = Checkout(second.folder)
    assert checkout.registered("fraud") == checkout.left("fraud").specs
    assert (second.left.version, second.left.bundle) == (first.left.version, first.left.bundle)


def test_what_a_machine_reused_whole_stays_for_one_that_deploys_elsewhere(world: World) -> None:
    world.machine("first").ran()
    long_ago = time.time() - 40 * 86_400
    for path in world.objects():
        os.utime(path, (long_ago, long_ago))
    assert world.machine("second").ran() == set()
    ran = world.machine("third").doit("cache", "prune=30d")
    assert ran.code == 0
    assert [len(world.objects(kind)) for kind in KINDS] == [1, 1, 1, 1]
    assert world.machine("fourth").ran("domain=production") == {"upload", "serialize", "deploy"}


def test_another_domain_reuses_the_discovery_and_registers(world: World) -> None:
    world.machine("first").ran()
    assert world.machine("second").ran("domain=production") == {"upload", "serialize", "deploy"}


def test_a_store_that_a_variable_puts_elsewhere_is_sent_to(world: World) -> None:
    with moto_server() as one, moto_server() as other:
        first, second, third = (world.machine(name) for name in ("first", "second", "third"))
        for machine, place in ((first, one), (second, other), (third, one)):
            machine.write(
                "deploy.toml", machine.read("deploy.toml").replace(f"file://{world.folder}/store", "s3://bundles")
            )
            machine.environ |= {**ENVIRONMENT, "AWS_ENDPOINT_URL": place}
            s3_client(place).create_bucket(Bucket="bundles")
        assert first.ran() == REUSED
        assert second.ran() == {"upload", "serialize", "deploy"}
        assert third.ran() == set()


def test_an_explicit_version_is_asked_of_the_backend_since_others_may_have_taken_it(world: World) -> None:
    world.machine("first").ran("version=v1")
    world.server.forget()
    assert world.machine("second").ran("version=v1") == {"deploy"}
    assert world.server.count("GetTaskDetails") == 1
    assert world.server.count("DeployTask") == 0


def test_going_back_to_what_was_deployed_before_turns_triggers_back(world: World) -> None:
    """A trigger starts the version that was registered last, whichever machine did that."""
    machines = [world.machine(name) for name in ("first", "second", "third")]
    for machine, hour in zip(machines, (1, 2, 1), strict=True):
        nightly = f"@env.task(triggers=flyte.Trigger('nightly', flyte.Cron('0 {hour} * * *')))"
        machine.write("fraud.py", machine.read("fraud.py").replace("@env.task", nightly))
    assert [machine.ran() for machine in machines] == [REUSED, REUSED, {"deploy"}]
    assert world.server.count("DeployTask") == 3


def test_going_back_to_what_the_cache_has_says_once_what_stays_the_latest(world: World) -> None:
    first = world.machine("first")
    assert first.ran() == REUSED
    first.edit(rewrite("shared/rules.py", "LIMIT = 2\n"))
    assert first.doit().code == 0
    later = first.left.version
    first.edit(rewrite("shared/rules.py", "LIMIT = 1\n"))
    events = first.doit("output=jsonl").events
    assert {event["status"] for event in events if event["event"] == "finished"} == {"fresh"}
    (note,) = [note for event in events for note in event.get("notes", ())]
    assert note.startswith(f"version {first.left.version} was made before {later}, which stays the latest: ")
    assert "note" not in first.doit().err


def test_a_step_that_was_forgotten_is_done_here_until_it_has_succeeded(world: World) -> None:
    """So that what somebody deleted on the backend is registered again."""
    machine = world.machine("first")
    machine.ran()
    assert machine.doit("forget", "deploy:fraud").code == 0
    world.server.fail("DeployTask", Code.INVALID_ARGUMENT)
    assert machine.doit("deploy").code == 1
    world.server.forget()
    assert machine.ran() == {"deploy"}
    assert world.server.count("DeployTask") == 1
    (machine.folder / ".flyte-build/targets/fraud/deploy.json").unlink()
    assert machine.ran() == set()


def test_a_large_bundle_is_packed_here_and_its_registration_is_reused(world: World) -> None:
    machines = [world.machine("first"), world.machine("second")]
    for machine in machines:
        (machine.folder / "rates.csv").write_text(noise(2 << 20).hex())
    machines[0].ran()
    world.server.forget()
    assert machines[1].ran() == set()
    assert world.server.count("DeployTask") == 0
    assert max(path.stat().st_size for path in world.objects()) < 1 << 20
    assert machines[1].left == machines[0].left


# --- what is a hit, and what is not

HITS: dict[str, Edit] = {
    "touched": touch_everything,
    "an unused module": rewrite("shared/unused.py", "UNUSED = 2\n"),
    "a new file": rewrite("notes.md", "new\n"),
    "a comment in the manifest": setting("# more"),
    "another home": variable("HOME", "/tmp"),
    "a variable that is not passed": variable("OTHER", "1"),
}
MISSES: dict[str, Edit] = {
    "the file itself": rewrite("fraud.py", FILES["fraud.py"].replace("amount +", "amount -")),
    "an imported module": rewrite("shared/rules.py", "LIMIT = 2\n"),
    "a module that is now a package": each(
        lambda checkout: (checkout.folder / "shared/rules").mkdir(), copy("shared/rules.py", "shared/rules/__init__.py")
    ),
    "a data file": rewrite("rates.csv", "a,2\n"),
    "a file that was looked for": rewrite("override.txt", ""),
    "a variable": variable("STAGE", "prod"),
    "what is included": setting('exclude = ["shared/unused.py"]'),
    "an image": table('[images]\ndefault = "image:2"\n'),
}


@pytest.mark.parametrize("edit", HITS.values(), ids=HITS.keys())
def test_what_the_target_does_not_look_at_is_no_miss(world: World, edit: Edit) -> None:
    world.machine("first").ran()
    second = world.machine("second")
    second.edit(edit)
    assert second.ran() == set()


@pytest.mark.parametrize("edit", MISSES.values(), ids=MISSES.keys())
def test_what_the_target_looks_at_is_a_miss(world: World, edit: Edit) -> None:
    world.machine("first").ran()
    second = world.machine("second")
    second.edit(edit)
    assert "discover" in second.ran()
    third = world.machine("third")
    third.edit(edit)
    assert third.ran() == set()  # both are kept side by side
    assert third.left == second.left
    assert world.machine("fourth").ran() == set()


def test_of_many_targets_at_once_only_those_that_nobody_deployed_are_loaded(world: World) -> None:
    names = [f"service{number}" for number in range(6)]
    manifest = "".join(f'[targets.{name}]\npath = "{name}.py"\nenvironment = "env"\n' for name in names)
    machines = [world.machine(name, manifest=manifest) for name in ("first", "second")]
    for machine in machines:
        for name in names:
            machine.write(f"{name}.py", environment(name))
    machines[0].ran()
    machines[1].write("service3.py", environment("service3", ", description='other'"))
    ran = machines[1].doit("output=jsonl")
    assert (ran.code, {event["target"] for event in ran.events if event.get("status") == "done"}) == (0, {"service3"})
    targets = {event["target"]: event["reason"] for event in ran.events if event["event"] == "target"}
    reused = {name for name, reason in targets.items() if reason.startswith("from the shared cache: made ")}
    assert reused == {"fraud", *names} - {"service3"}
    machines[0].write("service3.py", machines[1].read("service3.py"))
    assert machines[0].ran() == set()


def test_an_executable_bit_of_a_bundled_file_makes_another_bundle(world: World) -> None:
    world.machine("first").ran()
    second = world.machine("second")
    second.edit(mode("rates.csv", 0o755))
    assert second.ran() == REUSED
    assert second.left.version != world.machine("first").left.version


def test_a_file_that_is_gone_is_a_miss(world: World) -> None:
    first = world.machine("first")
    first.write("override.txt", "")
    first.ran()
    second = world.machine("second")
    second.write("override.txt", "")
    second.edit(remove("override.txt"))
    assert "discover" in second.ran()


def test_what_a_teammate_deployed_is_reused_after_a_pull(world: World) -> None:
    first, second = world.machine("first"), world.machine("second")
    assert (first.ran(), second.ran()) == (REUSED, set())
    for machine in (first, second):
        machine.write("shared/rules.py", "LIMIT = 3\n")
    assert "deploy" in first.ran()
    assert second.ran() == set()
    assert second.left == first.left


def test_code_that_starts_a_process_is_not_shared(world: World) -> None:
    started = "import subprocess\nsubprocess.run(['true'])\n"
    machines = [world.machine("first"), world.machine("second")]
    for machine in machines:
        machine.write("shared/rules.py", started + "LIMIT = 1\n")
        assert "discover" in machine.ran()
    assert world.objects("local") == []


# --- when nothing is asked


def test_a_target_that_names_its_checkout_is_not_shared(world: World) -> None:
    first = world.machine("a")
    first.write(
        "fraud.py", first.read("fraud.py").replace('"STAGE": ', '"HERE": str(Path(__file__).parent), "STAGE": ')
    )
    assert first.ran() == REUSED
    second = world.machine("b")
    second.write("fraud.py", first.read("fraud.py"))
    assert second.ran() == REUSED
    assert first.left.version != second.left.version


def test_a_run_with_nothing_to_do_does_not_ask_the_cache(world: World) -> None:
    machine = world.machine("first")
    machine.ran()
    (world.folder / "cache").rename(world.folder / "gone")
    assert machine.ran() == set()
    assert len(Checkout(machine.folder).read(".flyte-build/cache.json").split('"started"')) == 2


def test_a_plan_does_not_ask_the_cache(world: World) -> None:
    world.machine("first").ran()
    assert "from the shared cache" not in world.machine("second").doit("plan").err
    assert not (world.folder / "second/repository/.flyte-build/cache.json").exists()


def test_a_target_that_failed_is_not_published(world: World) -> None:
    machine = world.machine("first")
    machine.write("fraud.py", "raise SystemExit\n")
    assert machine.doit("deploy").code == 1
    assert world.objects() == []


SECOND = '[targets.second]\npath = "second.py"\nenvironment = "env"\n'


@pytest.mark.parametrize("words", [(), ("-n", "0")])
def test_what_succeeded_in_a_run_that_failed_is_published(world: World, words: tuple[str, ...]) -> None:
    first, second = world.machine("first", manifest=SECOND), world.machine("second", manifest=SECOND)
    first.write("second.py", "raise SystemExit\n")
    assert first.doit(*words, "deploy").code == 1
    second.write("second.py", environment("second"))
    ran = second.doit("output=jsonl")
    assert {event["target"] for event in ran.events if event.get("status") == "done"} == {"second"}


@pytest.mark.parametrize("words", [(), ("-n", "0")])
def test_what_succeeded_in_a_run_that_was_interrupted_is_published(world: World, words: tuple[str, ...]) -> None:
    first, second = world.machine("first", manifest=SECOND), world.machine("second", manifest=SECOND)
    first.write("second.py", "import time\ntime.sleep(1000)\n")
    running = first.start(*words, "deploy")
    assert running.stderr is not None
    said = next(line for line in running.stderr if line.startswith("deployed"))
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert (said.split()[1], running.returncode) == ("fraud", -signal.SIGINT)
    assert err.splitlines()[-1] == "interrupted; what had finished stays done"
    second.write("second.py", environment("second"))
    ran = second.doit("output=jsonl")
    assert {event["target"] for event in ran.events if event.get("status") == "done"} == {"second"}


def test_a_run_that_does_everything_anew_neither_asks_the_cache_nor_publishes(world: World) -> None:
    world.machine("first").ran()
    before = world.objects()
    assert world.machine("second").ran("-a") == REUSED
    assert world.objects() == before


def test_a_read_only_cache_is_read_and_not_written(world: World) -> None:
    assert world.machine("first", cache="read_only = true").ran() == REUSED
    assert world.objects() == []
    world.machine("second").ran()
    before = world.objects()
    assert world.machine("third", cache="read_only = true").ran() == set()
    assert world.objects() == before


# --- nothing secret goes in


def test_no_value_name_or_path_can_be_read_from_the_cache(world: World) -> None:
    machine = world.machine("first")
    machine.environ["STAGE"] = "hunter2-secret"
    machine.ran()
    assert b"hunter2-secret" in machine.left.specs["fraud.score"]  # as the code has it
    stored = b"".join(str(path).encode() + path.read_bytes() for path in world.objects())
    digest = variable_digest("STAGE", "hunter2-secret")
    for secret in ("hunter2-secret", digest, "fraud", "rates", str(machine.folder), "STAGE"):
        assert secret.encode() not in stored.replace(str(world.folder).encode(), b"")


# --- from Python

SCRIPT = """
    import flyte

    import flyte_build

    env = flyte.TaskEnvironment(name="viz")


    @env.task
    async def draw(amount: int) -> int:
        return amount


    if __name__ == "__main__":
        print(flyte_build.deploy(env).changed)
"""


def test_deploying_from_python_reuses_what_another_machine_did(world: World) -> None:
    machines = [world.machine("first"), world.machine("second")]
    for machine in machines:
        machine.write("viz.py", SCRIPT)
    ran = [machine.python("viz.py") for machine in machines]
    assert [(each.code, each.out, each.err) for each in ran] == [(0, "True\n", ""), (0, "False\n", "")]


def test_deploying_from_python_warns_of_a_cache_that_cannot_be_used(world: World) -> None:
    (world.folder / "cache").write_text("a file")
    machine = world.machine("first")
    machine.write("viz.py", SCRIPT)
    ran = machine.python("viz.py")
    assert (ran.code, ran.out) == (0, "True\n")
    assert f"UserWarning: file://{world.folder}/cache: the shared cache cannot be used: not a directory; " in ran.err


def test_deploying_from_python_warns_of_the_cache_when_it_fails_too(world: World) -> None:
    (world.folder / "cache").write_text("a file")
    machine = world.machine("first")
    machine.write("viz.py", SCRIPT.replace("(env)", "(env, version='{env:UNSET}')"))
    ran = machine.python("viz.py")
    assert ran.code == 1
    assert f"UserWarning: file://{world.folder}/cache: the shared cache cannot be used: not a directory; " in ran.err
    assert "UNSET" in ran.err


# --- two at once


def s3(world: World, url: str) -> None:
    s3_client(url).create_bucket(Bucket="bucket")
    world.cache = f'url = "s3://bucket/pre/fix"\nendpoint_url = "{url}"\nregion = "us-east-1"'
    world.environ |= ENVIRONMENT


def test_a_fresh_checkout_reuses_everything_from_s3(world: World) -> None:
    with moto_server() as url:
        s3(world, url)
        first, second = world.machine("first"), world.machine("second")
        assert (first.ran(), second.ran()) == (REUSED, set())
        assert second.left == first.left


def test_two_machines_that_deploy_one_commit_at_once_are_both_right(world: World) -> None:
    with moto_server() as url:
        s3(world, url)
        machines = [world.machine(name) for name in ("first", "second")]
        running = [start(machine) for machine in machines]
        assert [process.wait(timeout=60) for process in running] == [0, 0]
        third = world.machine("third")
        assert third.ran() == set()
        assert machines[0].left == machines[1].left == third.left
        client = Client(CacheSettings(url="s3://bucket/pre/fix", endpoint_url=url), {**os.environ, **ENVIRONMENT})
        names = [item.name for item in client.items("v1/") if "/used/" not in item.name]
        client.close()
        assert len(names) == 3


def start(machine: Machine) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [SCRIPTS / "doit", "deploy"],
        cwd=machine.folder,
        env={**os.environ, **machine.environ, "HOME": str(machine.folder / ".home")},
        stderr=subprocess.DEVNULL,
    )


# --- damage


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "flipped": flipped,
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "another": lambda data: b"<html>" * 100,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("kind", ["questions", "local", "deployed"])
def test_a_damaged_object_is_dropped_and_made_again(world: World, kind: str, damage: Callable[[bytes], bytes]) -> None:
    first = world.machine("first")
    first.ran()
    (path,) = world.objects(kind)
    good = path.read_bytes()
    path.write_bytes(damage(good))
    second = world.machine("second")
    if kind == "local":
        world.objects("deployed")[0].unlink()
    assert "deploy" in second.ran()
    assert second.left == first.left
    third = world.machine("third")
    ran = third.doit("output=jsonl")
    assert done(ran) == set()
    assert not [event for event in ran.events if event["event"] == "warning"]
