"""The lock of a state folder, among the threads of one run and between runs."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from flyte_build.errors import StateBusy, StateUnwritable
from flyte_build.state.lock import Holder, StateLock, exclusive


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


def test_one_thread_at_a_time_is_in_what_is_exclusive(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(50):
            with exclusive(tmp_path / "folder" / "lock"):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_lock_that_cannot_be_written_is_told_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(StateUnwritable) as raised, exclusive(tmp_path / "lock"):
        pass
    assert raised.value.message.startswith(f"{tmp_path / 'lock'}: ")


def test_a_failure_of_the_work_itself_is_no_failure_of_the_lock(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), exclusive(tmp_path / "lock"):
        raise FileNotFoundError
