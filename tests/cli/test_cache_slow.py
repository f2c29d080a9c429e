"""A shared cache that is slow, or does not even start, costs a run seconds and one warning."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from flyte_build.cache import LIMIT
from flyte_build.cache import client as client_module
from flyte_build.cache.client import Client, allowance
from flyte_build.cache.helper import CALLS_AT_ONCE
from flyte_build.model import CacheSettings
from tests.cli.test_cache_errors import CHECK, s3, unusable, warnings
from tests.http_faults import Reply, Request, faulty_server, forward
from tests.moto_server import ENVIRONMENT, moto_server, s3_client
from tests.processes import ends

SLOW = re.compile(
    r"s3://bucket/shared: the shared cache cannot be used: it is too slow: (\d+) answers in (\d+) s; "
    + re.escape(CHECK)
)


@pytest.mark.error("CacheUnavailable")
def test_a_cache_whose_every_answer_comes_late_is_given_up_though_each_comes_in_time(tmp_path: Path) -> None:
    with moto_server() as url:
        s3_client(url).create_bucket(Bucket="bucket")
        assert warnings(s3(tmp_path / "first", url).doit()) == []
        to_moto = forward(url)

        def slow(request: Request) -> Reply:
            time.sleep(LIMIT / 2)
            return to_moto(request)

        with faulty_server(slow) as server:
            ran = s3(tmp_path / "second", server.url).doit("output=jsonl")
    assert ran.code == 0
    (warning,) = (event["message"] for event in ran.events if event["event"] == "warning")
    said = SLOW.fullmatch(warning)
    assert said, warning
    assert int(said[1]) < len(server.requests) + 1  # with the one that the process was ready
    assert [e["status"] for e in ran.events if e["event"] == "finished" and e["step"] == "deploy"] == ["done"]


@pytest.mark.parametrize("targets", [1, 100, 500])
@pytest.mark.parametrize(("latency", "is_enough"), [(0.1, True), (2.9, False)])
def test_a_distant_cache_is_used_for_many_targets_and_a_slow_one_for_none(
    targets: int, latency: float, is_enough: bool
) -> None:
    answers = [1, 2 * targets, 2 * targets, 3 * targets]  # a list, questions, results, and what is published
    rounds = sum(-(-count // CALLS_AT_ONCE) for count in answers)
    assert (rounds * latency <= allowance(LIMIT, sum(answers), 0)) is is_enough


def test_what_a_slow_line_carries_is_not_waiting() -> None:
    ten_minutes = 600
    assert allowance(LIMIT, 1, 250_000 * ten_minutes) > ten_minutes


@pytest.mark.error("CacheUnavailable")
def test_credentials_that_nobody_gives_are_waited_for_no_longer_than_a_server(tmp_path: Path) -> None:
    repository = s3(tmp_path, "http://127.0.0.1:9")
    asked = tmp_path / "asked"
    asked.write_text("#!/bin/sh\necho $$ > $0.pid\nexec sleep 1000\n")
    asked.chmod(0o755)
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {asked}\n")
    keys = {name for name in ENVIRONMENT if "ACCESS_KEY" in name}
    repository.environ = {name: value for name, value in ENVIRONMENT.items() if name not in keys}
    repository.environ["AWS_CONFIG_FILE"] = str(tmp_path / "config")
    ran = repository.doit()
    assert (ran.code, warnings(ran)) == (0, [unusable("no answer within 3 s")])
    assert ends(int((tmp_path / "asked.pid").read_text()))


# --- the client


def folder_cache(folder: Path) -> Client:
    return Client(CacheSettings(url=f"file://{folder}"), os.environ)


def test_a_process_that_does_not_start_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_START", 0.1)
    client = folder_cache(tmp_path)
    assert client._process
    client._process.send_signal(signal.SIGSTOP)
    assert client.items("") == ()
    assert client.trouble
    assert client.trouble.reason == "the process that asks it did not start within 0.1 s"
    assert ends(client._process.pid)


def test_a_process_that_cannot_be_started_is_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "nothing"))
    client = folder_cache(tmp_path)
    assert client.get(["a"]) == {}
    assert client.trouble
    assert client.trouble.reason == "the process that asks it cannot start: no such file or directory"


def test_what_the_process_should_not_say_is_trouble(tmp_path: Path) -> None:
    client = folder_cache(tmp_path)
    client._said = (3).to_bytes(4, "big") + b"no\n"
    assert client.get(["a"]) == {}
    assert client.trouble
    assert client.trouble.reason == "the process that asks it says what it should not"


def test_a_call_that_cannot_be_made_at_all_is_told_at_once(tmp_path: Path) -> None:
    client = folder_cache(tmp_path)
    assert client.get(["a\0b"]) == {}
    assert client.trouble
    assert client.trouble.reason == "ValueError"
