from __future__ import annotations

import json
import socket
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import obstore
import pytest
from obstore.store import MemoryStore

from flyte_build.errors import (
    StepError,
    StoreAccessDenied,
    StoreBucketMissing,
    StoreCredentialsMissing,
    StoreFailing,
    StoreRefused,
    StoreUnreachable,
)
from flyte_build.model import StoreSettings
from flyte_build.store import open_store
from flyte_build.store.object import DIGEST_KEY, ObjectStore, Retries
from tests.archives import MIB, archive_of, noise
from tests.http_faults import FaultyServer, Reply, Request, faulty_server, in_turn

GOOGLE, AZURE = "gs://bucket/prefix", "abfs://container@account.dfs.core.windows.net/prefix"
ACCOUNT_KEY = "c2VjcmV0LWtleS1vZi1hbi1hY2NvdW50"
MISSING = Reply(404)
DONE = Reply(200, headers={"etag": '"1"'})
RESET = Reply(fault="reset")


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service account that needs no token, and an account's key."""
    unsigned = {"gcs_base_url": "", "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(unsigned))
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", ACCOUNT_KEY)
    monkeypatch.setenv("NO_PROXY", "*")


@dataclass
class Objects:
    """Objects over HTTP as both stores keep them: bytes and what was said of them."""

    held: dict[str, Request] = field(default_factory=dict)

    def __call__(self, request: Request) -> Reply:
        name = request.target.partition("?")[0]
        if request.method == "PUT":
            self.held[name] = request
            return Reply(201, headers={"etag": '"1"'})
        if name not in self.held:
            return Reply(404)
        kept = self.held[name]
        metadata = {
            name: value for name, value in kept.headers.items() if name.startswith(("x-goog-meta", "x-ms-meta"))
        }
        facts = {"etag": '"1"', "last-modified": "Fri, 31 Dec 1999 23:59:59 GMT", "content-length": str(len(kept.body))}
        return Reply(200, kept.body, {**facts, **metadata})


def store_at(server: str, url: str = GOOGLE) -> ObjectStore:
    settings = StoreSettings(url=url, endpoint_url=server)
    return ObjectStore(settings=settings, retries=Retries(first_delay=0.001))


def store_in(memory: MemoryStore) -> ObjectStore:
    return ObjectStore(settings=StoreSettings(url=GOOGLE), connect=lambda settings, retries: memory)


def upload_to(answerer: Callable[[Request], Reply], folder: Path, url: str = GOOGLE) -> tuple[StepError, FaultyServer]:
    """The error of an upload that fails."""
    bundle, archive = archive_of(folder)
    with faulty_server(answerer) as server, pytest.raises(StepError) as caught:
        store_at(server.url, url).put(bundle, archive)
    shown = "".join(traceback.format_exception(caught.value))
    for secret in (ACCOUNT_KEY, "SharedKey", "sig=", "Bearer"):
        assert secret not in shown
    return caught.value, server


@pytest.mark.parametrize("url", [GOOGLE, AZURE])
def test_the_scheme_opens_this_store(url: str) -> None:
    assert open_store(StoreSettings(url=url)) == ObjectStore(settings=StoreSettings(url=url))


@pytest.mark.parametrize("url", [GOOGLE, AZURE])
def test_upload_puts_the_bytes_under_the_prefix_and_skips_them_when_there(tmp_path: Path, url: str) -> None:
    bundle, archive = archive_of(tmp_path, noise(9 * MIB))
    objects = Objects()
    with faulty_server(objects) as server:
        first = store_at(server.url, url).put(bundle, archive)
        again = store_at(server.url, url).put(bundle, archive)
    assert (first.sent, again.sent) == (True, False)
    assert first.uri == again.uri == f"{url}/{bundle.digest}.tar.gz"
    ((name, kept),) = objects.held.items()
    assert name.replace("%2F", "/").replace("%2E", ".").endswith(f"/prefix/{bundle.filename}")
    assert kept.body == archive.read_bytes()
    assert server.asked == ["HEAD", "PUT", "HEAD"]


@pytest.mark.parametrize("url", [GOOGLE, AZURE])
def test_an_object_with_another_digest_is_sent_again(tmp_path: Path, url: str) -> None:
    bundle, other = archive_of(tmp_path, b"THE bytes of a bundle", name=b"the bytes of a bundle")
    objects = Objects()
    with faulty_server(objects) as server:
        store_at(server.url, url).put(bundle, other)
        bundle, archive = archive_of(tmp_path, b"the bytes of a bundle")
        assert store_at(server.url, url).put(bundle, archive).sent
    assert [kept.body for kept in objects.held.values()] == [archive.read_bytes()]


def test_progress_adds_up_to_the_size(tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path)
    steps: list[int] = []
    memory = MemoryStore()
    store_in(memory).put(bundle, archive, steps.append)
    assert sum(steps) == archive.stat().st_size
    assert bytes(obstore.get(memory, bundle.filename).bytes()) == archive.read_bytes()


@pytest.mark.parametrize("body", [b"the bytes of a bundle", b"the bytes"])
def test_an_object_that_is_not_surely_the_archive_is_sent_again(tmp_path: Path, body: bytes) -> None:
    bundle, archive = archive_of(tmp_path, b"the bytes of a bundle")
    memory = MemoryStore()
    attributes = {} if body == archive.read_bytes() else {DIGEST_KEY: bundle.digest}
    obstore.put(memory, bundle.filename, body, attributes=attributes)
    assert store_in(memory).put(bundle, archive).sent
    assert bytes(obstore.get(memory, bundle.filename).bytes()) == archive.read_bytes()


def test_who_may_write_but_not_look_can_upload(tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path)
    with faulty_server(in_turn(Reply(403), DONE)) as server:
        assert store_at(server.url).put(bundle, archive).sent
    assert server.asked == ["HEAD", "PUT"]


@pytest.mark.parametrize("trouble", [Reply(500), Reply(503), Reply(429), RESET], ids=["500", "503", "429", "reset"])
def test_what_can_pass_is_tried_again(tmp_path: Path, trouble: Reply) -> None:
    bundle, archive = archive_of(tmp_path)
    with faulty_server(in_turn(MISSING, trouble, DONE)) as server:
        assert store_at(server.url).put(bundle, archive).sent
    assert server.asked == ["HEAD", "PUT", "PUT"]
    assert server.requests[-1].body == archive.read_bytes()


def test_a_missing_bucket_is_named(tmp_path: Path) -> None:
    error, server = upload_to(in_turn(MISSING), tmp_path)
    assert isinstance(error, StoreBucketMissing)
    assert str(error).endswith(".tar.gz: there is no bucket `bucket`; create it, or correct `url` of [store]")
    assert server.asked == ["HEAD", "PUT"]


def test_a_missing_container_is_named(tmp_path: Path) -> None:
    error, _ = upload_to(in_turn(MISSING), tmp_path, AZURE)
    assert isinstance(error, StoreBucketMissing)
    assert error.bucket == "container"


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("url", [GOOGLE, AZURE])
def test_a_refusal_is_told_once_and_without_the_signature(tmp_path: Path, url: str, status: int) -> None:
    body = f"<Error><Code>AccessDenied</Code><Details>SharedKey account:{ACCOUNT_KEY}</Details></Error>".encode()
    error, server = upload_to(in_turn(MISSING, Reply(status, body)), tmp_path, url)
    assert isinstance(error, StoreAccessDenied)
    assert str(error) == (
        f"{error.uri}: access denied: {status} `AccessDenied`; "
        "give the credentials in use the right to read and write there"
    )
    assert error.uri.startswith(f"{url}/")
    assert server.asked == ["HEAD", "PUT"]


def test_a_store_that_keeps_failing_is_given_up(tmp_path: Path) -> None:
    error, server = upload_to(in_turn(MISSING, Reply(503)), tmp_path)
    assert isinstance(error, StoreFailing)
    assert str(error) == f"{error.uri}: the store failed 4 times: 503; try again later"
    assert server.asked == ["HEAD", "PUT", "PUT", "PUT", "PUT"]


def test_an_answer_that_no_retry_changes_is_told(tmp_path: Path) -> None:
    reply = Reply(400, b"<Error><Code>InvalidArgument</Code></Error>")
    error, _ = upload_to(in_turn(MISSING, reply), tmp_path)
    assert isinstance(error, StoreRefused)
    assert str(error) == (
        f"{error.uri}: the store refused the bundle: 400 `InvalidArgument`; "
        "check `url`, `endpoint_url` and `region` of [store]"
    )


def test_an_address_where_nobody_listens_is_named(tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StoreUnreachable) as caught:
            store_at(url).put(bundle, archive)
    assert str(caught.value) == (
        f"gs://bucket/prefix/{bundle.filename}: no answer from `{url}` in 4 attempts: "
        "HTTP error: error sending request; check the network and the address"
    )


def test_no_credentials_say_how_they_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", "{}")
    error, server = upload_to(in_turn(MISSING), tmp_path)
    assert isinstance(error, StoreCredentialsMissing)
    assert str(error) == (
        f"{error.uri}: no credentials for the store: GCP credential error: Unable to decode service account file: "
        "missing field `private_key` at line 1 column 2; "
        "set GOOGLE_APPLICATION_CREDENTIALS, or log in with `gcloud auth application-default login`"
    )
    assert server.requests == []


def test_an_azure_container_without_an_account_says_how_it_is_given(tmp_path: Path) -> None:
    error, _ = upload_to(in_turn(MISSING), tmp_path, "abfs://container/prefix")
    assert isinstance(error, StoreCredentialsMissing)
    assert str(error) == (
        f"{error.uri}: no credentials for the store: Account must be specified; "
        "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or log in with `az login`"
    )
