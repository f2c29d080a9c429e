from __future__ import annotations

import base64
import hashlib
import socket
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from flyteidl2.dataproxy.dataproxy_service_pb2 import CreateUploadLocationResponse

from flyte_build.errors import (
    StepError,
    StoreAccessDenied,
    StoreBucketMissing,
    StoreFailing,
    StoreRefused,
    StoreUnreachable,
    UploadNameTaken,
    UploadUrlExpired,
)
from flyte_build.model import StoreSettings, Upload
from flyte_build.store import UploadLocation, open_store
from flyte_build.store.signed import SignedStore
from tests.archives import MIB, archive_of, noise
from tests.http_faults import Reply, faulty_server, in_turn
from tests.moto_server import ENVIRONMENT, SECRET_KEY, moto_server, s3_client

QUERY = "X-Amz-Signature=5ec3e7&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE"
URI = "s3://bucket/prefix/0123.tar.gz"
DONE = Reply(200)
RESET = Reply(fault="reset")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@dataclass
class Locations:
    """Gives out the signed URLs one after the other, and keeps what it was asked."""

    urls: list[str]
    native_url: str = URI
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, bytes, int]] = field(default_factory=list)

    def create_upload_location(self, *, filename: str, content_md5: bytes, content_length: int) -> UploadLocation:
        url = self.urls[min(len(self.asked), len(self.urls) - 1)]
        self.asked.append((filename, content_md5, content_length))
        answer: UploadLocation = CreateUploadLocationResponse(
            signed_url=url, native_url=self.native_url, headers=self.headers
        )
        return answer


def signed(server: str, path: str = "/bucket/prefix/0123.tar.gz") -> str:
    return f"{server}{path}?{QUERY}"


@dataclass
class Attempt:
    """One upload to a server that answers as told; sleeps are counted, not slept."""

    folder: Path
    slept: list[float] = field(default_factory=list)

    def to(self, *urls: str, read_timeout: float = 60) -> Upload:
        store = SignedStore(locations=Locations(list(urls)), sleep=self.slept.append, read_timeout=read_timeout)
        bundle, archive = archive_of(self.folder)
        return store.put(bundle, archive)


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    return Attempt(tmp_path)


def xml_error(status: int, code: str, message: str = "said the store", **headers: str) -> Reply:
    """As S3 words it, with what it adds to a wrong signature."""
    body = (
        f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>"
        f"<StringToSign>{QUERY}</StringToSign><SignatureProvided>5ec3e7</SignatureProvided></Error>"
    )
    return Reply(status, body.encode(), headers)


EXPIRED = [
    xml_error(403, "AccessDenied", "Request has expired"),
    xml_error(400, "ExpiredToken", "The provided token has expired."),
    xml_error(403, "AuthenticationFailed", "Signature not valid in the specified time frame"),
]


def assert_tells_no_secret(error: StepError) -> None:
    shown = "".join(traceback.format_exception(error))
    for secret in ("X-Amz-Signature", "5ec3e7", "AKIAIOSFODNN7EXAMPLE", "?"):
        assert secret not in shown


def test_a_backend_opens_this_store() -> None:
    locations = Locations([])
    assert open_store(StoreSettings(url="backend"), locations) == SignedStore(locations=locations)


