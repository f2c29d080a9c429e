"""Google and Azure as a shared cache: objects are created by conditional puts, and read."""

from __future__ import annotations

import json
import os

import pytest

from flyte_build.cache.client import Client
from flyte_build.model import CacheSettings
from tests.http_faults import Reply, Request, faulty_server

GOOGLE, AZURE = "gs://bucket/prefix", "abfs://container@account.dfs.core.windows.net/prefix"
UNSIGNED = {"gcs_base_url": "", "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
ENVIRON = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("GOOGLE", "AZURE"))},
    "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(UNSIGNED),
    "AZURE_STORAGE_ACCOUNT_KEY": "c2VjcmV0LWtleS1vZi1hbi1hY2NvdW50",
    "NO_PROXY": "*",
}
FACTS = {"etag": '"1"', "last-modified": "Fri, 31 Dec 1999 23:59:59 GMT"}


class Objects:
    """Objects over HTTP as both keep them, with their conditions on what is written."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def __call__(self, request: Request) -> Reply:
        name = request.target.partition("?")[0]
        if request.method == "GET":
            return Reply(200, self.held[name], FACTS) if name in self.held else Reply(404)
        only_new = request.headers.get("x-goog-if-generation-match") == "0" or (
            request.headers.get("if-none-match") == "*"
        )
        if name in self.held and only_new:
            return Reply(412 if "x-goog-if-generation-match" in request.headers else 409)
        self.held[name] = request.body
        return Reply(201, headers={"etag": '"1"'})


@pytest.mark.parametrize("url", [GOOGLE, AZURE])
def test_an_object_is_created_once_and_read(url: str) -> None:
    with faulty_server(Objects()) as server:
        client = Client(CacheSettings(url=url, endpoint_url=server.url), ENVIRON)
        client.create({"a/b": b"first"})
        client.create({"a/b": b"second"})
        assert client.get(["a/b", "a/c"]) == {"a/b": b"first"}
        assert client.trouble is None
        client.close()


@pytest.mark.parametrize("url", [GOOGLE, AZURE])
def test_a_refusal_is_told_without_the_signature(url: str) -> None:
    with faulty_server(lambda _: Reply(403, b"<Error><Code>Denied</Code>sig=hunter2</Error>")) as server:
        client = Client(CacheSettings(url=url, endpoint_url=server.url), ENVIRON)
        assert client.get(["a/b"]) == {}
        assert client.trouble is not None
        assert client.trouble.message == (
            f"{url}: the shared cache cannot be used: it answered 403 `Denied`; check [cache] and the access to it"
        )
        assert client.get(["a/b"]) == {}  # and is not asked again
    assert len(server.requests) == 1


def test_a_cache_without_credentials_is_told() -> None:
    environ = {name: value for name, value in ENVIRON.items() if not name.startswith("AZURE")}
    client = Client(CacheSettings(url="abfs://container/prefix"), environ)
    assert client.items("v1/") == ()
    assert client.trouble is not None
    assert "the shared cache cannot be used: " in client.trouble.message
    assert "Account must be specified" in client.trouble.message
