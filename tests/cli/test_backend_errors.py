"""What a user reads when the control plane refuses or is not there, through the command."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from connectrpc.code import Code

from tests.namespaces import apart
from tests.recording import RecordingServer
from tests.repository import Ran, Repository, environment, failures, small
from tests.unprivileged import bound

SETTINGS = '[flyte]\nendpoint = "{endpoint}"\ninsecure = true\n'


def deploying_to(folder: Path, endpoint: str) -> Repository:
    repository = small(folder)
    repository.write("deploy.toml", SETTINGS.format(endpoint=endpoint) + repository.read("deploy.toml"))
    return repository


# --- refusals


class Case(NamedTuple):
    error: str
    """The class."""
    code: Code
    """What the control plane answers for one of the target's two tasks."""
    expected: str
    """The message, after the endpoint."""


CASES = {
    "login": Case(
        "NotLoggedIn",
        Code.UNAUTHENTICATED,
        "login failed: made to fail: DeployTask; name a Flyte configuration file with valid credentials as `config` "
        "in [flyte], or set `FLYTE_API_KEY`",
    ),
    "permission": Case(
        "NotPermitted",
        Code.PERMISSION_DENIED,
        "may not register task `permission.permission_task` in `flytesnacks/development`: made to fail: DeployTask; "
        "ask for the right to deploy there, or change `project` and `domain` in [flyte]",
    ),
    "invalid": Case(
        "RequestInvalid",
        Code.INVALID_ARGUMENT,
        "cannot register task `invalid.invalid_task` in `flytesnacks/development`: invalid: made to fail: DeployTask; "
        "change what it names",
    ),
    "project": Case(
        "ResourceNotFound",
        Code.NOT_FOUND,
        "cannot register task `project.project_task` in `flytesnacks/development`: not found: made to fail: "
        "DeployTask; check `project` and `domain` in [flyte]; `flyte get project` lists what there is",
    ),
    "internal": Case(
        "BackendFailed",
        Code.INTERNAL,
        "cannot register task `internal.internal_task` in `flytesnacks/development`: internal: made to fail: "
        "DeployTask; what is registered stays registered, so run it again",
    ),
    "full": Case(  # it is asked seven times
        "BackendFailed",
        Code.RESOURCE_EXHAUSTED,
        "cannot register task `full.full_task` in `flytesnacks/development`: resource_exhausted: made to fail: "
        "DeployTask; what is registered stays registered, so run it again",
    ),
}
OTHER_TASK = "\n\n@env.task\nasync def other(amount: int) -> int:\n    return amount\n"


def registers(task: str) -> Callable[[Any], bool]:
    return lambda request: request.task_id.name == task


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ran, str]]:
    """How a run went that deployed all of the cases, and the endpoint."""
    with RecordingServer(tmp_path_factory.mktemp("server")) as server:
        repository = Repository(tmp_path_factory.mktemp("repository"))
        tables = [SETTINGS.format(endpoint=server.endpoint)]
        for name, case in CASES.items():
            server.fail("DeployTask", case.code, times=-1, when=registers(f"{name}.{name}_task"))
            repository.write(f"{name}.py", environment(name) + OTHER_TASK)
            tables.append(f'[targets.{name}]\npath = "{name}.py"\nall = true\n')
        repository.write("deploy.toml", "\n".join(tables))
        yield repository.doit(), server.endpoint


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.error(CASES[name].error)) for name in CASES])
@pytest.mark.error("TasksNotRegistered")
def test_a_task_that_is_refused_is_named_with_what_to_do(name: str, refused: tuple[Ran, str]) -> None:
    ran, endpoint = refused
    assert ran.code == 1
    assert failures(ran)[f"deploy:{name}"] == (
        f"[targets.{name}]: 1 of 2 tasks were not registered; the next run registers only what is missing\n"
        f"{endpoint}: {CASES[name].expected}"
    )


@pytest.mark.error("NotPermitted")
def test_an_upload_that_is_not_permitted_is_told(tmp_path: Path) -> None:
    with RecordingServer(tmp_path / "server") as server:
        server.fail("CreateUploadLocation", Code.PERMISSION_DENIED)
        ran = deploying_to(tmp_path, server.endpoint).doit()
    (archive,) = (tmp_path / ".flyte-build/bundles").glob("*.tar.gz")
    assert (ran.code, failures(ran)) == (
        1,
        {
            "upload:fraud": f"{server.endpoint}: may not upload `{archive.name}` in `flytesnacks/development`: made to "
            "fail: CreateUploadLocation; ask for the right to deploy there, or change `project` and `domain` in "
            "[flyte]"
        },
    )


# --- versions


