from __future__ import annotations

import subprocess
import sys

import pytest

from flyte_build.errors import StoreEndpointInvalid, StoreUrlInvalid, UploadNameTaken, UploadUrlExpired
from flyte_build.model import StoreSettings
from flyte_build.store import check_url, child, open_store
from flyte_build.store.redact import redact

KNOWN = (
    "write one of `s3://bucket/prefix`, `gs://bucket/prefix`, `abfs://container/prefix`, `file:///folder` and `backend`"
)


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("s3://bucket", "s3"),
        ("s3://bucket/prefix/", "s3"),
        ("gs://bucket/prefix", "gs"),
        ("abfs://container@account.dfs.core.windows.net/prefix", "abfs"),
        ("file:///folder", "file"),
        ("file:///folder?a #1 %20", "file"),
        ("backend", "backend"),
    ],
)
def test_a_url_that_names_a_store_is_accepted(url: str, scheme: str) -> None:
    assert check_url(url) == scheme


@pytest.mark.parametrize(
    ("url", "shown", "problem"),
    [
        ("", "", "is no store that is known"),
        ("bucket", "bucket", "is no store that is known"),
        ("https://host/x", "https://host/x", "is no store that is known"),
        ("az://container/x", "az://container/x", "is no store that is known"),
        ("s3:///prefix", "s3:///prefix", "names no bucket"),
        ("gs://", "gs://", "names no bucket"),
        ("file://folder", "file://folder", "is not an absolute path"),
        ("file:folder", "file:folder", "is no store that is known"),
        (
            "s3://key:hunter2@bucket/x",
            "s3://***@bucket/x",
            "holds a secret or a query, which belong in the environment",
        ),
        ("abfs://c/x?sig=hunter2", "abfs://c/x", "holds a secret or a query, which belong in the environment"),
    ],
)
def test_a_url_that_names_no_store_is_an_error_that_says_what_to_write(url: str, shown: str, problem: str) -> None:
    with pytest.raises(StoreUrlInvalid) as caught:
        open_store(StoreSettings(url=url))
    assert str(caught.value) == f"[store] url: `{shown}` {problem}; {KNOWN}"


@pytest.mark.parametrize(
    ("endpoint", "shown"),
    [
        ("127.0.0.1:9000", "127.0.0.1:9000"),
        ("s3://host", "s3://host"),
        ("http://", "http://"),
        ("http://me:hunter2@host", "http://***@host"),
    ],
)
def test_an_endpoint_that_is_no_http_address_is_an_error_that_says_what_to_write(endpoint: str, shown: str) -> None:
    with pytest.raises(StoreEndpointInvalid) as caught:
        open_store(StoreSettings(url="s3://bucket", endpoint_url=endpoint))
    assert str(caught.value) == (
        f"[store] endpoint_url: `{shown}` is no address of a server; write `https://host:port`"
    )


def test_signed_urls_without_a_backend_are_an_error() -> None:
    with pytest.raises(StoreUrlInvalid) as caught:
        open_store(StoreSettings(url="backend"))
    assert str(caught.value) == f"[store] url: `backend` needs a backend that signs URLs, and there is none; {KNOWN}"


def test_a_backend_with_other_bytes_under_the_name_says_what_to_do() -> None:
    assert str(UploadNameTaken(filename="0123.tar.gz")) == (
        "0123.tar.gz: the backend holds other bytes under this name, so they were changed after an upload; "
        "remove that object from the backend's store and deploy again"
    )


def test_a_signed_url_that_expires_twice_points_at_the_clocks() -> None:
    assert str(UploadUrlExpired(uri="s3://b/k")) == (
        "s3://b/k: the signed URL of the backend expired before the upload was done, twice; "
        "check the clocks of the backend and of the store, or name a store with `url` of [store]"
    )


@pytest.mark.parametrize("url", ["s3://bucket/prefix", "s3://bucket/prefix/"])
def test_an_object_lies_right_under_the_prefix(url: str) -> None:
    assert child(url, "0123.tar.gz") == "s3://bucket/prefix/0123.tar.gz"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("PUT https://h/b/k?X-Amz-Signature=abc&x=1 failed", "PUT https://h/b/k failed"),
        ('at "https://h/b?sig=abc": no', 'at "https://h/b": no'),
        ("the key AKIAIOSFODNN7EXAMPLE is unknown", "the key *** is unknown"),
        ("http://user:word@proxy:80 refused", "http://***@proxy:80 refused"),
        ("Credential=AKIA/2026, Signature=abc", "Credential=***, Signature=***"),
        ("X-Amz-Security-Token=abc;rest", "X-Amz-Security-Token=***;rest"),
        ("no secret: s3://bucket/key@2", "no secret: s3://bucket/key@2"),
    ],
)
def test_secrets_are_taken_out_of_foreign_text(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_no_client_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, flyte_build.store, flyte_build.store.s3, flyte_build.store.signed, "
        "flyte_build.store.object, flyte_build.store.file\n"
        "print(sorted({'boto3', 'botocore', 'httpx', 'obstore', 'google.protobuf', 'flyte'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_client_of_the_backend_is_imported_without_httpx_s_command_which_can_be_imported_after() -> None:
    code = (
        "import sys, flyte_build.sdk_client\n"
        "print('httpx' in sys.modules, 'httpx._main' in sys.modules)\n"
        "import httpx._main\n"
        "print(httpx._main.main.name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "main"]
