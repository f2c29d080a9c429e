from __future__ import annotations

import hashlib
import socket
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flyte_build.errors import (
    StepError,
    StoreAccessDenied,
    StoreBucketMissing,
    StoreCredentialsMissing,
    StoreFailing,
    StoreRefused,
    StoreUnreachable,
)
from flyte_build.model import Bundle, StoreSettings
from flyte_build.state import digest
from flyte_build.store import open_store
from flyte_build.store.s3 import DIGEST_KEY, S3Store
from tests.archives import MIB, archive_of, noise
from tests.http_faults import Reply, Request, faulty_server, forward, in_turn
from tests.moto_server import ACCESS_KEY, ENVIRONMENT, SECRET_KEY, moto_server, s3_client

BIG = 9 * MIB
MISSING = Reply(404)
RESET = Reply(fault="reset")


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client would have slept between attempts."""
    waits: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=waits.append))
    return waits


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def bucket(moto: str, request: pytest.FixtureRequest) -> str:
    """A bucket of the test's own."""
    name = f"bundles-{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"
    s3_client(moto).create_bucket(Bucket=name)
    return name


def store_at(url: str, place: str, read_timeout: float = 60) -> S3Store:
    settings = StoreSettings(url=f"s3://{place}", endpoint_url=url, region="us-east-1")
    return S3Store(settings=settings, read_timeout=read_timeout)


def stored(url: str, bucket: str, key: str) -> Any:
    return s3_client(url).get_object(Bucket=bucket, Key=key)


def assert_tells_no_secret(error: StepError) -> None:
    shown = "".join(traceback.format_exception(error))
    for secret in (ACCESS_KEY, SECRET_KEY, "Signature=", "X-Amz-Signature", "Credential="):
        assert secret not in shown


def xml_error(status: int, code: str, message: str = "said the store", **headers: str) -> Reply:
    """As S3 words it, with what it adds to a wrong signature."""
    body = (
        f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>"
        f"<AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId><SignatureProvided>Signature=abc</SignatureProvided></Error>"
    )
    return Reply(status, body.encode(), {"content-type": "application/xml", **headers})


def test_the_scheme_s3_opens_this_store() -> None:
    assert open_store(StoreSettings(url="s3://bucket")) == S3Store(settings=StoreSettings(url="s3://bucket"))


def test_upload_puts_the_bytes_under_the_prefix(moto: str, bucket: str, tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path)
    upload = store_at(moto, f"{bucket}/some/prefix/").put(bundle, archive)
    assert upload.sent
    assert upload.uri == f"s3://{bucket}/some/prefix/{bundle.digest}.tar.gz"
    found = stored(moto, bucket, f"some/prefix/{bundle.filename}")
    assert found["Body"].read() == archive.read_bytes()
    assert found["ContentType"] == "application/gzip"


def test_a_bucket_without_a_prefix_is_enough(moto: str, bucket: str, tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path)
    assert store_at(moto, bucket).put(bundle, archive).uri == f"s3://{bucket}/{bundle.filename}"
    assert stored(moto, bucket, bundle.filename)["Body"].read() == archive.read_bytes()


def test_upload_skips_an_object_that_is_there(moto: str, bucket: str, tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path)
    first = store_at(moto, bucket).put(bundle, archive)
    with faulty_server(forward(moto)) as server:
        again = store_at(server.url, bucket).put(bundle, archive)
    assert server.asked == ["HEAD"]
    assert not again.sent
    assert again.uri == first.uri


def test_an_object_with_another_digest_is_sent_again(moto: str, bucket: str, tmp_path: Path) -> None:
    bundle, other = archive_of(tmp_path, b"THE bytes of a bundle", name=b"the bytes of a bundle")
    store_at(moto, bucket).put(bundle, other)
    bundle, archive = archive_of(tmp_path, b"the bytes of a bundle")
    assert store_at(moto, bucket).put(bundle, archive).sent
    assert stored(moto, bucket, bundle.filename)["Body"].read() == archive.read_bytes()


@pytest.mark.parametrize(
    ("body", "metadata"),
    [
        (b"the bytes of a bundle", {}),
        (b"the bytes", {DIGEST_KEY: digest.of_bytes(b"the bytes of a bundle")}),
    ],
    ids=["no digest", "another size"],
)
def test_an_object_that_is_not_surely_the_archive_is_sent_again(
    moto: str, bucket: str, tmp_path: Path, body: bytes, metadata: dict[str, str]
) -> None:
    bundle, archive = archive_of(tmp_path, b"the bytes of a bundle")
    s3_client(moto).put_object(Bucket=bucket, Key=bundle.filename, Body=body, Metadata=metadata)
    assert store_at(moto, bucket).put(bundle, archive).sent
    assert stored(moto, bucket, bundle.filename)["Body"].read() == archive.read_bytes()


