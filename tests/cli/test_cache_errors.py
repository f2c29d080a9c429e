"""What a user reads of the shared cache: `doit cache`, its errors, and the one warning when it cannot be used."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import msgspec
import pytest

from flyte_build.cache import LIMIT
from flyte_build.cache.client import Client
from flyte_build.cache.sealed import seal
from flyte_build.model import CacheSettings
from flyte_build.sharing import entries
from flyte_build.sharing.entries import Traces
from flyte_build.sharing.surroundings import surroundings
from flyte_build.state.trace import Trace
from tests.checkout import Checkout
from tests.http_faults import Answerer, Reply, faulty_server, forward
from tests.moto_server import ENVIRONMENT, moto_server, s3_client
from tests.processes import ends
from tests.repository import MANIFEST, Ran, Repository, failures, small
from tests.unprivileged import bound, without_hard_links

CHECK = "check [cache] and the access to it"


def cached(folder: Path, lines: str) -> Repository:
    """A small repository whose manifest has these lines in its `[cache]`."""
    repository = small(folder)
    repository.write("deploy.toml", f"[cache]\n{lines}\n{dedent(MANIFEST)}")
    return repository


def new_machine(repository: Repository) -> None:
    """Nothing was done here yet."""
    shutil.rmtree(repository.folder / ".flyte-build" / "targets")


def warnings(ran: Ran) -> list[str]:
    return [line.removeprefix("warning   ") for line in ran.err.splitlines() if line.startswith("warning")]


def s3(folder: Path, endpoint: str) -> Repository:
    repository = cached(folder, f'url = "s3://bucket/shared"\nendpoint_url = "{endpoint}"\nregion = "us-east-1"')
    repository.environ |= ENVIRONMENT
    return repository


def unusable(reason: str, url: str = "s3://bucket/shared") -> str:
    return f"{url}: the shared cache cannot be used: {reason}; {CHECK}"


# --- a deploy goes on without it


REFUSALS: dict[str, tuple[Answerer, str]] = {
    "denied": (lambda _: Reply(403, b"<Error><Code>AccessDenied</Code></Error>"), "it answered 403 `AccessDenied`"),
    "failing": (lambda _: Reply(503, b"<Error><Code>SlowDown</Code></Error>"), "it answered 503 `SlowDown`"),
    "no bucket": (lambda _: Reply(404, b"<Error><Code>NoSuchBucket</Code></Error>"), "it answered 404 `NoSuchBucket`"),
    "hangs up": (lambda _: Reply(fault="reset"), "no connection, or it broke off"),
    "silent": (lambda _: Reply(fault="silence"), "no answer within 3 s"),
}


@pytest.mark.error("CacheUnavailable")
@pytest.mark.parametrize(("answer", "reason"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_cache_that_cannot_be_used_is_told_once_and_the_deploy_succeeds(
    tmp_path: Path, answer: Answerer, reason: str
) -> None:
    with faulty_server(answer) as server:
        ran = s3(tmp_path, server.url).doit()
    assert (ran.code, warnings(ran)) == (0, [unusable(reason)])
    assert len(server.requests) == 1
    assert "1 target: 1 done" in ran.err


@pytest.mark.error("CacheUnavailable")
def test_a_cache_that_nobody_listens_at_is_told_once(tmp_path: Path) -> None:
    ran = s3(tmp_path, "http://127.0.0.1:9").doit()
    assert (ran.code, warnings(ran)) == (0, [unusable("no connection, or it broke off")])


@pytest.mark.error("CacheUnavailable")
def test_a_cache_without_credentials_says_what_to_set(tmp_path: Path) -> None:
    repository = s3(tmp_path, "http://127.0.0.1:9")
    repository.environ = {name: value for name, value in ENVIRONMENT.items() if "ACCESS_KEY" not in name}
    ran = repository.doit()
    reason = "there are no credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    assert (ran.code, warnings(ran)) == (0, [unusable(reason)])


@pytest.mark.error("CacheUnavailable")
def test_a_cache_that_may_not_be_written_is_told_once(tmp_path: Path) -> None:
    repository = cached(tmp_path, 'url = "./closed/cache"')
    (tmp_path / "closed").mkdir(mode=0o500)
    ran = repository.doit(under=bound())
    assert (ran.code, warnings(ran)) == (0, [unusable("permission denied", f"file://{tmp_path}/closed/cache")])


@pytest.mark.error("CacheUnavailable")
def test_a_cache_that_breaks_off_while_results_arrive_leaves_them_to_be_made_here(tmp_path: Path) -> None:
    with moto_server() as url:
        s3_client(url).create_bucket(Bucket="bucket")
        assert warnings(s3(tmp_path / "first", url).doit()) == []
        to_moto = forward(url)

        def torn(request: object) -> Reply:
            reply = to_moto(request)  # type: ignore[arg-type]
            is_result = "/local/" in getattr(request, "target", "")
            return Reply(reply.status, reply.body, reply.headers, "truncate") if is_result else reply

        with faulty_server(torn) as server:
            ran = s3(tmp_path / "second", server.url).doit("output=jsonl")
    assert ran.code == 0
    (warning,) = (event for event in ran.events if event["event"] == "warning")
    assert warning["message"].startswith("s3://bucket/shared: the shared cache cannot be used: ")
    assert [e["status"] for e in ran.events if e["event"] == "finished" and e["step"] == "discover"] == ["done"]


@pytest.mark.error("CacheUnavailable")
def test_a_file_system_that_hangs_is_waited_for_no_longer_than_a_server(tmp_path: Path) -> None:
    repository = cached(tmp_path, 'url = "./cache"')
    repository.doit()
    (path,) = (each for each in (tmp_path / "cache/v1/questions").rglob("*") if each.is_file())
    path.unlink()
    os.mkfifo(path)  # nobody writes into it, so that reading never ends
    new_machine(repository)
    ran = repository.doit()
    assert (ran.code, warnings(ran)) == (0, [unusable("no answer within 3 s", f"file://{tmp_path}/cache")])


def test_a_run_that_is_interrupted_while_the_cache_is_asked_ends_at_once_and_quietly(tmp_path: Path) -> None:
    repository = cached(tmp_path, 'url = "./cache"')
    repository.doit()
    (path,) = (each for each in (tmp_path / "cache/v1/questions").rglob("*") if each.is_file())
    path.unlink()
    os.mkfifo(path)
    new_machine(repository)
    running = repository.start("deploy")
    with path.open("wb"):  # waits for the one who reads it
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (-signal.SIGINT, "")
    assert err.splitlines()[-1] == "interrupted; what had finished stays done"
    assert "Traceback" not in err
    assert warnings(Ran(0, out, err)) == []


def poison(repository: Repository) -> None:
    """Let the cache ask of the repository's target, under a name and a seal that are right, what cannot be answered."""
    project = Checkout(repository.folder).project()
    around = surroundings(project)
    static = entries.static_key(project, project.manifest.targets["fraud"], around)
    asked = Traces(discover=Trace(files={"no\0name": ""}), bundle=Trace())
    sealed = entries.questions_object(around, static, asked)
    path = repository.folder / "cache" / sealed.name
    path.parent.mkdir(parents=True)
    path.write_bytes(seal(sealed.key, msgspec.msgpack.encode(asked)))


