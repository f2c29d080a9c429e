"""Registering on a Flyte endpoint, through the SDK's client: retries, failures, logins."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import uvicorn
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flyteidl2.auth import auth_service_connect, auth_service_pb2
from flyteidl2.cluster.payload_pb2 import SelectClusterResponse
from flyteidl2.dataproxy.dataproxy_service_pb2 import UploadInputsResponse
from flyteidl2.task.task_service_pb2 import DeployTaskRequest

from flyte_build.backend import open_backend
from flyte_build.backend.database import Database
from flyte_build.backend.remote import CONCURRENCY, RemoteBackend
from flyte_build.backend.server import Application, Receive, Scope, Send, Server, application
from flyte_build.errors import (
    BackendUnreachable,
    BuildError,
    CredentialsUnusable,
    RequestInvalid,
    UploadNameTaken,
)
from flyte_build.model import BackendSettings
from tests.recording import RecordingServer, deploy_request


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RecordingServer]:
    with RecordingServer(tmp_path / "backend") as running:
        yield running


@contextlib.contextmanager
def connected(endpoint: str, **kwargs: Any) -> Iterator[RemoteBackend]:
    with contextlib.closing(RemoteBackend(BackendSettings(endpoint=endpoint, insecure=True, **kwargs))) as backend:
        yield backend


def register(endpoint: str, *requests: DeployTaskRequest) -> tuple[list[str], dict[str, BuildError]]:
    """The names that were done, and the failures."""
    done: list[str] = []
    with connected(endpoint) as backend:
        failures = backend.register(requests, lambda request: done.append(request.task_id.name))
    return sorted(done), failures


def named(name: str) -> Any:
    return lambda request: request.task_id.name == name


# --- registering ---------------------------------------------------------------------------------------------------


def test_what_is_registered_can_be_read_back(server: RecordingServer) -> None:
    requests = [deploy_request(f"env.task{number}") for number in range(3)]
    nowhere = deploy_request("env.nowhere")

    assert register(server.endpoint, *requests) == (["env.task0", "env.task1", "env.task2"], {})

    with connected(server.endpoint) as backend:
        found = backend.find_tasks([requests[2].task_id, nowhere.task_id, requests[0].task_id])
    assert [details and details.spec for details in found] == [requests[2].spec, None, requests[0].spec]
    assert server.counts == {"DeployTask": 3, "GetTaskDetails": 3}


def test_done_is_called_in_the_callers_thread_as_each_one_is_registered(server: RecordingServer) -> None:
    seen: list[tuple[str, int]] = []
    server.fail("DeployTask", Code.UNAVAILABLE, times=3, when=named("env.slow"))
    with connected(server.endpoint) as backend:

        def done(request: DeployTaskRequest) -> None:
            assert threading.current_thread() is threading.main_thread()
            seen.append((request.task_id.name, server.count("DeployTask")))

        backend.register([deploy_request(name) for name in ("env.first", "env.slow", "env.quick")], done)

    assert [name for name, _ in seen] == ["env.first", "env.quick", "env.slow"]
    assert seen[0][1] < seen[1][1] < seen[2][1]


def test_an_error_in_done_reaches_the_caller_and_stops_the_rest(server: RecordingServer) -> None:
    requests = [deploy_request(f"env.task{number}") for number in range(CONCURRENCY * 8)]

    def done(request: DeployTaskRequest) -> None:
        raise OSError("disk full")

    with connected(server.endpoint) as backend:
        with pytest.raises(OSError, match="disk full"):
            backend.register(requests, done)
        assert backend.find_tasks([requests[0].task_id]) != [None]
    assert server.count("DeployTask") < len(requests)


def test_calls_are_made_side_by_side_but_not_without_bound(tmp_path: Path) -> None:
    crowd = _Crowd()
    with _served(tmp_path, crowd) as endpoint:
        done, failures = register(endpoint, *(deploy_request(f"env.task{number}") for number in range(100)))

    assert (len(done), failures) == (100, {})
    assert 2 < crowd.most <= CONCURRENCY


def test_a_task_that_the_control_plane_has_counts_as_registered(server: RecordingServer) -> None:
    server.fail("DeployTask", Code.ALREADY_EXISTS)

    assert register(server.endpoint, deploy_request("env.main")) == (["env.main"], {})
    assert server.count("DeployTask") == 1


def test_it_works_inside_a_running_event_loop(server: RecordingServer) -> None:
    async def main() -> tuple[list[str], dict[str, BuildError]]:
        return register(server.endpoint, deploy_request("env.main"))

    assert asyncio.run(main()) == (["env.main"], {})


def test_the_settings_choose_the_backend(server: RecordingServer, tmp_path: Path) -> None:
    backend = open_backend(BackendSettings(endpoint=server.endpoint, insecure=True), tmp_path)
    assert backend.find_tasks([deploy_request("env.main").task_id]) == [None]
    backend.close()
    backend.close()


def test_nothing_is_printed(server: RecordingServer, capfd: pytest.CaptureFixture[str]) -> None:
    server.fail("DeployTask", Code.PERMISSION_DENIED, when=named("env.bad"))
    server.fail("DeployTask", Code.UNAVAILABLE, when=named("env.slow"))
    register(server.endpoint, *map(deploy_request, ("env.bad", "env.slow", "env.good")))

    assert capfd.readouterr() == ("", "")


# --- failures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.ABORTED],
    ids=lambda code: code.value,
)
def test_a_failure_that_may_pass_is_tried_again(server: RecordingServer, code: Code) -> None:
    server.fail("DeployTask", code, times=2)

    assert register(server.endpoint, deploy_request("env.main")) == (["env.main"], {})
    assert server.count("DeployTask") == 3


CANNOT = "cannot register task `env.bad` in `flytesnacks/development`"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            Code.PERMISSION_DENIED,
            "may not register task `env.bad` in `flytesnacks/development`: made to fail: DeployTask; ask for the right "
            "to deploy there, or change `project` and `domain` in [flyte]",
        ),
        (
            Code.UNAUTHENTICATED,
            "login failed: made to fail: DeployTask; name a Flyte configuration file with valid credentials as "
            "`config` in [flyte], or set `FLYTE_API_KEY`",
        ),
        (Code.INVALID_ARGUMENT, f"{CANNOT}: invalid: made to fail: DeployTask; change what it names"),
        (
            Code.NOT_FOUND,
            f"{CANNOT}: not found: made to fail: DeployTask; check `project` and `domain` in [flyte]; "
            "`flyte get project` lists what there is",
        ),
        (
            Code.INTERNAL,
            f"{CANNOT}: internal: made to fail: DeployTask; what is registered stays registered, so run it again",
        ),
    ],
    ids=lambda value: value.value if isinstance(value, Code) else "",
)
def test_a_failure_that_will_not_pass_is_not_tried_again_and_leaves_the_rest_registered(
    server: RecordingServer, code: Code, message: str
) -> None:
    server.fail("DeployTask", code, times=-1, when=named("env.bad"))

    done, failures = register(server.endpoint, *map(deploy_request, ("env.one", "env.bad", "env.two")))

    assert done == ["env.one", "env.two"]
    assert {name: str(error) for name, error in failures.items()} == {"env.bad": f"{server.endpoint}: {message}"}
    assert server.count("DeployTask") == 3


def test_a_failure_that_does_not_pass_is_given_up(server: RecordingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flyte_build.backend.remote._FIRST_PAUSE", 0.001)
    server.fail("DeployTask", Code.RESOURCE_EXHAUSTED, times=-1)

    _, failures = register(server.endpoint, deploy_request("env.main"))

    assert str(failures["env.main"]) == (
        f"{server.endpoint}: cannot register task `env.main` in `flytesnacks/development`: resource_exhausted: "
        "made to fail: DeployTask; what is registered stays registered, so run it again"
    )
    assert server.count("DeployTask") == 7


def test_what_breaks_the_rules_is_named_field_by_field(server: RecordingServer) -> None:
    _, failures = register(server.endpoint, deploy_request("env.main", version=""))

    assert str(failures["env.main"]) == (
        f"{server.endpoint}: cannot register task `env.main` in `flytesnacks/development`: invalid: "
        "task_id.version: must be at least 1 characters; change what it names"
    )


def test_a_failure_to_read_a_task_is_an_error(server: RecordingServer) -> None:
    server.fail("GetTaskDetails", Code.INVALID_ARGUMENT)
    with connected(server.endpoint) as backend, pytest.raises(RequestInvalid) as caught:
        backend.find_tasks([deploy_request("env.main").task_id])
    assert str(caught.value) == (
        f"{server.endpoint}: cannot read task `env.main` in `flytesnacks/development`: invalid: "
        "made to fail: GetTaskDetails; change what it names"
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_a_server_that_is_down_is_an_error_for_every_task() -> None:
    endpoint = f"dns:///localhost:{_free_port()}"

    done, failures = register(endpoint, *map(deploy_request, ("env.one", "env.two")))

    assert (done, sorted(failures)) == ([], ["env.one", "env.two"])
    assert {str(error) for error in failures.values()} == {
        f"{endpoint}: no answer from a Flyte control plane: client error (Connect): tcp connect error: Connection "
        "refused (os error 111); check `endpoint` and `insecure` in [flyte], and the network"
    }


def test_a_server_that_never_answers_is_tried_for_one_task_not_for_each() -> None:
    with _Proxy(resets=1000) as proxy:
        done, failures = register(proxy.endpoint, *(deploy_request(f"env.task{number}") for number in range(200)))

    assert (done, len(failures)) == ([], 200)
    assert proxy.connections == 4


def test_a_server_that_stalls_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flyte_build.backend.remote._PATIENCE", 0.2)
    with (
        _served(tmp_path, _Stalls()) as endpoint,
        connected(endpoint) as backend,
        pytest.raises(BackendUnreachable) as caught,
    ):
        backend.create_upload_location(filename="x.tar.gz", content_md5=b"0" * 16, content_length=3)
    assert str(caught.value) == (
        f"{endpoint}: no answer from a Flyte control plane: timed out after 0.2 seconds; check `endpoint` and "
        "`insecure` in [flyte], and the network"
    )


class _Stalls:
    async def intercept_unary(self, call_next: Any, request: Any, ctx: Any) -> Any:
        await asyncio.sleep(1)
        return await call_next(request, ctx)


def test_connections_that_are_cut_off_are_made_again(server: RecordingServer) -> None:
    with _Proxy(resets=2, port=int(server.endpoint.rpartition(":")[2])) as proxy:
        assert register(proxy.endpoint, deploy_request("env.main")) == (["env.main"], {})

    assert server.count("DeployTask") == 1
    assert proxy.connections == 3


class _Proxy:
    """Resets its first connections, and hands the others on to `port`."""

    def __init__(self, *, resets: int, port: int = 0) -> None:
        self.connections = 0
        self._resets, self._port = resets, port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> _Proxy:
        self._thread.start()
        listening = asyncio.start_server(self._handle, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        self.endpoint = f"dns:///localhost:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.connections <= self._resets:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(_pump(reader, back), _pump(there, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
    writer.close()


def test_an_endpoint_of_an_unknown_scheme_is_an_error() -> None:
    with pytest.raises(BackendUnreachable) as caught:
        RemoteBackend(BackendSettings(endpoint="ftp://flyte.example.com"))
    assert str(caught.value) == (
        "ftp://flyte.example.com: no answer from a Flyte control plane: the address starts with none of `dns:///`, "
        "`https://`, `http://`; check `endpoint` and `insecure` in [flyte], and the network"
    )


# --- uploads -------------------------------------------------------------------------------------------------------


def test_an_upload_location_is_for_the_project_and_domain_of_the_settings(server: RecordingServer) -> None:
    with connected(server.endpoint, project="mine", domain="staging", org="acme") as backend:
        location = backend.create_upload_location(filename="x.tar.gz", content_md5=b"0" * 16, content_length=3)

    [sent] = server.requests("CreateUploadLocation")
    assert (sent.org, sent.project, sent.domain) == ("acme", "mine", "staging")
    assert (sent.content_length, sent.add_content_md5_metadata, sent.expires_in.seconds) == (3, True, 3600)
    assert location.native_url.endswith("/mine/staging/GAYDAMBQGAYDAMBQGAYDAMBQGA/x.tar.gz")


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (
            Code.ALREADY_EXISTS,
            UploadNameTaken,
            "x.tar.gz: the backend holds other bytes under this name, so they were changed after an upload; remove "
            "that object from the backend's store and deploy again",
        ),
        (
            Code.INVALID_ARGUMENT,
            RequestInvalid,
            "{endpoint}: cannot upload `x.tar.gz` in `flytesnacks/development`: invalid: made to fail: "
            "CreateUploadLocation; change what it names",
        ),
    ],
    ids=["taken", "invalid"],
)
def test_an_upload_location_that_is_refused_is_an_error(
    server: RecordingServer, code: Code, kind: type[BuildError], message: str
) -> None:
    server.fail("CreateUploadLocation", code)
    with connected(server.endpoint) as backend, pytest.raises(kind) as caught:
        backend.create_upload_location(filename="x.tar.gz", content_md5=b"0" * 16, content_length=3)
    assert str(caught.value) == message.format(endpoint=server.endpoint)


# --- inputs of triggers --------------------------------------------------------------------------------------------


def test_inputs_stay_in_the_trigger_when_the_backend_does_not_take_them(server: RecordingServer) -> None:
    requests = [deploy_request("env.main", triggers=2), deploy_request("env.other")]
    expected = sorted(request.SerializeToString(deterministic=True) for request in requests)

    assert register(server.endpoint, *requests) == (["env.main", "env.other"], {})

    sent = sorted(request.SerializeToString(deterministic=True) for request in server.requests("DeployTask"))
    assert sent == expected
    assert server.count("SelectCluster") == 1


def test_inputs_are_uploaded_when_the_backend_takes_them(tmp_path: Path) -> None:
    request, taker = deploy_request("env.main", triggers=2), _TakesInputs()
    before = request.SerializeToString(deterministic=True)
    with _served(tmp_path, taker) as endpoint:
        assert register(endpoint, request) == (["env.main"], {})

    [sent] = taker.deployed
    assert [trigger.spec.offloaded_input_data.uri for trigger in sent.triggers] == ["s3://inputs/0", "s3://inputs/1"]
    assert [upload.task_spec for upload in taker.uploaded] == [request.spec, request.spec]
    assert [upload.inputs for upload in taker.uploaded] == [trigger.spec.inputs for trigger in request.triggers]
    assert request.SerializeToString(deterministic=True) == before


@dataclass
class _TakesInputs:
    """Answers as a backend that keeps the inputs of triggers itself."""

    uploaded: list[Any] = field(default_factory=list)
    deployed: list[Any] = field(default_factory=list)

    async def intercept_unary(self, call_next: Any, request: Any, ctx: Any) -> Any:
        name = ctx.method().name
        if name == "SelectCluster":
            return SelectClusterResponse()
        if name == "UploadInputs":
            self.uploaded.append(request)
            number = request.inputs.literals[0].value.scalar.primitive.integer
            return UploadInputsResponse(offloaded_input_data={"uri": f"s3://inputs/{number}", "inputs_hash": "h"})
        self.deployed.append(request)
        return await call_next(request, ctx)


@dataclass
class _Crowd:
    """Counts the calls that are under way together."""

    here: int = 0
    most: int = 0

    async def intercept_unary(self, call_next: Any, request: Any, ctx: Any) -> Any:
        self.here += 1
        self.most = max(self.most, self.here)
        await asyncio.sleep(0.01)
        self.here -= 1
        return await call_next(request, ctx)


@contextlib.contextmanager
def _served(folder: Path, interceptor: Any) -> Iterator[str]:
    with (
        contextlib.closing(Database(folder)) as database,
        Server(application(database, [interceptor])) as server,
    ):
        yield server.endpoint


# --- logging in ----------------------------------------------------------------------------------------------------


@dataclass
class _Gate:
    """A control plane behind TLS and OAuth: it wants the token that its token endpoint gives for one secret."""

    database: Database
    token_endpoint: str = ""
    logins: Counter[str] = field(default_factory=Counter)

    async def intercept_unary(self, call_next: Any, request: Any, ctx: Any) -> Any:
        if ctx.request_headers().get("authorization") != "Bearer a-token":
            raise ConnectError(Code.UNAUTHENTICATED, "who are you?")
        return await call_next(request, ctx)

    def application(self) -> Application:
        inner: Any = application(self.database, [self])
        metadata: Any = auth_service_connect.AuthMetadataServiceASGIApplication(_Metadata(self))

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await (metadata if scope["path"].startswith(metadata.path) else inner)(scope, receive, send)

        return app

    async def tokens(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The token endpoint."""
        given = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Basic ")
        credentials = base64.b64decode(given).decode()
        grant = parse_qs((await receive())["body"].decode())["grant_type"]
        self.logins[credentials] += 1
        granted = (credentials, grant) == ("a-client:a-secret", ["client_credentials"])
        body = b'{"access_token": "a-token", "expires_in": 3600}' if granted else b'{"error": "invalid_client"}'
        await send({"type": "http.response.start", "status": 200 if granted else 401, "headers": []})
        await send({"type": "http.response.body", "body": body})