def test_nine_mebibytes_go_in_two_parts_and_come_back_byte_for_byte(moto: str, bucket: str, tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path, noise(BIG))
    with faulty_server(forward(moto)) as server:
        assert store_at(server.url, bucket).put(bundle, archive).sent
    parts = sorted(len(request.body) for request in server.requests if "partNumber=" in request.target)
    assert parts == [MIB, 8 * MIB]
    assert stored(moto, bucket, bundle.filename)["Body"].read() == archive.read_bytes()
    assert not store_at(moto, bucket).put(bundle, archive).sent


def test_one_byte_less_than_eight_mebibytes_goes_in_one_request(moto: str, bucket: str, tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path, noise(8 * MIB - 1))
    with faulty_server(forward(moto)) as server:
        store_at(server.url, bucket).put(bundle, archive)
    assert server.asked == ["HEAD", "PUT"]
    assert stored(moto, bucket, bundle.filename)["Body"].read() == archive.read_bytes()


@pytest.mark.parametrize("size", [20, BIG])
def test_the_digest_of_all_that_is_sent_is_signed_so_that_the_store_can_check_it(
    moto: str, bucket: str, tmp_path: Path, size: int
) -> None:
    bundle, archive = archive_of(tmp_path, noise(size))
    with faulty_server(forward(moto)) as server:
        store_at(server.url, bucket).put(bundle, archive)
    sent = [request for request in server.requests if request.method == "PUT"]
    assert sum(len(request.body) for request in sent) == size
    for request in sent:
        assert request.headers["x-amz-content-sha256"] == hashlib.sha256(request.body).hexdigest()
        assert "x-amz-content-sha256" in request.headers["authorization"].partition("SignedHeaders=")[2]


@pytest.mark.parametrize("size", [20, BIG])
def test_progress_adds_up_to_the_size(moto: str, bucket: str, tmp_path: Path, size: int) -> None:
    bundle, archive = archive_of(tmp_path, noise(size))
    steps: list[int] = []
    store_at(moto, bucket).put(bundle, archive, steps.append)
    assert sum(steps) == size


def failing_parts(moto: str, refusal: Reply) -> Callable[[Request], Reply]:
    upstream = forward(moto)
    return lambda request: refusal if "partNumber=2" in request.target else upstream(request)


@pytest.mark.parametrize("refusal", [xml_error(403, "AccessDenied"), xml_error(500, "InternalError"), RESET])
def test_a_part_that_fails_leaves_nothing_half_done(
    moto: str, bucket: str, tmp_path: Path, slept: list[float], refusal: Reply
) -> None:
    bundle, archive = archive_of(tmp_path, noise(BIG))
    with faulty_server(failing_parts(moto, refusal)) as server, pytest.raises(StepError) as caught:
        store_at(server.url, bucket).put(bundle, archive)
    assert_tells_no_secret(caught.value)
    assert server.asked[-1] == "DELETE"
    client = s3_client(moto)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_part_that_fails_once_is_sent_again_alone(moto: str, bucket: str, tmp_path: Path, slept: list[float]) -> None:
    bundle, archive = archive_of(tmp_path, noise(BIG))
    upstream, left = forward(moto), [xml_error(503, "SlowDown")]
    steps: list[int] = []

    def answer(request: Request) -> Reply:
        return left.pop() if "partNumber=2" in request.target and left else upstream(request)

    with faulty_server(answer) as server:
        store_at(server.url, bucket).put(bundle, archive, steps.append)
    assert sum("partNumber=1" in request.target for request in server.requests) == 1
    assert sum("partNumber=2" in request.target for request in server.requests) == 2
    assert stored(moto, bucket, bundle.filename)["Body"].read() == archive.read_bytes()
    assert sum(steps) == BIG


@pytest.mark.parametrize("size", [20, BIG])
def test_a_missing_bucket_is_named_and_not_asked_for_again(moto: str, tmp_path: Path, size: int) -> None:
    bundle, archive = archive_of(tmp_path, noise(size))
    with faulty_server(forward(moto)) as server, pytest.raises(StoreBucketMissing) as caught:
        store_at(server.url, "not-there/prefix").put(bundle, archive)
    assert str(caught.value) == (
        f"s3://not-there/prefix/{bundle.filename}: there is no bucket `not-there`; "
        "create it, or correct `url` of [store]"
    )
    assert len(server.requests) == 2