@pytest.mark.error("CacheGivenUp")
def test_what_fails_here_over_the_cache_is_told_once_and_the_deploy_succeeds(tmp_path: Path) -> None:
    repository = cached(tmp_path, 'url = "./cache"')
    poison(repository)
    ran = repository.doit()
    url = f"file://{tmp_path}/cache"
    with pytest.raises(ValueError, match="null") as refused:
        (tmp_path / "no\0name").stat()
    reason = f"the run goes on without the shared cache, since something failed here: ValueError: {refused.value}"
    assert (ran.code, warnings(ran)) == (0, [f"{url}: {reason}"])
    assert "1 target: 1 done" in ran.err
    assert not (tmp_path / "cache/v1/local").exists()
    assert str(refused.value) in repository.doit("cache").out


@pytest.mark.error("StateUnwritable")
def test_results_that_cannot_be_written_here_are_told_by_the_step_alone(tmp_path: Path) -> None:
    repository = cached(tmp_path, 'url = "./cache"')
    repository.doit()
    shutil.rmtree(tmp_path / ".flyte-build/targets")
    (tmp_path / ".flyte-build/targets").touch()
    ran = repository.doit()
    (failure,) = failures(ran).values()
    assert (ran.code, warnings(ran)) == (1, [])
    assert failure.startswith(f"{tmp_path}/.flyte-build/targets/fraud")


