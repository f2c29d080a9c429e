"""Several images of one target: built side by side, each told apart, and none lost when another fails or the run ends.

With a real engine and a real registry on loopback.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
import uuid
from itertools import groupby
from pathlib import Path

import pytest

from tests.behaviour.test_images import code, manifest, more, summaries
from tests.engine.fixtures import Engine
from tests.http_faults import Reply, Request, faulty_server
from tests.processes import ends, with_words
from tests.repository import SCRIPTS, Ran, Repository, failures

pytestmark = [pytest.mark.timeout(600)]

NAMES = ("one", "two", "three")
TRUE = dict.fromkeys(NAMES, "true")
TAG = re.compile(r"\b[0-9a-f]{32}\b")


def pipeline(commands: dict[str, str]) -> str:
    """A file whose environments each have an image of their own: name -> the command of its one step."""
    first, *others = commands.items()
    text = code(first[0], f".with_commands([{first[1]!r}])")
    for name, command in others:
        image = f'flyte.Image.from_debian_base(name="{name}", platform=("linux/amd64",)).with_commands([{command!r}])'
        text += more(name, image) + f"\nenv.depends_on.append({name})\n"
    return text


@pytest.fixture
def mark() -> str:
    """What only this test's builds have in them."""
    return uuid.uuid4().hex


@pytest.fixture
def repository(engine: Engine, tmp_path: Path) -> Repository:
    """With a target whose images are to be written into `jobs.py`."""
    made = Repository(tmp_path, {"deploy.toml": manifest(engine, "jobs")})
    made.environ |= engine.record.environment
    return made


def told(ran: Ran) -> str:
    assert (ran.code, list(failures(ran))) == (1, ["images:jobs"]), ran.err
    return TAG.sub("TAG", failures(ran)["images:jobs"])


def told_images(ran: Ran) -> list[str]:
    """Whose build said each line of progress."""
    events = [event for event in ran.events if event["event"] == "progress"]
    return [event["image"].rpartition("/")[2].partition(":")[0] for event in events]


def building(repository: Repository, mark: str, *words: str) -> tuple[subprocess.Popen[str], list[int]]:
    """A deploy whose three builds are all at a step that says nothing and never ends; and what runs of them."""
    repository.write("jobs.py", pipeline({name: f"sleep 1000 && echo {mark}-{name}" for name in NAMES}))
    process = repository.start(*words, "deploy")
    threading.Thread(target=lambda: [None for _ in process.stderr or ()], daemon=True).start()
    while not all(with_words(f"{mark}-{name}") for name in NAMES):
        assert process.poll() is None
        time.sleep(0.05)
    clients = [pid for name in NAMES for pid in with_words(f"/{name}:")]
    return process, [*clients, *with_words(mark)]


@pytest.mark.engine
def test_ctrl_c_ends_all_builds_of_a_target_at_once(repository: Repository, mark: str) -> None:
    process, running = building(repository, mark)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == -signal.SIGINT
    assert all(map(ends, running))


@pytest.mark.engine
def test_builds_end_with_a_run_that_is_killed(repository: Repository, mark: str) -> None:
    process, running = building(repository, mark)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    assert all(map(ends, running))
    assert not (repository.folder / ".flyte-build/targets/jobs/images.json").exists()


@pytest.mark.engine
def test_each_line_names_the_image_whose_build_says_it(repository: Repository, mark: str) -> None:
    repository.write("jobs.py", pipeline({name: f"echo said-by-{name}-{mark}" for name in NAMES}))
    ran = repository.doit("deploy", "output=jsonl", timeout=500)
    assert ran.code == 0, ran.err
    assert summaries(ran) == {"jobs": "3 built"}
    assert set(told_images(ran)) == set(NAMES)
    for event in (event for event in ran.events if event["event"] == "progress"):
        for said_by in re.findall(f"said-by-([a-z]+)-{mark}", event["line"]):
            assert f"/{said_by}:" in event["image"]
    logs = [path.read_text() for path in (repository.folder / ".flyte-build/images").glob("*.log")]
    said = [set(re.findall(f"said-by-([a-z]+)-{mark}", log)) for log in logs]
    assert sorted(map(sorted, said)) == [["one"], ["three"], ["two"]]


@pytest.mark.engine
def test_without_threads_images_are_built_one_after_the_other(repository: Repository, mark: str) -> None:
    repository.write("jobs.py", pipeline(dict.fromkeys(NAMES, f"echo {mark}")))
    ran = repository.doit("-n", "0", "deploy", "output=jsonl", timeout=500)
    assert ran.code == 0, ran.err
    assert [name for name, _ in groupby(told_images(ran))] == ["one", "three", "two"]