@pytest.mark.parametrize(
    ("url", "proxy", "reads_certificates"),
    [
        ("http://127.0.0.1:9000/bucket", "", False),
        ("https://127.0.0.1:9000/bucket", "", True),
        ("HTTPS://127.0.0.1:9000/bucket", "", True),
        ("http://127.0.0.1:9000/bucket", "https://proxy.example:3128", True),
    ],
)
def test_certificates_are_read_where_tls_may_be_spoken_and_only_there(
    url: str, proxy: str, reads_certificates: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    if proxy:
        monkeypatch.setenv("http_proxy", proxy)
    store = SignedStore(locations=Locations([]))
    assert (store._client_for(url) is store.client) == reads_certificates


def test_upload_asks_with_name_and_md5_and_gives_the_native_url(tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path)
    with faulty_server(in_turn(DONE)) as server:
        locations = Locations([signed(server.url)])
        upload = SignedStore(locations=locations).put(bundle, archive)
    assert upload == Upload(uri=URI, sent=True)
    md5 = hashlib.md5(archive.read_bytes()).digest()
    assert locations.asked == [(bundle.filename, md5, archive.stat().st_size)]


def test_the_request_is_what_the_backend_signed(tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path, noise(3 * MIB))
    with faulty_server(in_turn(DONE)) as server:
        given = {"X-Goog-Meta-Md5": "m", "Content-MD5": "replaced", "content-length": "1", "Content-Type": "a/b"}
        SignedStore(locations=Locations([signed(server.url)], headers=given)).put(bundle, archive)
    (request,) = server.requests
    assert (request.method, request.target) == ("PUT", f"/bucket/prefix/0123.tar.gz?{QUERY}")
    assert request.body == archive.read_bytes()
    assert request.headers["x-goog-meta-md5"] == "m"
    assert request.headers["content-type"] == "a/b"
    assert request.headers["content-length"] == str(3 * MIB)
    assert request.headers["content-md5"] == base64.b64encode(hashlib.md5(request.body).digest()).decode()
    assert "transfer-encoding" not in request.headers
    assert "x-ms-blob-type" not in request.headers


def test_no_content_type_is_sent_that_was_not_signed(tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path)
    with faulty_server(in_turn(DONE)) as server:
        SignedStore(locations=Locations([signed(server.url)])).put(bundle, archive)
    assert "content-type" not in server.requests[0].headers


@pytest.mark.parametrize("scheme", ["abfs", "abfss"])
def test_azure_is_told_the_kind_of_blob(tmp_path: Path, scheme: str) -> None:
    bundle, archive = archive_of(tmp_path)
    with faulty_server(in_turn(Reply(201))) as server:
        locations = Locations([signed(server.url)], native_url=f"{scheme}://c@a.dfs.core.windows.net/0123.tar.gz")
        SignedStore(locations=locations).put(bundle, archive)
    assert server.requests[0].headers["x-ms-blob-type"] == "BlockBlob"


def test_progress_adds_up_to_the_size(tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path, noise(3 * MIB))
    steps: list[int] = []
    with faulty_server(in_turn(DONE)) as server:
        SignedStore(locations=Locations([signed(server.url)])).put(bundle, archive, steps.append)
    assert sum(steps) == 3 * MIB
    assert len(steps) > 1


def test_progress_goes_back_when_the_bytes_are_sent_again(tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path, noise(3 * MIB))
    steps: list[int] = []
    with faulty_server(in_turn(Reply(500), DONE)) as server:
        SignedStore(locations=Locations([signed(server.url)]), sleep=lambda _: None).put(bundle, archive, steps.append)
    assert sum(steps) == 3 * MIB


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server() as url:
        yield url


def test_a_url_signed_for_a_real_s3_server_takes_the_bytes(
    moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    client = s3_client(moto)
    client.create_bucket(Bucket="signed")
    bundle, archive = archive_of(tmp_path, noise(9 * MIB))
    url = client.generate_presigned_url("put_object", Params={"Bucket": "signed", "Key": bundle.filename})
    locations = Locations([url], native_url=f"s3://signed/{bundle.filename}")
    assert SignedStore(locations=locations).put(bundle, archive).uri == f"s3://signed/{bundle.filename}"
    assert client.get_object(Bucket="signed", Key=bundle.filename)["Body"].read() == archive.read_bytes()


def test_a_real_s3_server_without_the_bucket_gives_its_name(moto: str, attempt: Attempt) -> None:
    with pytest.raises(StoreBucketMissing) as caught:
        attempt.to(f"{moto}/nowhere/0123.tar.gz?{QUERY}")
    assert str(caught.value) == f"{URI}: there is no bucket `bucket`; create it, or correct `url` of [store]"
    assert SECRET_KEY not in str(caught.value)
    assert attempt.slept == []


PASSING = [
    *(Reply(status) for status in (408, 429, 500, 502, 503, 504)),
    xml_error(400, "RequestTimeout"),
    RESET,
    Reply(200, b"half of this is never sent", fault="truncate"),
]


@pytest.mark.parametrize("trouble", PASSING, ids=lambda reply: reply.fault or str(reply.status))
def test_what_can_pass_is_tried_again(attempt: Attempt, trouble: Reply) -> None:
    with faulty_server(in_turn(trouble, trouble, DONE)) as server:
        assert attempt.to(signed(server.url)).uri == URI
    assert len({request.body for request in server.requests}) == 1
    assert attempt.slept == [0.5, 1.0]


def test_silence_is_tried_again(attempt: Attempt) -> None:
    with faulty_server(in_turn(Reply(fault="silence"), DONE)) as server:
        assert attempt.to(signed(server.url), read_timeout=0.2).uri == URI
    assert server.asked == ["PUT", "PUT"]


@pytest.mark.parametrize("status", [429, 503])
def test_the_store_says_how_long_to_wait(attempt: Attempt, status: int) -> None:
    replies = in_turn(
        Reply(status, headers={"Retry-After": "7"}),
        Reply(status, headers={"Retry-After": "86400"}),
        Reply(status, headers={"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}),
        DONE,
    )
    with faulty_server(replies) as server:
        attempt.to(signed(server.url))
    assert attempt.slept == [7.0, 60.0, 2.0]


def test_a_store_that_keeps_failing_is_given_up(attempt: Attempt) -> None:
    reply = xml_error(503, "SlowDown", "Please reduce your request rate.")
    with faulty_server(in_turn(reply)) as server, pytest.raises(StoreFailing) as caught:
        attempt.to(signed(server.url))
    assert str(caught.value) == (
        f"{URI}: the store failed 4 times: 503 `SlowDown`: Please reduce your request rate; try again later"
    )
    assert len(server.requests) == 4
    assert attempt.slept == [0.5, 1.0, 2.0]
    assert_tells_no_secret(caught.value)


@pytest.mark.parametrize(
    ("reply", "reason"), [(RESET, "the connection was closed"), (Reply(fault="silence"), "timed out")]
)
def test_a_store_that_never_answers_is_given_up(attempt: Attempt, reply: Reply, reason: str) -> None:
    with faulty_server(in_turn(reply)) as server, pytest.raises(StoreUnreachable) as caught:
        attempt.to(signed(server.url), read_timeout=0.2)
    assert str(caught.value) == (
        f"{URI}: no answer from `{server.url}` in 4 attempts: {reason}; check the network and the address"
    )
    assert_tells_no_secret(caught.value)


def test_an_address_where_nobody_listens_is_named(attempt: Attempt) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StoreUnreachable) as caught:
            attempt.to(signed(url))
    assert str(caught.value) == (
        f"{URI}: no answer from `{url}` in 4 attempts: could not connect: [Errno 111] Connection refused; "
        "check the network and the address"
    )
    assert_tells_no_secret(caught.value)


@pytest.mark.parametrize("expired", EXPIRED, ids=["s3", "token", "azure"])
def test_an_expired_url_is_replaced_by_a_fresh_one_at_once(attempt: Attempt, expired: Reply) -> None:
    with faulty_server(in_turn(expired, DONE)) as server:
        attempt.to(signed(server.url, "/first"), signed(server.url, "/second"))
    assert [request.target.partition("?")[0] for request in server.requests] == ["/first", "/second"]
    assert attempt.slept == []


@pytest.mark.parametrize("expired", EXPIRED, ids=["s3", "token", "azure"])
def test_a_fresh_url_that_has_expired_too_is_an_error(attempt: Attempt, expired: Reply) -> None:
    with faulty_server(in_turn(expired)) as server, pytest.raises(UploadUrlExpired) as caught:
        attempt.to(signed(server.url))
    assert len(server.requests) == 2
    assert str(caught.value).startswith(
        f"{URI}: the signed URL of the backend expired before the upload was done, twice"
    )
    assert_tells_no_secret(caught.value)


@pytest.mark.parametrize("code", ["AccessDenied", "SignatureDoesNotMatch"])
def test_a_refusal_is_told_once_and_without_the_signature(attempt: Attempt, code: str) -> None:
    said = f"AKIAIOSFODNN7EXAMPLE may not PUT http://h/k?{QUERY}.\nMore"
    with faulty_server(in_turn(xml_error(403, code, said))) as server, pytest.raises(StoreAccessDenied) as caught:
        attempt.to(signed(server.url))
    assert str(caught.value) == (
        f"{URI}: access denied: 403 `{code}`: *** may not PUT http://h/k; "
        "give the credentials in use the right to read and write there"
    )
    assert len(server.requests) == 1
    assert_tells_no_secret(caught.value)


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(404), "404"),
        (Reply(307, headers={"Location": f"http://127.0.0.1:9/x?{QUERY}"}), "307"),
        (Reply(413, b"<html>Too large</html>"), "413"),
        (
            xml_error(400, "BadDigest", "The Content-MD5 you specified did not match what we received."),
            "400 `BadDigest`: The Content-MD5 you specified did not match what we received",
        ),
    ],
    ids=["404", "redirect", "html", "digest"],
)
def test_an_answer_that_no_retry_changes_is_told(attempt: Attempt, reply: Reply, told: str) -> None:
    with faulty_server(in_turn(reply)) as server, pytest.raises(StoreRefused) as caught:
        attempt.to(signed(server.url))
    assert str(caught.value) == (
        f"{URI}: the store refused the bundle: {told}; check `url`, `endpoint_url` and `region` of [store]"
    )
    assert len(server.requests) == 1
    assert_tells_no_secret(caught.value)


def test_a_name_that_the_backend_holds_with_other_bytes_is_not_sent(tmp_path: Path) -> None:
    class Taken:
        def create_upload_location(self, *, filename: str, content_md5: bytes, content_length: int) -> UploadLocation:
            raise UploadNameTaken(filename=filename)

    bundle, archive = archive_of(tmp_path)
    with pytest.raises(UploadNameTaken, match=f"^{bundle.filename}: the backend holds other bytes under this name"):
        SignedStore(locations=Taken()).put(bundle, archive)