def test_results_that_are_gone_before_they_are_published_fail_nothing(tmp_path: Path) -> None:
    """Such as when another process cleans up in the state folder."""
    repository = cached(tmp_path, 'url = "./cache"')
    task = "def task_z():\n    return {'actions': ['rm -r .flyte-build/objects'], 'task_dep': ['deploy:fraud']}\n"
    repository.write("dodo.py", f"{repository.read('dodo.py')}\n{task}")
    ran = repository.doit("z")
    assert (ran.code, warnings(ran)) == (0, [])
    assert not (tmp_path / "cache/v1/local").exists()


def damage(repository: Repository) -> str:
    """Change a byte of what the cache has of the discovery. Gives its name."""
    (path,) = (repository.folder / "cache/v1/local").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    return f"v1/local/{path.name}"


@pytest.mark.error("CacheEntryDamaged")
@pytest.mark.parametrize(
    ("lines", "then"),
    [("", "it was removed and its work is done again"), ("read_only = true", "it is left there and not used")],
)
def test_a_damaged_object_is_told(tmp_path: Path, lines: str, then: str) -> None:
    repository = cached(tmp_path, 'url = "./cache"')
    repository.doit()
    name = damage(repository)
    new_machine(repository)
    repository.write("deploy.toml", repository.read("deploy.toml").replace("[cache]", f"[cache]\n{lines}"))
    ran = repository.doit()
    assert (ran.code, warnings(ran)) == (0, [f"file://{tmp_path}/cache/{name}: the object was damaged; {then}"])


def test_a_file_system_without_hard_links_holds_a_cache_too(tmp_path: Path) -> None:
    repository = cached(tmp_path, 'url = "./cache"')
    ran = repository.doit(under=without_hard_links())
    assert (ran.code, warnings(ran)) == (0, [])
    assert list((tmp_path / "cache/parts").iterdir()) == []
    before = {path: path.read_bytes() for path in (tmp_path / "cache/v1").rglob("*") if path.is_file()}
    assert len(before) == 3
    new_machine(repository)
    assert "discovery from the shared cache" in repository.doit(under=without_hard_links()).err
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("style", ['environment = "env"\ncopy_style = "all"', "recursive = true"])
def test_a_cache_in_the_checkout_is_no_part_of_it(tmp_path: Path, style: str) -> None:
    repository = cached(tmp_path, 'url = "./cache"')
    path = "fraud.py" if "all" in style else "."
    repository.write("deploy.toml", f'[cache]\nurl = "./cache"\n[targets.fraud]\npath = "{path}"\n{style}\n')
    assert "1 target: 1 done" in repository.doit().err
    assert "1 target: 1 fresh" in repository.doit().err


# --- `doit cache`


NUMBERS: tuple[tuple[str, str], ...] = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "WHEN"),
    (r"[\d,]+ bytes", "SIZE"),
)


def told(ran: Ran) -> list[str]:
    assert ran.code == 0, ran.err
    text = ran.out
    for pattern, word in NUMBERS:
        text = re.sub(pattern, word, text)
    return text.splitlines()


