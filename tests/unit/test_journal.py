"""What an interrupted registration has done is known afterwards, and nothing else counts as done."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from flyte_build.errors import StateUnwritable
from flyte_build.steps.deploy import Journal

HEADING = b"a key"


def journal(folder: Path) -> Journal:
    return Journal(folder / "deploy.log", HEADING)


def test_what_was_added_is_done_when_the_journal_is_opened_again(tmp_path: Path) -> None:
    with journal(tmp_path) as first:
        first.add("env.one")
    with journal(tmp_path) as second:
        second.add("env.two")
    assert journal(tmp_path).done == {"env.one", "env.two"}


def test_what_was_added_under_another_heading_is_not_done(tmp_path: Path) -> None:
    with journal(tmp_path) as first:
        first.add("env.one")
    assert Journal(tmp_path / "deploy.log", b"another key").done == set()


def test_a_journal_that_is_cut_off_anywhere_tells_of_whole_names_alone(tmp_path: Path) -> None:
    with journal(tmp_path) as first:
        for name in ("env.one", "env.one_more"):
            first.add(name)
    whole = (tmp_path / "deploy.log").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "deploy.log").write_bytes(whole[:length])
        assert journal(tmp_path).done <= {"env.one", "env.one_more"}
        with journal(tmp_path) as again:
            again.add("env.two")
        assert journal(tmp_path).done == again.done


def in_a_process_with_room_for(size: int, work: Callable[[Callable[[], None]], None]) -> int:
    """The exit code of a forked process in which files may have so many bytes, until it asks for more."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
        try:
            work(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)))
        except BaseException:  # it must not go on as the test run
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_name_for_which_there_was_half_the_room_is_an_error_and_spoils_no_other(tmp_path: Path) -> None:
    with journal(tmp_path) as first:
        first.add("env.one")
    size = (tmp_path / "deploy.log").stat().st_size

    def work(give_room: Callable[[], None]) -> None:
        with journal(tmp_path) as full:
            with pytest.raises(StateUnwritable, match="No space left on device"):
                full.add("env.two")
            give_room()
            full.add("env.three")

    assert in_a_process_with_room_for(size + 4, work) == 0
    assert journal(tmp_path).done == {"env.one", "env.three"}