def test_an_unknown_access_key_is_denied_in_the_words_of_the_store(moto: str, bucket: str, tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path)
    set_unchecked_requests(moto, "0")
    try:
        with faulty_server(forward(moto)) as server, pytest.raises(StoreAccessDenied) as caught:
            store_at(server.url, bucket).put(bundle, archive)
    finally:
        set_unchecked_requests(moto, "inf")
    assert str(caught.value) == (
        f"s3://{bucket}/{bundle.filename}: access denied: 403 `InvalidAccessKeyId`: "
        "The AWS Access Key Id you provided does not exist in our records; "
        "give the credentials in use the right to read and write there"
    )
    assert server.asked == ["HEAD", "PUT"]
    assert_tells_no_secret(caught.value)


def set_unchecked_requests(moto: str, count: str) -> None:
    """After so many requests moto checks who asks."""
    headers = {"Content-Type": "text/plain"}
    request = urllib.request.Request(f"{moto}/moto-api/reset-auth", count.encode(), headers, method="POST")
    urllib.request.urlopen(request, timeout=10).close()


@pytest.mark.parametrize("code", ["AccessDenied", "SignatureDoesNotMatch", "ExpiredToken", "RequestTimeTooSkewed"])
def test_a_refusal_is_told_once_and_without_the_signature(tmp_path: Path, slept: list[float], code: str) -> None:
    bundle, archive = archive_of(tmp_path)
    said = f"User arn:aws:iam::1:user/me with {ACCESS_KEY} may not PUT http://h/k?X-Amz-Signature=abc."
    replies = in_turn(MISSING, xml_error(403, code, said))
    with faulty_server(replies) as server, pytest.raises(StoreAccessDenied) as caught:
        store_at(server.url, "bucket").put(bundle, archive)
    assert str(caught.value) == (
        f"s3://bucket/{bundle.filename}: access denied: 403 `{code}`: User arn:aws:iam::1:user/me with *** may not "
        "PUT http://h/k; give the credentials in use the right to read and write there"
    )
    assert server.asked == ["HEAD", "PUT"]
    assert slept == []


def test_who_may_write_but_not_look_can_upload(tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path)
    with faulty_server(in_turn(Reply(403), Reply(200, headers={"etag": '"1"'}))) as server:
        assert store_at(server.url, "bucket").put(bundle, archive).sent
    assert server.requests[-1].body == archive.read_bytes()


PASSING = [
    xml_error(500, "InternalError"),
    xml_error(502, "BadGateway"),
    xml_error(503, "SlowDown"),
    xml_error(429, "TooManyRequests"),
    Reply(504),
    RESET,
    Reply(200, b"half of this is never sent", fault="truncate"),
]


@pytest.mark.parametrize("trouble", PASSING, ids=lambda reply: reply.fault or str(reply.status))
def test_what_can_pass_is_tried_again(tmp_path: Path, slept: list[float], trouble: Reply) -> None:
    bundle, archive = archive_of(tmp_path)
    with faulty_server(in_turn(MISSING, trouble, trouble, Reply(200, headers={"etag": '"1"'}))) as server:
        assert store_at(server.url, "bucket").put(bundle, archive).sent
    assert [request.body for request in server.requests] == [b"", *[archive.read_bytes()] * 3]
    assert len(slept) == 2


def test_silence_is_tried_again(tmp_path: Path, slept: list[float]) -> None:
    bundle, archive = archive_of(tmp_path)
    replies = in_turn(MISSING, Reply(fault="silence"), Reply(200, headers={"etag": '"1"'}))
    with faulty_server(replies) as server:
        assert store_at(server.url, "bucket", read_timeout=0.2).put(bundle, archive).sent
    assert server.asked == ["HEAD", "PUT", "PUT"]


def test_a_store_that_keeps_failing_is_given_up(tmp_path: Path, slept: list[float]) -> None:
    bundle, archive = archive_of(tmp_path)
    replies = in_turn(MISSING, xml_error(503, "SlowDown", "Please reduce your request rate."))
    with faulty_server(replies) as server, pytest.raises(StoreFailing) as caught:
        store_at(server.url, "bucket/p").put(bundle, archive)
    assert str(caught.value) == (
        f"s3://bucket/p/{bundle.filename}: the store failed 4 times: "
        "503 `SlowDown`: Please reduce your request rate; try again later"
    )
    assert server.asked == ["HEAD", "PUT", "PUT", "PUT", "PUT"]
    assert_tells_no_secret(caught.value)