def test_the_cache_and_what_it_gave_are_shown(tmp_path: Path) -> None:
    repository = cached(tmp_path, 'url = "./cache"')
    repository.doit()
    new_machine(repository)
    repository.doit()
    assert told(repository.doit("cache")) == [
        f"file://{tmp_path}/cache",
        "  questions 1 object, SIZE",
        "  local     1 object, SIZE",
        "  deployed  0 objects, SIZE",
        "  used      1 object, SIZE",
        "  WHEN  1 hit (1 of discovery only), 0 misses; read SIZE, sent 1 object, SIZE",
        "  WHEN  0 hits, 1 miss; read nothing, sent 3 objects, SIZE",
    ]
    (event,) = repository.doit("cache", "output=jsonl").events
    assert (event["event"], event["holds"]["local"]["objects"], event["runs"][0]["part"]) == ("cache", 1, 1)


def aged(folder: Path, days: int, chosen: Callable[[Path], bool] = lambda _: True) -> None:
    """Date objects back, and with them the days of the notes."""
    then = time.time() - days * 86_400
    for path in [each for each in folder.rglob("*") if each.is_file() and chosen(each)]:
        os.utime(path, (then, then))
        if path.parts[-3] == "used":
            day = path.parents[1] / time.strftime("%Y-%m-%d", time.gmtime(then))
            day.mkdir(exist_ok=True)
            path.rename(day / path.name)


def test_pruning_removes_what_no_recent_deploy_used(tmp_path: Path) -> None:
    repository = cached(tmp_path, 'url = "./cache"')
    repository.doit()
    repository.write("fraud.py", repository.read("fraud.py") + "\nMORE = 1\n")
    repository.doit()
    aged(tmp_path / "cache", 40)
    new_machine(repository)
    repository.doit()  # uses the second, today
    assert told(repository.doit("cache", "prune=30d"))[:6] == [
        f"file://{tmp_path}/cache",
        "  removed   3 objects, SIZE",
        "  questions 1 object, SIZE",
        "  local     1 object, SIZE",
        "  deployed  0 objects, SIZE",
        "  used      1 object, SIZE",
    ]
    new_machine(repository)
    assert "discovery from the shared cache" in repository.doit().err


def test_what_was_used_today_is_not_pruned_though_its_note_is_of_this_morning(tmp_path: Path) -> None:
    repository = cached(tmp_path, 'url = "./cache"')
    repository.doit()
    then = time.time() - 60 * 86_400
    for path in (tmp_path / "cache").rglob("*"):
        os.utime(path, (then, then))
    assert told(repository.doit("cache", "prune=1h"))[1] == "  removed   0 objects, SIZE"


def test_pruning_what_is_of_any_age_leaves_nothing(tmp_path: Path) -> None:
    repository = cached(tmp_path, 'url = "./cache"')
    repository.doit()
    (tmp_path / "cache/parts/half").write_bytes(b"half")
    assert told(repository.doit("cache", "prune=0h"))[1:6] == [
        "  removed   4 objects, SIZE",
        "  questions 0 objects, SIZE",
        "  local     0 objects, SIZE",
        "  deployed  0 objects, SIZE",
        "  used      0 objects, SIZE",
    ]
    new_machine(repository)
    assert "from the shared cache" not in repository.doit().err


def test_pruning_removes_what_was_half_written_long_ago(tmp_path: Path) -> None:
    repository = cached(tmp_path, 'url = "./cache"')
    repository.doit()
    parts = tmp_path / "cache" / "parts"
    assert list(parts.iterdir()) == []
    for name in ("old", "new"):
        (parts / name).write_bytes(b"half")
    aged(parts, 40, lambda path: path.name == "old")
    assert told(repository.doit("cache"))[1:4] == [
        "  questions 1 object, SIZE",
        "  local     1 object, SIZE",
        "  deployed  0 objects, SIZE",
    ]
    assert told(repository.doit("cache", "prune=30d"))[1] == "  removed   1 object, SIZE"
    assert [path.name for path in parts.iterdir()] == ["new"]


def test_looking_and_pruning_wait_longer_than_a_deploy_does(tmp_path: Path) -> None:
    """A cache of many months has many pages of names."""
    repository = cached(tmp_path, 'url = "./cache"')
    repository.doit()
    (note,) = (path for path in (tmp_path / "cache/v1/used").rglob("*") if path.is_file())
    note.unlink()
    os.mkfifo(note)
    running = repository.start("cache", "prune=30d")
    time.sleep(LIMIT + 3)
    note.write_bytes(b"")  # so that reading ends
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert "  removed   0 objects" in out