class _Metadata(auth_service_connect.AuthMetadataService):  # type: ignore[misc]  # the generated classes are untyped
    def __init__(self, gate: _Gate) -> None:
        self._gate = gate

    async def get_o_auth2_metadata(self, request: Any, ctx: Any) -> auth_service_pb2.GetOAuth2MetadataResponse:
        return auth_service_pb2.GetOAuth2MetadataResponse(token_endpoint=self._gate.token_endpoint)

    async def get_public_client_config(self, request: Any, ctx: Any) -> auth_service_pb2.GetPublicClientConfigResponse:
        return auth_service_pb2.GetPublicClientConfigResponse(authorization_metadata_key="authorization")


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A key, and a certificate for localhost that it signs itself."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(secret)
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(encoding))
    return folder / "key.pem", folder / "certificate.pem"


@contextlib.contextmanager
def _behind_tls(app: Application, folder: Path) -> Iterator[str]:
    key, certificate = _certificate(folder)
    config = uvicorn.Config(app, lifespan="off", log_config=None, ssl_keyfile=key, ssl_certfile=certificate, ws="none")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"dns:///localhost:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[_Gate]:
    with contextlib.closing(Database(tmp_path / "backend")) as database:
        gate = _Gate(database)
        with Server(gate.tokens) as tokens:
            gate.token_endpoint = tokens.endpoint.replace("dns:///", "http://") + "/token"
            yield gate