@pytest.mark.engine
@pytest.mark.error("SeveralImagesFailed")
@pytest.mark.parametrize("words", [(), ("-n", "0")], ids=["at-once", "one-after-another"])
def test_each_image_that_fails_is_told_and_the_others_are_built(
    engine: Engine, repository: Repository, mark: str, words: tuple[str, ...]
) -> None:
    repository.write("jobs.py", pipeline({"one": f"echo {mark} && exit 3", "two": f"echo {mark}", "three": "exit 5"}))
    message = told(repository.doit(*words, "deploy", timeout=500))
    starts = [re.sub(r"`\[.*\d/\d\] ", "`", line) for line in message.splitlines() if not line.startswith("  ")]
    log = "the whole log is in .flyte-build/images/TAG.log"
    where = f"building `{engine.record.registry}"
    assert starts == [
        f"{where}/one:TAG` failed at `RUN echo {TAG.sub('TAG', mark)} && exit 3`; {log}",
        f"{where}/three:TAG` failed at `RUN exit 5`; {log}",
    ]
    repository.write("jobs.py", pipeline({"one": f"echo {mark}", "two": f"echo {mark}", "three": f"echo 5 {mark}"}))
    ran = repository.doit("deploy", "output=jsonl", timeout=500)
    assert ran.code == 0, ran.err
    assert summaries(ran) == {"jobs": "2 built, 1 reused"}


# --- without an engine


def asked(answer: Reply, folder: Path, *words: str) -> tuple[str, str, list[Request]]:
    """What is told of three images whose registry answers so; the registry; and what it was asked."""
    gathering = threading.Barrier(1 if words else len(NAMES))
    seen: set[str] = set()

    def answered(request: Request) -> Reply:
        if "/manifests/" in request.target and request.target not in seen:
            seen.add(request.target)
            gathering.wait(30)  # for the others to have been asked for
        return answer

    with faulty_server(answered) as server:
        registry = server.url.removeprefix("http://")
        target = '[targets.jobs]\npath = "jobs.py"\nenvironment = "env"\n'
        files = {"deploy.toml": f'[images]\nregistry = "{registry}"\n{target}', "jobs.py": pipeline(TRUE)}
        message = told(Repository(folder, files).doit(*words, "deploy"))
        return message, registry, list(server.requests)


WAYS = pytest.mark.parametrize("words", [(), ("-n", "0")], ids=["at-once", "one-after-another"])


@WAYS
def test_a_registry_is_asked_for_all_images_at_once_and_what_is_wrong_with_all_is_told_once(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    refused = Reply(403, b'{"errors":[{"code":"DENIED","message":"no"}]}')
    message, registry, requests = asked(refused, tmp_path, *words)
    assert message == (
        f"cannot tell whether `{registry}/one:TAG` exists: 403 no; check that the registry `{registry}` runs and that "
        f"`docker login {registry}` was done with an account that may read it\n"
        f"the same for `{registry}/three:TAG` and `{registry}/two:TAG`"
    )
    assert len(requests) == len(NAMES)


@WAYS
@pytest.mark.error("NotARegistry")
def test_what_is_no_registry_is_not_taken_for_one_without_the_image(tmp_path: Path, words: tuple[str, ...]) -> None:
    page = Reply(404, b"<html>no such page</html>", {"content-type": "text/html"})
    message, registry, _ = asked(page, tmp_path, *words)
    assert message.splitlines()[0] == (
        f"cannot tell whether `{registry}/one:TAG` exists: `{registry}` answers as no registry does, with 404 and "
        f"text/html to GET http://{registry}/v2/one/manifests/TAG; correct the image's registry in the code or "
        "`registry` in [images], or see to it that the proxy in between lets this through"
    )


@WAYS
@pytest.mark.error("DockerMissing")
def test_an_engine_that_is_missing_is_told_once(tmp_path: Path, words: tuple[str, ...]) -> None:
    absent = Reply(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}')
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PATH", f"{SCRIPTS}")
        message, registry, _ = asked(absent, tmp_path, *words)
    assert message == (
        f"`{registry}/one:TAG` has to be built, and there is no `docker` command; install Docker, or set "
        '`builder = "remote"` in [images] for a backend that builds images\n'
        f"the same for `{registry}/three:TAG` and `{registry}/two:TAG`"
    )
