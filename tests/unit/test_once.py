"""A value that is made once, whichever threads ask for it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from obstore.store import GCSStore

from flyte_build.model import StoreSettings
from flyte_build.once import once
from flyte_build.store.object import ObjectStore, Retries

THREADS = 8


class Slow:
    """Makes its value when every thread is about to ask for it."""

    def __init__(self) -> None:
        self.asking = threading.Barrier(THREADS)
        self.made = 0

    @once
    def value(self) -> object:
        self.made += 1
        return object()

    def asked(self, _: int) -> object:
        self.asking.wait(10)
        return self.value


def test_threads_that_ask_at_the_same_time_are_given_one_value() -> None:
    slow = Slow()
    with ThreadPoolExecutor(THREADS) as threads:
        given = set(threads.map(slow.asked, range(THREADS)))
    assert (len(given), slow.made) == (1, 1)


def test_each_instance_has_a_value_of_its_own() -> None:
    one, other = Slow(), Slow()
    assert one.value is not other.value
    assert one.value is one.value


def test_what_could_not_be_made_is_tried_again() -> None:
    class Failing:
        tries = 0

        @once
        def value(self) -> int:
            self.tries += 1
            if self.tries == 1:
                raise OSError("not yet")
            return self.tries

    failing = Failing()
    with pytest.raises(OSError, match="not yet"):
        _ = failing.value
    assert failing.value == 2


def test_threads_that_share_a_store_share_its_client() -> None:
    asking = threading.Barrier(THREADS)
    made: list[None] = []

    def connect(_: StoreSettings, __: Retries) -> GCSStore:
        made.append(None)
        return GCSStore("acme", config={"skip_signature": True})

    store = ObjectStore(StoreSettings(url="gs://acme"), connect=connect)

    def ask(_: int) -> object:
        asking.wait(10)
        return store.bucket

    with ThreadPoolExecutor(THREADS) as threads:
        assert len(set(map(id, threads.map(ask, range(THREADS))))) == 1
    assert len(made) == 1