def _config(folder: Path, secret: str) -> str:
    (folder / "secret").write_text(f"{secret}\n")
    lines = ("admin:", f"  clientSecretLocation: {folder / 'secret'}", "  clientId: a-client")
    more = (f"  caCertFilePath: {folder / 'certificate.pem'}", "  disableKeyring: true", "  authType: ClientSecret")
    (folder / "config.yaml").write_text("\n".join((*lines, *more)))
    return str(folder / "config.yaml")


def test_client_credentials_of_a_configuration_file_log_in_once(gate: _Gate, tmp_path: Path) -> None:
    config, requests = _config(tmp_path, "a-secret"), [deploy_request(f"env.task{number}") for number in range(40)]
    with _behind_tls(gate.application(), tmp_path) as endpoint:
        backend = RemoteBackend(BackendSettings(endpoint=endpoint, config=config))
        assert backend.register(requests, lambda _: None) == {}
        found = backend.find_tasks([request.task_id for request in requests])
        backend.close()

    assert [details and details.spec for details in found] == [request.spec for request in requests]
    assert gate.logins == {"a-client:a-secret": 1}


def test_wrong_credentials_are_an_error_that_shows_no_secret(gate: _Gate, tmp_path: Path) -> None:
    config = _config(tmp_path, "hunter2")
    with _behind_tls(gate.application(), tmp_path) as endpoint:
        backend = RemoteBackend(BackendSettings(endpoint=endpoint, config=config))
        failures = backend.register([deploy_request("env.one"), deploy_request("env.two")], lambda _: None)
        backend.close()

    assert {str(error) for error in failures.values()} == {
        f'{endpoint}: login failed: Status Code (401) received from IDP: {{"error": "invalid_client"}}; name a Flyte '
        "configuration file with valid credentials as `config` in [flyte], or set `FLYTE_API_KEY`"
    }
    assert (len(failures), gate.logins) == (2, {"a-client:hunter2": 1})


