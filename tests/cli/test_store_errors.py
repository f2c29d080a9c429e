"""What a user reads when the store refuses, through the command: each message whole, and the exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

import pytest

from flyte_build.backend.database import Database
from flyte_build.backend.server import Server, application
from tests.archives import noise
from tests.http_faults import Answerer, Reply, faulty_server
from tests.moto_server import ACCESS_KEY, ENVIRONMENT, moto_server
from tests.namespaces import with_small_disk
from tests.recording import RecordingServer
from tests.repository import MANIFEST, Repository, failures, small
from tests.unprivileged import bound


def with_store(folder: Path, store: str, environ: dict[str, str] | None = None) -> Repository:
    """A small repository whose manifest has these lines in its `[store]`."""
    repository = small(folder)
    repository.write("deploy.toml", f"[store]\n{store}\n{dedent(MANIFEST)}")
    repository.environ |= environ or {}
    return repository


def refused(repository: Repository, under: tuple[str, ...] = ()) -> tuple[int, dict[str, str]]:
    """Exit code and messages, with NAME for the name of the archive that was to be sent."""
    ran = repository.doit(under=under, timeout=600)
    (archive,) = (repository.folder / ".flyte-build/bundles").glob("*.tar.gz")
    return ran.code, {step: message.replace(archive.name, "NAME") for step, message in failures(ran).items()}


def told(message: str) -> tuple[int, dict[str, str]]:
    """A run whose upload failed with this message."""
    return 1, {"upload:fraud": message}


# --- what is written in the manifest


@pytest.mark.error("StoreUrlInvalid")
def test_a_url_that_holds_a_secret_is_refused_without_showing_it(tmp_path: Path) -> None:
    known = "`s3://bucket/prefix`, `gs://bucket/prefix`, `abfs://container/prefix`, `file:///folder` and `backend`"
    problem = "holds a secret or a query, which belong in the environment"
    assert refused(with_store(tmp_path, 'url = "s3://key:hunter2@bucket/x"')) == told(
        f"[store] url: `s3://***@bucket/x` {problem}; write one of {known}"
    )


@pytest.mark.error("StoreEndpointInvalid")
def test_an_endpoint_that_is_no_address_of_a_server_is_told(tmp_path: Path) -> None:
    assert refused(with_store(tmp_path, 'url = "s3://bucket"\nendpoint_url = "127.0.0.1:9000"')) == told(
        "[store] endpoint_url: `127.0.0.1:9000` is no address of a server; write `https://host:port`"
    )


# --- folders


@pytest.mark.error("StoreFolderIsAFile")
def test_a_store_that_is_a_file_is_told(tmp_path: Path) -> None:
    repository = with_store(tmp_path, 'url = "./taken"')
    repository.write("taken", "a file")
    assert refused(repository) == told(
        f"{tmp_path}/taken: the store's folder is, or is inside, a file; move it, or correct `url` of [store]"
    )


@pytest.mark.error("StoreFolderNotWritable")
def test_a_store_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    repository = with_store(tmp_path, 'url = "./closed/store"')
    (tmp_path / "closed").mkdir(mode=0o500)
    assert refused(repository, under=bound()) == told(
        f"{tmp_path}/closed/store: bundles cannot be written there: permission denied; "
        "let this user write to it, or set `url` of [store] to another place"
    )


@pytest.mark.error("StoreDiskFull")
def test_a_store_on_a_full_disk_is_told(tmp_path: Path) -> None:
    repository = with_store(tmp_path, 'url = "./store"')
    (tmp_path / "noise.bin").write_bytes(noise(64 << 10))
    repository.write("deploy.toml", repository.read("deploy.toml") + 'include = ["noise.bin"]\n')
    assert refused(repository, under=with_small_disk("store", "size=16k")) == told(
        f"file://{tmp_path}/store/NAME: the disk is full; free space there, or set `url` of [store] to another place"
    )


# --- object stores


def s3(folder: Path, endpoint: str) -> Repository:
    store = f'url = "s3://bucket/code"\nendpoint_url = "{endpoint}"\nregion = "us-east-1"'
    return with_store(folder, store, ENVIRONMENT)


def xml_error(status: int, code: str, message: str) -> Reply:
    return Reply(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode())


@pytest.mark.error("StoreCredentialsMissing")
def test_a_store_without_credentials_says_what_to_set(tmp_path: Path) -> None:
    store = 'url = "s3://bucket/code"\nregion = "us-east-1"'
    assert refused(with_store(tmp_path, store, {"AWS_EC2_METADATA_DISABLED": "true"})) == told(
        "s3://bucket/code/NAME: no credentials for the store: Unable to locate credentials; "
        "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )


@pytest.mark.error("StoreBucketMissing")
def test_a_bucket_that_is_not_there_is_named(tmp_path: Path) -> None:
    with moto_server() as url:
        assert refused(s3(tmp_path, url)) == told(
            "s3://bucket/code/NAME: there is no bucket `bucket`; create it, or correct `url` of [store]"
        )


# --- what the store answers: to S3's client, and to whoever has a signed URL


@dataclass(frozen=True)
class _SignsElsewhere:
    """Lets a control plane sign URLs of a store at `url`."""

    url: str

    async def intercept_unary(self, call_next: Any, request: Any, ctx: Any) -> Any:
        response = await call_next(request, ctx)
        if ctx.method().name == "CreateUploadLocation":
            response.signed_url = f"{self.url}/code/{request.filename}?X-Amz-Signature=0123456789abcdef"
            response.native_url = f"s3://bucket/code/{request.filename}"
        return response


@contextmanager
def signing(folder: Path, url: str) -> Iterator[Repository]:
    """A repository that deploys to a control plane whose store is at `url`."""
    with (
        closing(Database(folder / "server")) as database,
        Server(application(database, [_SignsElsewhere(url)])) as server,
    ):
        yield deploying_to(folder, server.endpoint)


def deploying_to(folder: Path, endpoint: str) -> Repository:
    repository = small(folder)
    settings = f'[flyte]\nendpoint = "{endpoint}"\ninsecure = true\n'
    repository.write("deploy.toml", settings + repository.read("deploy.toml"))
    return repository


@contextmanager
def by_s3(folder: Path, url: str) -> Iterator[Repository]:
    yield s3(folder, url)


class Case(NamedTuple):
    error: str
    """The class."""
    reply: Reply
    """What the store answers to every upload."""
    expected: str
    """The message, whole."""


UNREACHABLE = "no answer from `{url}` in 4 attempts"
ANSWERS = {
    "denied": Case(
        "StoreAccessDenied",
        xml_error(403, "AccessDenied", f"{ACCESS_KEY} may not PUT http://host/key?X-Amz-Signature=0123456789abcdef"),
        "access denied: 403 `AccessDenied`: *** may not PUT http://host/key; "
        "give the credentials in use the right to read and write there",
    ),
    "refused": Case(
        "StoreRefused",
        xml_error(400, "BadDigest", "The digest did not match."),
        "the store refused the bundle: 400 `BadDigest`: The digest did not match; "
        "check `url`, `endpoint_url` and `region` of [store]",
    ),
    "failing": Case(
        "StoreFailing",
        xml_error(503, "SlowDown", "Please reduce your request rate."),
        "the store failed 4 times: 503 `SlowDown`: Please reduce your request rate; try again later",
    ),
    "reset": Case(
        "StoreUnreachable",
        Reply(fault="reset"),
        f"{UNREACHABLE}: the connection was closed; check the network and the address",
    ),
}


def answering(reply: Reply) -> Answerer:
    """HEAD finds nothing, since an answer to it could say no more; to everything else the reply."""
    return lambda request: Reply(404) if request.method == "HEAD" else reply


@pytest.mark.parametrize("kind", [by_s3, signing], ids=["s3", "signed"])
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.error(case.error), id=name) for name, case in ANSWERS.items()]
)
def test_what_the_store_answers_is_told_without_secrets(
    case: Case, kind: Callable[[Path, str], AbstractContextManager[Repository]], tmp_path: Path
) -> None:
    with faulty_server(answering(case.reply)) as server, kind(tmp_path, server.url) as repository:
        assert refused(repository) == told(f"s3://bucket/code/NAME: {case.expected.format(url=server.url)}")


@pytest.mark.error("UploadUrlExpired")
def test_a_signed_url_that_expires_twice_is_told(tmp_path: Path) -> None:
    expired = xml_error(403, "AccessDenied", "Request has expired")
    with faulty_server(answering(expired)) as server, signing(tmp_path, server.url) as repository:
        assert refused(repository) == told(
            "s3://bucket/code/NAME: the signed URL of the backend expired before the upload was done, twice; "
            "check the clocks of the backend and of the store, or name a store with `url` of [store]"
        )
    assert server.asked == ["PUT", "PUT"]


@pytest.mark.error("UploadNameTaken")
def test_an_upload_that_somebody_changed_is_told(tmp_path: Path) -> None:
    with RecordingServer(tmp_path / "server") as server:
        repository = deploying_to(tmp_path, server.endpoint)
        assert repository.doit().code == 0
        (uploaded,) = (tmp_path / "server").rglob("*.tar.gz")
        uploaded.write_bytes(b"other bytes")
        assert repository.doit("forget", "upload:fraud").code == 0
        assert refused(repository) == told(
            "NAME: the backend holds other bytes under this name, so they were changed after an upload; "
            "remove that object from the backend's store and deploy again"
        )


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_store_that_is_silent_is_given_up(tmp_path: Path) -> None:
    """Four times a minute, which nobody can shorten: of both kinds at once."""

    def give_up(kind: Callable[[Path, str], AbstractContextManager[Repository]]) -> tuple[int, dict[str, str]]:
        folder = tmp_path / kind.__name__
        with faulty_server(answering(Reply(fault="silence"))) as server, kind(folder, server.url) as repository:
            code, messages = refused(repository)
            return code, {step: message.replace(server.url, "URL") for step, message in messages.items()}

    with ThreadPoolExecutor() as pool:
        both = list(pool.map(give_up, (by_s3, signing)))
    timed_out = "no answer from `URL` in 4 attempts: timed out; check the network and the address"
    assert both == [told(f"s3://bucket/code/NAME: {timed_out}")] * 2
