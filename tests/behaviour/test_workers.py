"""Loads beside each other: what one does is nothing to another."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flyte_build.model import Target
from flyte_build.steps import workers
from flyte_build.steps.workers import Zygote
from flyte_build.worker.protocol import LoadRequest
from tests.processes import ends
from tests.repository import environment

MEETS = """\
import os
import time

open("{own}.here", "w").close()
while not os.path.exists("{other}.here"):
    time.sleep(0.01)
"""
"""Ends loading only when another file is loaded at the same time."""
NEVER_ENDS = "import time\ntime.sleep(1000)\n"
KILLS_ITS_PARENT = "import os\nimport signal\nos.kill(os.getppid(), signal.SIGKILL)\n" + NEVER_ENDS


@pytest.fixture
def zygote(monkeypatch: pytest.MonkeyPatch) -> Iterator[Zygote]:
    monkeypatch.setattr(workers, "cores", lambda: 2)
    started = Zygote({"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"})
    yield started
    started.close()


def request(folder: Path, name: str, code: str, timeout: float = 300) -> LoadRequest:
    (folder / f"{name}.py").write_text(code + environment(name))
    scratch = folder / f"{name}.scratch"
    scratch.mkdir()
    return LoadRequest(
        folder=str(folder),
        target=Target(name=name, path=f"{name}.py", all=True, load_timeout=timeout),
        files=(f"{name}.py",),
        environ={},
        hidden=(),
        state=str(folder / ".flyte-build"),
        **{each: str(scratch / each) for each in ("result", "output", "stacks", "progress")},
    )


def test_as_many_targets_are_loaded_at_a_time_as_there_are_cores(tmp_path: Path, zygote: Zygote) -> None:
    pairs = (("a", "b"), ("b", "a"))
    requests = [request(tmp_path, own, MEETS.format(own=own, other=other), timeout=60) for own, other in pairs]
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(zygote.run, requests)) == [0, 0]
    assert all(Path(each.result).exists() for each in requests)


def test_a_load_that_does_not_end_is_ended_and_others_are_not(tmp_path: Path, zygote: Zygote) -> None:
    slow = request(tmp_path, "slow", NEVER_ENDS, timeout=0.5)
    others = [request(tmp_path, f"other{number}", "") for number in range(3)]
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(zygote.run, slow)
        assert list(pool.map(zygote.run, others)) == [0, 0, 0]
        assert ended.result() != 0
    assert Path(slow.stacks).read_text().startswith("Timeout")
    assert zygote.run(request(tmp_path, "later", "")) == 0


def test_a_load_that_ignores_its_time_limit_is_killed(
    tmp_path: Path, zygote: Zygote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_GRACE", 0.5)
    code = "import faulthandler\nfaulthandler.cancel_dump_traceback_later()\n" + NEVER_ENDS
    assert zygote.run(request(tmp_path, "stubborn", code, timeout=0.5)) == -1
    assert zygote.run(request(tmp_path, "later", "")) == 0


def test_a_parent_that_was_asked_for_nothing_is_ended_without_waiting(zygote: Zygote) -> None:
    zygote.close()
    assert zygote._process.returncode == -signal.SIGKILL


def test_a_parent_that_was_asked_ends_by_itself(tmp_path: Path, zygote: Zygote) -> None:
    zygote.run(request(tmp_path, "only", ""))
    zygote.close()
    assert zygote._process.returncode == 0


def test_loads_that_are_begun_as_the_run_dies_end_with_it(tmp_path: Path, zygote: Zygote) -> None:
    requests = [request(tmp_path, f"load{number}", NEVER_ENDS) for number in range(8)]
    process = zygote._process
    assert process.stdin is not None
    for number, each in enumerate(requests):  # all are there when it has imported the SDK, and the end with them
        process.stdin.write(f"{number} ".encode() + each.json() + b"\n")
    process.stdin.close()
    assert process.wait(60) == 0
    deadline = time.monotonic() + 10
    while not zygote._ended and time.monotonic() < deadline:  # until all that it said is read
        time.sleep(0.01)
    assert len(zygote._children) == len(requests)
    assert all(map(ends, zygote._children))


@pytest.mark.parametrize("leads_a_group", [False, True])
def test_a_load_is_ended_whether_or_not_it_leads_a_group_yet(
    leads_a_group: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flyte_build.worker import zygote

    child = subprocess.Popen(["sleep", "15"], start_new_session=leads_a_group)
    monkeypatch.setattr(zygote, "_children", {child.pid: "0"})
    zygote._kill_children()
    assert child.wait(60) == -signal.SIGKILL


def test_every_load_fails_when_their_parent_is_killed(tmp_path: Path, zygote: Zygote) -> None:
    requests = [request(tmp_path, "killer", KILLS_ITS_PARENT), request(tmp_path, "other", NEVER_ENDS)]
    with ThreadPoolExecutor() as pool:
        errors = [running.exception() for running in [pool.submit(zygote.run, each) for each in requests]]
    assert [str(error) for error in errors] == [f"the discovery process ended with status {-signal.SIGKILL}"] * 2
    assert not zygote.alive
