"""What a run opens once and shares: each kind by itself, so that one that takes its time keeps no other waiting."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flyte_build.project import Project
from tests.checkout import Checkout

MANIFEST = """
    [targets.fraud]
    path = "fraud.py"
    all = true
"""
LIMIT = 30
"""Seconds after which a thread that should not wait counts as waiting."""


def project(folder: Path) -> Project:
    return Checkout(folder, {"deploy.toml": MANIFEST, "fraud.py": ""}).project()


def test_a_login_that_waits_keeps_nothing_else_waiting(tmp_path: Path) -> None:
    shared, logged_in = project(tmp_path), threading.Event()
    with ThreadPoolExecutor(3) as threads:
        backend = threads.submit(shared.opened, "backend", lambda: logged_in.wait(LIMIT))
        assert threads.submit(shared.opened, "workshop", lambda: "made").result(LIMIT) == "made"
        assert threads.submit(shared.is_news, "something").result(LIMIT)
        assert not backend.done()
        logged_in.set()
        assert backend.result(LIMIT)


def test_what_several_threads_ask_for_is_opened_once(tmp_path: Path) -> None:
    shared, asking = project(tmp_path), threading.Barrier(8)
    made: list[object] = []

    def opening() -> list[object]:
        made.append(object())
        return made

    def ask(_: int) -> int:
        asking.wait(LIMIT)
        return len(shared.opened("backend", opening))

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, range(8))) == {1}


def test_one_kind_can_be_opened_by_way_of_another(tmp_path: Path) -> None:
    shared = project(tmp_path)
    assert shared.opened("store", lambda: f"over {shared.opened('backend', lambda: 'the backend')}") == (
        "over the backend"
    )