@pytest.mark.parametrize(
    ("reply", "reason"), [(RESET, "the connection was closed"), (Reply(fault="silence"), "timed out")]
)
def test_a_store_that_never_answers_is_given_up(tmp_path: Path, slept: list[float], reply: Reply, reason: str) -> None:
    bundle, archive = archive_of(tmp_path)
    with faulty_server(in_turn(reply)) as server, pytest.raises(StoreUnreachable) as caught:
        store_at(server.url, "bucket", read_timeout=0.2).put(bundle, archive)
    assert str(caught.value) == unreachable(bundle, server.url, reason)
    assert len(server.requests) == 4
    assert_tells_no_secret(caught.value)


def test_an_address_where_nobody_listens_is_named(tmp_path: Path, slept: list[float]) -> None:
    bundle, archive = archive_of(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StoreUnreachable) as caught:
            store_at(url, "bucket").put(bundle, archive)
    assert str(caught.value) == unreachable(bundle, url, "could not connect")
    assert len(slept) == 3


def unreachable(bundle: Bundle, url: str, reason: str) -> str:
    uri = f"s3://bucket/{bundle.filename}"
    return f"{uri}: no answer from `{url}` in 4 attempts: {reason}; check the network and the address"


def test_a_server_that_speaks_no_tls_is_named_as_such(tmp_path: Path, slept: list[float]) -> None:
    bundle, archive = archive_of(tmp_path)
    with faulty_server(in_turn(MISSING)) as server, pytest.raises(StoreUnreachable, match="TLS failed"):
        store_at(server.url.replace("http:", "https:"), "bucket").put(bundle, archive)
    assert server.requests == []


def test_no_credentials_say_how_they_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, archive = archive_of(tmp_path)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with faulty_server(in_turn(MISSING)) as server, pytest.raises(StoreCredentialsMissing) as caught:
        store_at(server.url, "bucket").put(bundle, archive)
    assert str(caught.value) == (
        f"s3://bucket/{bundle.filename}: no credentials for the store: Unable to locate credentials; "
        "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )
    assert server.requests == []


def test_half_of_the_credentials_says_which_half_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, archive = archive_of(tmp_path)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with faulty_server(in_turn(MISSING)) as server, pytest.raises(StoreCredentialsMissing) as caught:
        store_at(server.url, "bucket").put(bundle, archive)
    assert str(caught.value) == (
        f"s3://bucket/{bundle.filename}: no credentials for the store: Partial credentials found in env, "
        "missing: AWS_SECRET_ACCESS_KEY; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )
    assert_tells_no_secret(caught.value)


def test_a_profile_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, archive = archive_of(tmp_path)
    monkeypatch.setenv("AWS_PROFILE", "staging")
    with pytest.raises(StoreCredentialsMissing) as caught:
        store_at("http://127.0.0.1:9", "bucket").put(bundle, archive)
    assert str(caught.value) == (
        f"s3://bucket/{bundle.filename}: no credentials for the store: "
        "The config profile (staging) could not be found; "
        "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )


def test_an_answer_that_no_retry_changes_is_told(tmp_path: Path, slept: list[float]) -> None:
    bundle, archive = archive_of(tmp_path)
    replies = in_turn(MISSING, xml_error(400, "InvalidRequest", "No such storage class."))
    with faulty_server(replies) as server, pytest.raises(StoreRefused) as caught:
        store_at(server.url, "bucket").put(bundle, archive)
    assert str(caught.value) == (
        f"s3://bucket/{bundle.filename}: the store refused the bundle: 400 `InvalidRequest`: No such storage class; "
        "check `url`, `endpoint_url` and `region` of [store]"
    )
    assert server.asked == ["HEAD", "PUT"]


def test_a_bucket_name_that_cannot_be_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path)
    with faulty_server(in_turn(MISSING)) as server, pytest.raises(StoreRefused, match="Invalid bucket name"):
        store_at(server.url, "no spaces please/x").put(bundle, archive)
    assert server.requests == []


def test_one_store_opens_one_client(moto: str, bucket: str, tmp_path: Path) -> None:
    store: Any = store_at(moto, bucket)
    assert store.client is store.client


def test_requests_go_to_the_endpoint_and_path_that_was_named(tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path)
    with faulty_server(in_turn(MISSING, Reply(200, headers={"etag": '"1"'}))) as server:
        store_at(server.url, "bucket/prefix").put(bundle, archive)
    assert [request.target for request in server.requests] == [f"/bucket/prefix/{bundle.filename}"] * 2
    assert "/us-east-1/s3/" in server.requests[0].headers["authorization"]
