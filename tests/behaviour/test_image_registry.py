"""A registry is asked whether it has an image: there, absent or unknown, and unknown is never taken for either."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from pathlib import Path

import pytest

from flyte_build.builders.registry import Absent, Answer, Elsewhere, Found, Registries, Unknown
from flyte_build.images.references import parse
from tests.http_faults import Answerer, Reply, Request, faulty_server, in_turn

DIGEST = "sha256:" + "ab" * 32
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def ask(uri: str, slept: list[float] | None = None) -> Answer:
    """What a run that asks nothing else is told."""
    with contextlib.closing(Registries((slept if slept is not None else []).append)) as registries:
        return registries.ask(parse(uri))


def told(answer: Answerer, slept: list[float] | None = None) -> tuple[Answer, list[Request]]:
    """What is made of a registry that answers so, and what it was asked."""
    with faulty_server(answer) as server:
        host = server.url.removeprefix("http://")
        found = ask(f"{host}/acme/app:v1", slept)
        return found, list(server.requests)


def index(*platforms: dict[str, str]) -> Reply:
    body = json.dumps({"manifests": [{"platform": platform} for platform in platforms]})
    return Reply(200, body.encode(), {"content-type": INDEX, "docker-content-digest": DIGEST})


def single(request: Request) -> Reply:
    """A registry with an image for one platform."""
    if "/blobs/" in request.target:
        return Reply(200, json.dumps({"os": "linux", "architecture": "amd64"}).encode())
    body = json.dumps({"config": {"digest": "sha256:cd"}}).encode()
    return Reply(200, body, {"content-type": MANIFEST, "docker-content-digest": DIGEST})


def refusing(status: int, code: str, message: str) -> Answerer:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return in_turn(Reply(status, body, {"content-type": "application/json"}))


def with_tokens(url: str, tokens: Answerer, request: Request) -> Reply:
    """A registry with an image for whoever has the token `t0`, and what gives out its tokens."""
    if request.target.startswith("/token"):
        return tokens(request)
    if request.headers.get("authorization") != "Bearer t0":
        return Reply(401, b"", {"www-authenticate": f'Bearer realm="{url}/token"'})
    return index({"os": "linux", "architecture": "amd64"})


def test_an_image_for_several_platforms_is_found_with_its_digest() -> None:
    arm = {"os": "linux", "architecture": "arm64", "variant": "v8"}
    found, requests = told(in_turn(index({"os": "linux", "architecture": "amd64"}, arm, {"os": "unknown"})))
    assert found == Found(digest=DIGEST, platforms=("linux/amd64", "linux/arm64"))
    assert [request.target for request in requests] == ["/v2/acme/app/manifests/v1"]


def test_an_image_for_one_platform_is_found_with_the_platform_of_its_configuration() -> None:
    found, requests = told(single)
    assert found == Found(digest=DIGEST, platforms=("linux/amd64",))
    assert [request.target for request in requests][1:] == ["/v2/acme/app/blobs/sha256:cd"]


def test_an_image_that_the_registry_does_not_know_is_absent() -> None:
    assert told(refusing(404, "MANIFEST_UNKNOWN", "manifest unknown"))[0] == Absent()


NO_SUCH_IMAGE = {
    "distribution": b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"v1"}}]}',
    "no-such-repository": b'{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}',
    "own-codes": b'{"errors":[{"code":"NOT_FOUND","message":"artifact acme/app:v1 not found"}]}',
    "numbers-for-codes": b'{"errors":[{"status":404,"message":"Not found"}]}',
}


@pytest.mark.parametrize("body", NO_SUCH_IMAGE.values(), ids=NO_SUCH_IMAGE)
def test_what_registries_say_of_an_image_that_they_do_not_have_is_absent(body: bytes) -> None:
    answer, requests = told(in_turn(Reply(404, body, {"content-type": "text/plain"})))
    assert (answer, len(requests)) == (Absent(), 1)


def test_a_404_with_the_header_of_registries_is_absent_whatever_its_body() -> None:
    page = Reply(404, b"<html>", {"content-type": "text/html", "docker-distribution-api-version": "registry/2.0"})
    answer, requests = told(in_turn(page))
    assert (answer, len(requests)) == (Absent(), 1)


@pytest.mark.parametrize(
    "root", [Reply(200, b"{}"), Reply(200), Reply(401, b"", {"www-authenticate": "Basic"})], ids=["json", "bare", "401"]
)
def test_a_bare_404_of_a_server_with_a_registry_s_root_is_absent(root: Reply) -> None:
    answer, requests = told(lambda request: root if request.target == "/v2/" else Reply(404))
    assert answer == Absent()
    assert [request.target for request in requests][:2] == ["/v2/acme/app/manifests/v1", "/v2/"]


PAGE = {"content-type": "text/html; charset=utf-8"}
NO_REGISTRY = {
    "nothing-there": (Reply(404, b"<html>no such page</html>", PAGE), Reply(404, b"", PAGE), "404 and text/html"),
    "sign-in": (Reply(404, b"<html>no such page</html>", PAGE), Reply(200, b"<html>", PAGE), "404 and text/html"),
    "another-api": (
        Reply(404, b'{"detail": "Not Found"}', {"content-type": "application/json"}),
        Reply(404, b'{"detail": "Not Found"}'),
        "404 and application/json",
    ),
    "bare": (Reply(404), Reply(404), "404 and nothing"),
    "a-list": (Reply(404, b"[]"), Reply(404), "404 and something of no kind"),
}


@pytest.mark.parametrize(("page", "root", "said"), NO_REGISTRY.values(), ids=NO_REGISTRY)
def test_a_404_of_what_is_no_registry_is_not_taken_for_no_such_image(page: Reply, root: Reply, said: str) -> None:
    answer, requests = told(lambda request: root if request.target == "/v2/" else page)
    host = requests[0].headers["host"]
    assert answer == Elsewhere(address=f"http://{host}/v2/acme/app/manifests/v1", said=said)


def test_many_images_are_asked_for_over_one_connection_and_one_login(login: Path) -> None:
    def answer(request: Request) -> Reply:
        if request.target.startswith("/token"):
            return Reply(200, b'{"token": "t0"}')
        if request.headers.get("authorization") != "Bearer t0":
            return Reply(401, b"", {"www-authenticate": f'Bearer realm="{server.url}/token",service="s"'})
        return index({"os": "linux", "architecture": "amd64"})

    with faulty_server(answer) as server, contextlib.closing(Registries()) as registries:
        host = server.url.removeprefix("http://")
        logged_in(login, host)
        for tag in ("v1", "v2", "v3"):
            assert isinstance(registries.ask(parse(f"{host}/acme/app:{tag}")), Found)
            login.unlink(missing_ok=True)  # it was read once
        targets = [request.target.partition("?")[0] for request in server.requests]
    assert targets == [
        *("/v2/acme/app/manifests/v1", "/token", "/v2/acme/app/manifests/v1"),
        *("/v2/acme/app/manifests/v2", "/v2/acme/app/manifests/v3"),
    ]
    assert server.connections == 1


def test_a_login_that_is_refused_is_tried_once_for_each_repository(login: Path) -> None:
    def answer(request: Request) -> Reply:
        if request.target.startswith("/token"):
            return Reply(401, b'{"errors": [{"message": "wrong password"}]}')
        return Reply(401, b"", {"www-authenticate": f'Bearer realm="{server.url}/token"'})

    with faulty_server(answer) as server, contextlib.closing(Registries()) as registries:
        host = server.url.removeprefix("http://")
        logged_in(login, host)
        images = [f"{host}/acme/{name}:{tag}" for name in ("one", "two") for tag in ("v1", "v2", "v3")]
        answers = {registries.ask(parse(image)) for image in images}
        tokens = [request for request in server.requests if request.target.startswith("/token")]
    assert answers == {Unknown(reason="it refuses the login: 401 wrong password")}
    assert len(tokens) == 2


def test_a_password_that_is_refused_is_sent_once_for_each_repository(login: Path) -> None:
    challenge = in_turn(Reply(401, b"", {"www-authenticate": 'Basic realm="registry"'}))
    with faulty_server(challenge) as server, contextlib.closing(Registries()) as registries:
        host = server.url.removeprefix("http://")
        logged_in(login, host)
        images = [f"{host}/acme/{name}:{tag}" for name in ("one", "two") for tag in ("v1", "v2", "v3")]
        answers = {registries.ask(parse(image)) for image in images}
        sent = [request for request in server.requests if "authorization" in request.headers]
    assert answers == {Unknown(reason="401 Unauthorized")}
    assert len(sent) == 2


@pytest.mark.parametrize("known", [False, True], ids=["nobody", "somebody"])
def test_a_repository_that_one_may_not_get_a_token_for_leaves_the_others_readable(login: Path, known: bool) -> None:
    def tokens(request: Request) -> Reply:
        return Reply(401) if "secret" in request.target else Reply(200, b'{"token": "t0"}')

    with (
        faulty_server(lambda request: with_tokens(server.url, tokens, request)) as server,
        contextlib.closing(Registries()) as registries,
    ):
        host = server.url.removeprefix("http://")
        if known:
            logged_in(login, host)
        found = [registries.ask(parse(f"{host}/acme/{name}:v1")) for name in ("secret", "secret", "public")]
        asked = [request for request in server.requests if request.target.startswith("/token")]
    assert found[0] == found[1] == Unknown(reason="it refuses the login: 401 Unauthorized")
    assert isinstance(found[2], Found)
    assert len(asked) == 2


def test_a_repository_that_a_password_may_not_read_leaves_the_others_readable(login: Path) -> None:
    def answer(request: Request) -> Reply:
        if "authorization" not in request.headers or "secret" in request.target:
            return Reply(401, b"", {"www-authenticate": 'Basic realm="registry"'})
        return index({"os": "linux", "architecture": "amd64"})

    with faulty_server(answer) as server, contextlib.closing(Registries()) as registries:
        host = server.url.removeprefix("http://")
        logged_in(login, host)
        names = ("acme/before", "secret/app", "acme/after", "acme/before")
        before, secret, *after = (registries.ask(parse(f"{host}/{name}:v1")) for name in names)
    assert secret == Unknown(reason="401 Unauthorized")
    assert isinstance(before, Found)
    assert after == [before, before]


@pytest.mark.parametrize("more", [{}, {"identitytoken": "refresh-me"}], ids=["password", "identity"])
@pytest.mark.parametrize("status", [408, 429, 503])
def test_a_token_service_that_recovers_is_asked_again(login: Path, status: int, more: dict[str, str]) -> None:
    slept: list[float] = []
    tokens = in_turn(Reply(status), Reply(fault="reset"), Reply(200, b'{"token": "t0"}'))
    with (
        faulty_server(lambda request: with_tokens(server.url, tokens, request)) as server,
        contextlib.closing(Registries(slept.append)) as registries,
    ):
        host = server.url.removeprefix("http://")
        logged_in(login, host, **more)
        assert isinstance(registries.ask(parse(f"{host}/acme/app:v1")), Found)
    assert slept == [0.5, 1.0]


def test_a_token_service_that_keeps_failing_is_not_taken_for_a_refused_login() -> None:
    slept: list[float] = []
    tokens = in_turn(*[Reply(503)] * 4, Reply(200, b'{"token": "t0"}'))
    with (
        faulty_server(lambda request: with_tokens(server.url, tokens, request)) as server,
        contextlib.closing(Registries(slept.append)) as registries,
    ):
        host = server.url.removeprefix("http://")
        first, second = (registries.ask(parse(f"{host}/acme/app:{tag}")) for tag in ("v1", "v2"))
    assert first == Unknown(reason="what gives out its tokens fails: 503 Service Unavailable")
    assert slept == [0.5, 1.0, 2.0]
    assert isinstance(second, Found)


@pytest.mark.parametrize("realm", ["http://host:port/token", "http://host\x01/"])
def test_a_place_to_log_in_at_that_is_no_url_is_unknown(realm: str) -> None:
    answer, _ = told(in_turn(Reply(401, b"", {"www-authenticate": f'Bearer realm="{realm}"'})))
    assert answer == Unknown(reason="what it answers is not what a registry says")


def test_a_token_that_a_long_build_has_outlived_is_asked_for_again() -> None:
    tokens = iter("01")

    def answer(request: Request) -> Reply:
        if request.target.startswith("/token"):
            return Reply(200, json.dumps({"token": next(tokens)}).encode())
        good = "Bearer 1" if request.target.endswith("/v2") else "Bearer 0"
        if request.headers.get("authorization") != good:
            return Reply(401, b"", {"www-authenticate": f'Bearer realm="{server.url}/token"'})
        return index({"os": "linux", "architecture": "amd64"})

    with faulty_server(answer) as server, contextlib.closing(Registries()) as registries:
        host = server.url.removeprefix("http://")
        asked = [registries.ask(parse(f"{host}/acme/app:{tag}")) for tag in ("v1", "v2")]
    assert all(isinstance(answer, Found) for answer in asked)


def test_a_registry_that_did_not_answer_is_not_waited_for_again() -> None:
    slept: list[float] = []
    with faulty_server(in_turn(Reply(fault="reset"))) as server:
        registries = Registries(slept.append)
        host = server.url.removeprefix("http://")
        first, second = (registries.ask(parse(f"{host}/acme/app:{tag}")) for tag in ("v1", "v2"))
        registries.close()
        assert (first, len(server.requests)) == (second, 4)
    assert isinstance(first, Unknown)


def test_a_manifest_whose_content_is_gone_is_absent() -> None:
    manifest = Reply(200, json.dumps({"config": {"digest": "sha256:cd"}}).encode(), {"content-type": MANIFEST})
    assert told(in_turn(manifest, Reply(404)))[0] == Absent()


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_login_is_unknown(status: int) -> None:
    answer, _ = told(refusing(status, "DENIED", "requested access to the resource is denied"))
    assert isinstance(answer, Unknown)
    assert "denied" in answer.reason or "login" in answer.reason


def test_a_server_that_keeps_failing_is_unknown_after_four_attempts() -> None:
    slept: list[float] = []
    answer, requests = told(refusing(503, "UNAVAILABLE", "try later"), slept)
    assert answer == Unknown(reason="503 try later")
    assert len(requests) == 4
    assert slept == [0.5, 1.0, 2.0]


def test_a_server_that_recovers_is_believed() -> None:
    found, _ = told(in_turn(Reply(502), Reply(fault="reset"), index({"os": "linux", "architecture": "amd64"})))
    assert found == Found(digest=DIGEST, platforms=("linux/amd64",))


def test_a_registry_that_is_down_is_unknown() -> None:
    with faulty_server(in_turn(Reply(200))) as server:
        host = server.url.removeprefix("http://")
    answer = ask(f"{host}/acme/app:v1")
    assert isinstance(answer, Unknown)
    assert answer.reason.startswith("it cannot be reached: ")


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"[]", b'{"schemaVersion": 1}', b'{"manifests": 1}'])
def test_an_answer_that_no_registry_gives_is_unknown(body: bytes) -> None:
    answer, _ = told(in_turn(Reply(200, body)))
    assert answer == Unknown(reason="what it answers is not what a registry says")


def test_a_registry_that_does_not_say_a_digest_has_that_of_the_manifest() -> None:
    body = b'{"manifests": [{"platform": {"os": "linux", "architecture": "amd64"}}]}'
    found, _ = told(in_turn(Reply(200, body, {"content-type": INDEX})))
    assert found == Found(digest=f"sha256:{hashlib.sha256(body).hexdigest()}", platforms=("linux/amd64",))


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Docker's own file, empty."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


def logged_in(file: Path, host: str, **more: str) -> None:
    auth = base64.b64encode(b"me:secret").decode()
    file.write_text(json.dumps({"auths": {host: {"auth": auth, **more}}}))


def test_a_registry_with_basic_login_is_given_the_login_that_docker_keeps(login: Path) -> None:
    def answer(request: Request) -> Reply:
        given = request.headers.get("authorization", "")
        if given != "Basic " + base64.b64encode(b"me:secret").decode():
            return Reply(401, b"", {"www-authenticate": 'Basic realm="registry"'})
        return single(request)

    with faulty_server(answer) as server:
        host = server.url.removeprefix("http://")
        reference = f"{host}/acme/app:v1"
        refused = ask(reference)
        logged_in(login, host)
        assert ask(reference) == Found(digest=DIGEST, platforms=("linux/amd64",))
    assert refused == Unknown(reason="401 Unauthorized")


@pytest.mark.parametrize(("more", "method"), [({}, "GET"), ({"identitytoken": "refresh-me"}, "POST")])
def test_a_registry_with_tokens_is_asked_with_one_that_its_own_login_server_gives(
    login: Path, more: dict[str, str], method: str
) -> None:
    def answer(request: Request) -> Reply:
        if request.target.startswith("/token"):
            good = (
                b"refresh_token=refresh-me" in request.body
                if method == "POST"
                else "scope=repository%3Aacme%2Fapp%3Apull" in request.target and "authorization" in request.headers
            )
            return Reply(200, b'{"token": "t0"}') if good and request.method == method else Reply(401)
        if request.headers.get("authorization") != "Bearer t0":
            realm = f'Bearer realm="{server.url}/token",service="s",scope="repository:acme/app:pull"'
            return Reply(401, b"", {"www-authenticate": realm})
        return single(request)

    with faulty_server(answer) as server:
        host = server.url.removeprefix("http://")
        logged_in(login, host, **more)
        assert ask(f"{host}/acme/app:v1") == Found(digest=DIGEST, platforms=("linux/amd64",))


def test_a_login_that_cannot_be_read_is_unknown(login: Path) -> None:
    challenge = Reply(401, b"", {"www-authenticate": 'Basic realm="registry"'})
    login.write_text('{"credsStore": "no-such-helper"}')
    answer, _ = told(in_turn(challenge))
    assert isinstance(answer, Unknown)
    assert answer.reason.startswith("the login that Docker keeps for it cannot be read: ")


def test_a_keychain_that_cannot_be_read_is_asked_once(
    login: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-broken"
    helper.write_text(f"#!/bin/sh\necho asked >> '{tmp_path}/asked'\necho locked\nexit 1\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    login.write_text('{"credsStore": "broken"}')
    challenge = in_turn(Reply(401, b"", {"www-authenticate": 'Basic realm="registry"'}))
    with faulty_server(challenge) as server, contextlib.closing(Registries()) as registries:
        host = server.url.removeprefix("http://")
        answers = {registries.ask(parse(f"{host}/acme/{name}:v1")) for name in ("one", "two")}
    (answer,) = answers
    assert isinstance(answer, Unknown)
    assert answer.reason.startswith("the login that Docker keeps for it cannot be read: ")
    assert (tmp_path / "asked").read_text().split() == ["asked"]


def test_a_challenge_of_another_kind_is_unknown() -> None:
    answer, _ = told(in_turn(Reply(401, b"", {"www-authenticate": "Negotiate"})))
    assert answer == Unknown(reason="it asks for a login of a kind that is not known")
