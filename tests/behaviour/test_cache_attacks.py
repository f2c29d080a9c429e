"""Who may write to a shared cache and has the checkout can lie of results, and no more: no file is touched."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from flyte_build.cache.client import Client
from flyte_build.cache.sealed import seal, unseal
from flyte_build.model import CacheSettings
from flyte_build.sharing import entries
from flyte_build.sharing.entries import Entry, Sealed
from flyte_build.sharing.install import traces_of
from flyte_build.sharing.surroundings import surroundings
from flyte_build.state import digest
from tests.behaviour.test_shared_cache import REUSED, Machine, World, done, start
from tests.checkout import Checkout
from tests.http_faults import faulty_server, forward
from tests.moto_server import ENVIRONMENT, SECRET_KEY, moto_server, s3_client
from tests.recording import RecordingServer


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with RecordingServer(tmp_path / "backend") as server:
        yield World(tmp_path, server)


def objects_of(machine: Machine) -> list[Sealed]:
    """The names and keys of what the machine's deploy has published of results: an attacker with its checkout."""
    project = Checkout(machine.folder).project()
    target = project.manifest.targets["fraud"]
    traces = traces_of(project, target)
    assert traces
    static = entries.static_key(project, target, surroundings(project))
    place = entries.place_key(project, target)
    return [entries.local_object(static, traces), entries.deployed_object(static, traces, place)]


def forge(world: World, machine: Machine, change: Callable[[Entry], Entry]) -> None:
    """Put other results under the names and seals of those that a machine has published."""
    for sealed in objects_of(machine):
        path = world.folder / "cache" / sealed.name
        content = unseal(sealed.key, path.read_bytes())
        assert content
        entry = msgspec.msgpack.decode(content, type=Entry)
        path.write_bytes(seal(sealed.key, msgspec.msgpack.encode(change(entry))))


def with_output(entry: Entry, step: str, path: str, content: bytes) -> Entry:
    """A step's receipt names one more file as its own."""
    shared = entry.receipts[step]
    outputs = {**shared.outputs, path: digest.of_bytes(content)}
    receipts = {**entry.receipts, step: replace(shared, outputs=outputs)}
    return replace(entry, receipts=receipts, files={**entry.files, path: content})


@pytest.mark.parametrize("path", ["../rates.csv", "../.flyte-build/../rates.csv", "{folder}/.flyte-build/../rates.csv"])
def test_no_entry_makes_a_file_of_the_user_an_output_that_is_removed(world: World, path: str) -> None:
    first, second = world.machine("first"), world.machine("second")
    first.ran()
    place = path.format(folder=second.folder)
    forge(world, first, lambda entry: with_output(entry, "bundle", place, (second.folder / "rates.csv").read_bytes()))
    assert "bundle" in second.ran()
    (second.folder / "rates.csv").write_text("a,3\n")
    second.ran()
    assert second.doit("clean").code == 0
    assert second.read("rates.csv") == "a,3\n"


def test_no_entry_writes_over_a_result_of_this_checkout(world: World) -> None:
    first, second = world.machine("first"), world.machine("second")
    first.ran()
    second.environ["STAGE"] = "prod"
    second.ran()
    before = {path: path.read_bytes() for path in (second.folder / ".flyte-build/objects").iterdir()}

    def change(entry: Entry) -> Entry:
        for path in before:
            entry = with_output(entry, "discover", f"objects/{path.name}", b"forged")
        return entry

    forge(world, first, change)
    del second.environ["STAGE"]
    second.ran()
    left = {path: path.read_bytes() for path in before if path.exists()}  # most are named no more
    assert left.items() <= before.items()


@pytest.mark.parametrize("result", [b"1", b"[", b"\xff"], ids=["another", "cut off", "noise"])
@pytest.mark.parametrize("step", ["discover", "upload"])
def test_a_result_that_a_step_cannot_read_is_made_here(world: World, step: str, result: bytes) -> None:
    first, second = world.machine("first"), world.machine("second")
    first.ran()

    def change(entry: Entry) -> Entry:
        if step not in entry.receipts:
            return entry
        receipts = {**entry.receipts, step: replace(entry.receipts[step], result=result)}
        return replace(entry, receipts=receipts)

    forge(world, first, change)
    assert step in second.ran()
    assert second.ran() == set()
    assert second.left == first.left


def test_files_that_are_not_what_their_receipt_says_are_made_here(world: World) -> None:
    first, second = world.machine("first"), world.machine("second")
    first.ran()
    forge(world, first, lambda entry: replace(entry, files=dict.fromkeys(entry.files, b"forged")))
    ran = second.doit("output=jsonl")
    assert ran.code == 0, ran.err + ran.out
    assert second.left == first.left


# --- what goes over the wire


def test_nothing_that_is_sent_to_the_cache_holds_a_secret_in_any_spelling(world: World) -> None:
    secret = "hunter2-of-the-payments-team"
    digests = [digest.of_bytes(secret.encode()), digest.of_parts("environment", ("STAGE", secret))]
    spellings = [secret, secret[::-1], base64.b64encode(secret.encode()).decode(), secret.encode().hex(), *digests]
    with moto_server() as url:
        s3_client(url).create_bucket(Bucket="bucket")
        with faulty_server(forward(url)) as server:
            world.cache = f'url = "s3://bucket/pre/fix"\nendpoint_url = "{server.url}"\nregion = "us-east-1"'
            world.environ |= ENVIRONMENT | {"STAGE": secret}
            machine = world.machine("first")
            assert machine.ran() == REUSED
            assert secret.encode() in machine.left.specs["fraud.score"]
    sent = "\n".join(
        f"{request.method} {request.target} {request.headers} {request.body.decode('latin-1')}"
        for request in server.requests
    )
    assert sent.count("PUT /bucket/pre/fix/v1/") == 4
    for spelling in (*spellings, *(bytes.fromhex(each).decode("latin-1") for each in digests), SECRET_KEY, "rates.csv"):
        assert spelling not in sent


# --- many at once


def test_machines_that_deploy_one_commit_at_once_through_a_folder_are_all_right(world: World) -> None:
    machines = [world.machine(name) for name in ("first", "second", "third")]
    running = [start(machine) for machine in machines]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]
    last = world.machine("last")
    ran = last.doit("output=jsonl")
    assert done(ran) == set()
    assert [event for event in ran.events if event["event"] == "warning"] == []
    assert all(machine.left == last.left for machine in machines)


def test_who_reads_while_others_write_and_remove_sees_whole_objects_alone(tmp_path: Path) -> None:
    contents = [bytes([number]) * 300_000 for number in range(4)]

    def use(content: bytes) -> set[bytes]:
        client = Client(CacheSettings(url=f"file://{tmp_path}/cache"), os.environ)
        seen: set[bytes] = set()
        for _ in range(25):
            client.create({"v1/local/one": content})
            seen |= set(client.get(["v1/local/one"]).values())
            client.delete(["v1/local/one"])
        client.close()
        assert client.trouble is None
        return seen

    with ThreadPoolExecutor(len(contents)) as pool:
        seen = set().union(*pool.map(use, contents))
    assert seen
    assert seen <= set(contents)
    assert list((tmp_path / "cache/parts").iterdir()) == []