@pytest.mark.error("CacheNotNamed")
def test_a_repository_without_a_cache_says_what_to_write(repository: Repository) -> None:
    ran = repository.doit("cache")
    assert ran.code == 1
    assert failures(ran) == {
        "cache": 'deploy.toml: names no shared cache; write `url = "s3://BUCKET/PREFIX"` into [cache]'
    }


@pytest.mark.error("CacheReadOnly")
def test_a_read_only_cache_is_not_pruned(tmp_path: Path) -> None:
    ran = cached(tmp_path, 'url = "./cache"\nread_only = true').doit("cache", "prune=30d")
    assert (ran.code, failures(ran)) == (
        1,
        {"cache": "deploy.toml: [cache] is read_only, so nothing is pruned; run this where it is not"},
    )


@pytest.mark.error("CacheUnavailable")
def test_looking_at_a_cache_that_cannot_be_used_fails(tmp_path: Path) -> None:
    ran = s3(tmp_path, "http://127.0.0.1:9").doit("cache")
    assert (ran.code, failures(ran)) == (1, {"cache": unusable("no connection, or it broke off")})


@pytest.mark.parametrize("age", ["30", "d", "1w", "-1d", "30d "])
def test_an_age_that_is_none_is_refused(tmp_path: Path, age: str) -> None:
    ran = cached(tmp_path, 'url = "./cache"').doit("cache", f"prune={age}")
    assert ran.code == 3
    assert (
        f"command line: prune: expected an age in days or hours, got `{age}`; write for example `prune=30d`" in ran.err
    )


@pytest.mark.error("BadCacheUrl", "ManifestProblems")
@pytest.mark.parametrize("url", ["backend", "http://host/x", "s3://"])
def test_a_url_that_is_no_place_for_a_cache_is_refused(tmp_path: Path, url: str) -> None:
    ran = cached(tmp_path, f'url = "{url}"').doit()
    assert ran.code == 3
    forms = "`s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `abfs://CONTAINER/PREFIX` and `./FOLDER`"
    assert f"deploy.toml:2: [cache] url: `{url}` is no place for a cache; write one of {forms}" in ran.err


# --- the client


def test_an_object_is_written_once(tmp_path: Path) -> None:
    with moto_server() as url:
        s3_client(url).create_bucket(Bucket="bucket")
        kinds = (
            CacheSettings(url=f"file://{tmp_path}/cache"),
            CacheSettings(url="s3://bucket/cache", endpoint_url=url, region="us-east-1"),
        )
        for settings in kinds:
            client = Client(settings, {**os.environ, **ENVIRONMENT})
            client.create({"a/b": b"first", "a/c": b""})
            client.create({"a/b": b"second"})
            assert client.get(["a/b", "a/c", "a/d"]) == {"a/b": b"first", "a/c": b""}
            assert sorted((item.name, item.size) for item in client.items("a/")) == [("a/b", 5), ("a/c", 0)]
            client.delete(["a/b", "a/nothing"])
            assert [item.name for item in client.items("a/")] == ["a/c"]
            assert client.items("nothing/") == ()
            assert client.trouble is None
            client.close()


@pytest.mark.parametrize("hangs", [False, True])
def test_the_helper_ends_with_a_process_that_is_killed(tmp_path: Path, hangs: bool) -> None:
    (tmp_path / "cache").mkdir()
    if hangs:
        os.mkfifo(tmp_path / "cache" / "hangs")  # nobody writes into it, so that reading never ends
    script = f"""
import os, signal
from flyte_build.cache.client import Client
from flyte_build.cache.wire import Ask, frame
from flyte_build.model import CacheSettings
client = Client(CacheSettings(url="file://{tmp_path}/cache"), os.environ)
client.create({{"a": b"b"}})
client._send(frame(Ask(number=9, call="get", name="hangs")))
print(client._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert ends(int(done.stdout))
