"""The lock of a state folder, among the threads of one run and between runs."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from flyte_build.errors import StateBusy
from flyte_build.state.lock import Holder, StateLock


def acquire(lock: StateLock) -> None:
    """As a run does that is not to wait."""
    lock.acquire(wait=False, waiting=_unexpected)


def _unexpected(holder: Holder) -> None:
    raise AssertionError(f"waits for {holder.description}")


def test_threads_that_share_a_lock_keep_it_until_the_last_has_let_go(tmp_path: Path) -> None:
    ours, others = StateLock(tmp_path / "lock"), StateLock(tmp_path / "lock")
    acquire(ours)
    acquire(ours)
    ours.release()
    with pytest.raises(StateBusy):
        acquire(others)
    ours.release()
    acquire(others)
    others.release()


def test_threads_that_ask_at_the_same_time_do_not_wait_for_each_other(tmp_path: Path) -> None:
    lock, failures = StateLock(tmp_path / "lock"), list[BaseException]()
    together = threading.Barrier(8)

    def work() -> None:
        together.wait()
        try:
            acquire(lock)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for _ in threads:
        assert lock.is_held
        lock.release()
    assert not lock.is_held


def test_where_no_lock_can_be_made_work_goes_on_without_it(tmp_path: Path) -> None:
    lock = StateLock(tmp_path / "missing" / "lock")
    acquire(lock)
    assert not lock.is_held
    lock.release()