def test_a_missing_file_for_the_secret_is_an_error(tmp_path: Path) -> None:
    config = _config(tmp_path, "a-secret")
    (tmp_path / "secret").unlink()
    with pytest.raises(CredentialsUnusable) as caught:
        RemoteBackend(BackendSettings(endpoint="dns:///flyte.example.com", config=config))
    assert str(caught.value) == (
        f"{config}: cannot read `{tmp_path / 'secret'}`: No such file or directory; correct the path there"
    )


def api_key(endpoint: str) -> str:
    return base64.b64encode(f"{endpoint}:a-client:a-secret:acme".encode()).decode()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("hello", "it is not an API key; correct it, or unset it"),
        (base64.b64encode(b"a:b").decode(), "it is not an API key; correct it, or unset it"),
        (
            api_key("other.example.com"),
            "it is a key of `dns:///other.example.com`, and `endpoint` is `dns:///flyte.example.com`; unset it, or set "
            "the other endpoint",
        ),
    ],
    ids=["no base64", "too short", "another endpoint's"],
)
def test_an_api_key_that_cannot_be_used_is_an_error(key: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_API_KEY", key)
    with pytest.raises(CredentialsUnusable) as caught:
        RemoteBackend(BackendSettings(endpoint="flyte.example.com"))
    assert str(caught.value) == f"FLYTE_API_KEY: {message}"


def test_an_api_key_logs_in_as_the_client_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_API_KEY", api_key("flyte.example.com"))
    with contextlib.closing(RemoteBackend(BackendSettings(endpoint="dns:///flyte.example.com"))) as backend:
        login = backend._client.session_config.auth_kwargs

    assert (login["auth_type"], login["client_id"]) == ("ClientSecret", "a-client")
    assert login["client_credentials_secret"] == "a-secret"


def test_an_api_key_is_not_sent_without_tls(server: RecordingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_API_KEY", api_key("other.example.com"))

    assert register(server.endpoint, deploy_request("env.main")) == (["env.main"], {})