@pytest.mark.error("VersionTaken")
def test_a_version_that_other_code_has_is_told_with_what_differs(repository: Repository) -> None:
    repository.write("deploy.toml", repository.read("deploy.toml") + 'copy_style = "none"\nversion = "v1"\n')
    assert repository.doit().code == 0
    repository.write("fraud.py", repository.read("fraud.py").replace("amount: int", "amount: float"))
    ran = repository.doit()
    assert (ran.code, list(failures(ran))) == (1, ["deploy:fraud"])
    assert re.sub(r"'[0-9a-f]{56}\.\.\.", "DIGEST", failures(ran)["deploy:fraud"]) == (
        "the embedded control plane: task `fraud.score` already has a version `v1` that is different; "
        "choose another version, or overwrite it with `force=true`\n"
        "  task_template.interface.inputs.variables[0].value.type.simple: 'INTEGER' -> 'FLOAT'\n"
        "  task_template.metadata.discovery_version: DIGEST -> DIGEST"
    )


def sharing(folder: Path, settings: str = "") -> Repository:
    """Two targets that register one environment, each with a bundle of its own, under one version."""
    repository = Repository(folder, {"base.py": environment("base")})
    tables = [settings]
    for name in ("a", "b"):
        repository.write(f"{name}.py", "import base\n" + environment(name, ", depends_on=[base.env]"))
        tables.append(f'[targets.{name}]\npath = "{name}.py"\nenvironment = "env"\nversion = "v1"\n')
    repository.write("deploy.toml", "\n".join(tables))
    return repository


@pytest.mark.error("VersionTaken")
def test_a_version_that_another_target_registered_is_told_with_its_name(tmp_path: Path) -> None:
    repository = sharing(tmp_path)
    assert repository.doit("deploy:a").code == 0
    ran = repository.doit("deploy:b")
    assert (ran.code, list(failures(ran))) == (1, ["deploy:b"])
    head, *differences = failures(ran)["deploy:b"].splitlines()
    assert head == (
        "the embedded control plane: task `base.base_task` already has a version `v1` that is different; `a` "
        "registered it, with a bundle of its own; leave `version` at `{content}`, or deploy what shares environments "
        "as one target"
    )
    assert any(line.startswith("  task_template.metadata.code_bundle_uri: ") for line in differences)


def test_targets_deployed_at_once_do_not_overwrite_a_version_of_each_other(tmp_path: Path) -> None:
    with RecordingServer(tmp_path / "server") as server:
        ran = sharing(tmp_path, SETTINGS.format(endpoint=server.endpoint)).doit()
        assert [request.task_id.name for request in server.requests("DeployTask")].count("base.base_task") == 1
    (message,) = failures(ran).values()
    assert ran.code == 1
    assert message.startswith(
        f"{server.endpoint}: task `base.base_task` already has a version `v1` that is different; "
    )


# --- no control plane


@pytest.mark.error("BackendUnreachable")
def test_an_endpoint_where_nobody_listens_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"dns:///localhost:{taken.getsockname()[1]}"
        ran = deploying_to(tmp_path, endpoint).doit()
    assert (ran.code, failures(ran)) == (
        1,
        {
            "upload:fraud": f"{endpoint}: no answer from a Flyte control plane: client error (Connect): tcp connect "
            "error: Connection refused (os error 111); check `endpoint` and `insecure` in [flyte], and the network"
        },
    )


@pytest.mark.error("CredentialsUnusable")
def test_an_api_key_that_is_none_is_told_without_showing_it(tmp_path: Path) -> None:
    repository = deploying_to(tmp_path, "dns:///flyte.example.com")
    repository.write("deploy.toml", repository.read("deploy.toml").replace("insecure = true\n", ""))
    repository.environ["FLYTE_API_KEY"] = "hunter2"
    ran = repository.doit()
    assert (ran.code, failures(ran)) == (
        1,
        {"upload:fraud": "FLYTE_API_KEY: it is not an API key; correct it, or unset it"},
    )


@pytest.mark.error("EmbeddedBackendUnusable")
def test_a_file_that_is_no_database_of_the_embedded_control_plane_is_told(repository: Repository) -> None:
    repository.write(".flyte-build/backend/control-plane.sqlite", "this is no database, and never was one\n" * 100)
    ran = repository.doit()
    assert (ran.code, failures(ran)) == (
        1,
        {
            "deploy:fraud": f"{repository.folder}/.flyte-build/backend: the embedded control plane cannot be used: "
            "file is not a database; make the folder writable or remove it; `doit deploy` makes a new one"
        },
    )


# --- serving


@pytest.mark.error("PortInUse")
def test_a_port_in_use_is_named(repository: Repository) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = repository.doit("serve", f"port={port}")
    assert (ran.code, failures(ran)) == (
        1,
        {
            "serve": f"127.0.0.1:{port}: the port is in use; stop the program that listens there, or choose another "
            "port: `doit serve port=NUMBER`"
        },
    )


@pytest.mark.error("CannotListen")
def test_a_port_that_the_system_keeps_for_itself_is_named(repository: Repository) -> None:
    ran = repository.doit("serve", "port=80", under=(*apart("net"), *bound()))
    assert (ran.code, failures(ran)) == (
        1,
        {"serve": "127.0.0.1:80: cannot listen: Permission denied; choose another port: `doit serve port=NUMBER`"},
    )
