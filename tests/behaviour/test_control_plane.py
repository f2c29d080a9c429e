"""The embedded control plane, in process and served, and what the real `flyte` CLI makes of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.cluster.service_connect import ClusterServiceClientSync
from flyteidl2.common.identifier_pb2 import ProjectIdentifier, TriggerName
from flyteidl2.common.list_pb2 import Filter, ListRequest, Sort
from flyteidl2.dataproxy.dataproxy_service_connect import DataProxyServiceClientSync
from flyteidl2.dataproxy.dataproxy_service_pb2 import CreateUploadLocationRequest, CreateUploadLocationResponse
from flyteidl2.project.project_service_connect import ProjectServiceClientSync
from flyteidl2.project.project_service_pb2 import GetProjectRequest, ListProjectsRequest
from flyteidl2.task.task_definition_pb2 import TaskIdentifier, TaskName
from flyteidl2.task.task_service_connect import TaskServiceClientSync
from flyteidl2.task.task_service_pb2 import (
    DeployTaskRequest,
    GetTaskDetailsRequest,
    ListTasksRequest,
    ListVersionsRequest,
)
from flyteidl2.trigger.trigger_service_connect import TriggerServiceClientSync
from flyteidl2.trigger.trigger_service_pb2 import (
    DeleteTriggersRequest,
    GetTriggerDetailsRequest,
    ListTriggersRequest,
    UpdateTriggersRequest,
)

from flyte_build.backend import open_backend
from flyte_build.backend.database import FILE, Database
from flyte_build.backend.embedded import EmbeddedBackend
from flyte_build.backend.remote import RemoteBackend
from flyte_build.backend.server import _listener, serve
from flyte_build.errors import CannotListen, EmbeddedBackendUnusable, PortInUse, UploadsNotServed
from flyte_build.model import BackendSettings
from tests.recording import DOMAIN, PROJECT, RecordingServer, deploy_request

_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RecordingServer]:
    with RecordingServer(tmp_path / "backend") as running:
        yield running


def url(server: RecordingServer) -> str:
    return server.endpoint.replace("dns:///", "http://")


def tasks(server: RecordingServer) -> Any:
    return TaskServiceClientSync(url(server))


def triggers(server: RecordingServer) -> Any:
    return TriggerServiceClientSync(url(server))


def deploy(server: RecordingServer, *names: str, **kwargs: Any) -> None:
    for name in names:
        tasks(server).deploy_task(deploy_request(name, **kwargs))


def listed(server: RecordingServer, **kwargs: Any) -> Any:
    scope = ProjectIdentifier(name=PROJECT, domain=DOMAIN)
    return tasks(server).list_tasks(ListTasksRequest(project_id=scope, request=ListRequest(**kwargs)))


def names_in(response: Any) -> list[str]:
    return [task.task_id.name for task in response.tasks]


@contextlib.contextmanager
def refused(code: Code, message: str) -> Iterator[None]:
    with pytest.raises(ConnectError) as caught:
        yield
    assert (caught.value.code, caught.value.message) == (code, message)


# --- the CLI -------------------------------------------------------------------------------------------------------


def flyte(server: RecordingServer, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """The real CLI, with nothing of the machine's own settings."""
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "COLUMNS": "100000", "NO_COLOR": "1", "DO_NOT_TRACK": "1"}
    env |= {"PYTHONDONTWRITEBYTECODE": "1", "GIT_CEILING_DIRECTORIES": str(folder)}
    program = str(Path(sys.executable).with_name("flyte"))
    options = ["--endpoint", server.endpoint, "--insecure", "--no-progress", "--output-format", "json-raw"]
    done = subprocess.run([program, *options, *args], cwd=folder, env=env, capture_output=True, text=True)
    return subprocess.CompletedProcess(args, done.returncode, _plain(done.stdout), _plain(done.stderr))


def _plain(text: str) -> str:
    return _TERMINAL_CODES.sub("", text)


HERE = ("--project", PROJECT, "--domain", DOMAIN)


def test_the_flyte_cli_lists_tasks_that_were_registered(server: RecordingServer, tmp_path: Path) -> None:
    deploy(server, "env.first", "env.second")

    done = flyte(server, tmp_path, "get", "task", *HERE)

    assert done.returncode == 0, done.stderr
    assert {task["taskId"]["name"] for task in json.loads(done.stdout)} == {"env.first", "env.second"}


def test_the_flyte_cli_shows_one_version_of_a_task(server: RecordingServer, tmp_path: Path) -> None:
    deploy(server, "env.main", version="v7", image="there:7")

    done = flyte(server, tmp_path, "get", "task", "env.main", "v7", *HERE)

    assert done.returncode == 0, done.stderr
    assert "'image': 'there:7'" in done.stdout
    assert "'shortName': 'main'" in done.stdout


def test_the_flyte_cli_deploys_to_it_and_the_spec_can_be_read_back(server: RecordingServer, tmp_path: Path) -> None:
    source = tmp_path / "work.py"
    source.write_text(
        "import flyte\n"
        "env = flyte.TaskEnvironment('env', image='registry/image:1')\n"
        "@env.task(triggers=flyte.Trigger('nightly', flyte.Cron('0 0 * * *'), inputs={'x': 3}))\n"
        "async def main(x: int) -> int:\n"
        "    return x\n"
    )

    done = flyte(server, tmp_path, "deploy", *HERE, "work.py", "env")

    assert done.returncode == 0, done.stderr
    assert server.counts == {"SelectCluster": 2, "CreateUploadLocation": 1, "PUT": 1, "DeployTask": 1}
    [sent] = server.requests("DeployTask")
    remote = RemoteBackend(BackendSettings(endpoint=server.endpoint, insecure=True))
    [details] = remote.find_tasks([sent.task_id])
    remote.close()
    assert details is not None
    assert details.spec == sent.spec
    bundle = Path(details.spec.task_template.metadata.code_bundle_uri.removeprefix("file://"))
    assert bundle.read_bytes() == server.uploads[0][1]


def test_the_flyte_cli_lists_and_pauses_a_trigger(server: RecordingServer, tmp_path: Path) -> None:
    deploy(server, "env.main", triggers=1)

    paused = flyte(server, tmp_path, "update", "trigger", "trigger-0", "env.main", "--deactivate", *HERE)
    done = flyte(server, tmp_path, "get", "trigger", *HERE)

    assert (paused.returncode, done.returncode) == (0, 0), paused.stderr + done.stderr
    [trigger] = json.loads(done.stdout)
    assert trigger["id"]["name"]["name"] == "trigger-0"
    assert "active" not in trigger


def test_the_flyte_cli_says_that_a_task_is_not_there(server: RecordingServer, tmp_path: Path) -> None:
    done = flyte(server, tmp_path, "get", "task", "env.main", "v1", *HERE)

    assert done.returncode == 1
    assert "Task env.main, version v1 not found" in done.stderr


def test_the_flyte_cli_lists_the_default_project(server: RecordingServer, tmp_path: Path) -> None:
    done = flyte(server, tmp_path, "get", "project")

    assert done.returncode == 0, done.stderr
    [project] = json.loads(done.stdout)
    assert [domain["id"] for domain in project["domains"]] == ["development", "staging", "production"]


# --- tasks ---------------------------------------------------------------------------------------------------------


def test_a_version_registered_again_keeps_its_time_and_gets_the_new_spec(server: RecordingServer) -> None:
    key = GetTaskDetailsRequest(task_id=deploy_request("env.main").task_id)
    deploy(server, "env.main", image="old:1")
    before = tasks(server).get_task_details(key).details
    deploy(server, "env.main", image="new:1")
    after = tasks(server).get_task_details(key).details

    assert after.metadata.deployed_at == before.metadata.deployed_at
    assert (before.spec.task_template.container.image, after.spec.task_template.container.image) == ("old:1", "new:1")


def test_an_old_version_registered_again_is_not_the_latest(server: RecordingServer) -> None:
    for version in ("v1", "v2", "v1"):
        deploy(server, "env.main", version=version)

    response = listed(server)

    assert [task.task_id.version for task in response.tasks] == ["v2"]
    name = TaskName(project=PROJECT, domain=DOMAIN, name="env.main")
    versions = tasks(server).list_versions(ListVersionsRequest(task_name=name)).versions
    assert [each.version for each in versions] == ["v2", "v1"]


def test_pages_hold_every_task_once(server: RecordingServer) -> None:
    every = [f"env.task{number}" for number in range(7)]
    deploy(server, *every)

    response = listed(server, limit=3)
    pages = [names_in(response)]
    while response.token:
        response = listed(server, limit=3, token=response.token)
        pages.append(names_in(response))

    latest_first = every[::-1]
    assert pages == [latest_first[:3], latest_first[3:6], latest_first[6:]]
    assert response.metadata.total == response.metadata.filtered_total == 7


def test_the_last_full_page_has_no_token(server: RecordingServer) -> None:
    deploy(server, "env.one", "env.two")

    assert listed(server, limit=2).token == ""


def test_tasks_come_in_the_order_that_is_asked_for(server: RecordingServer) -> None:
    deploy(server, "env.b", "env.c", "env.a")

    response = listed(server, sort_by=Sort(key="name", direction=Sort.ASCENDING))

    assert names_in(response) == ["env.a", "env.b", "env.c"]


@pytest.mark.parametrize(
    ("function", "field", "values", "found"),
    [
        (Filter.EQUAL, "name", ["env.main"], ["env.main"]),
        (Filter.NOT_EQUAL, "name", ["env.main"], ["other.main", "env.Side"]),
        (Filter.CONTAINS, "name", ["env."], ["env.Side", "env.main"]),
        (Filter.CONTAINS, "name", ["side"], []),
        (Filter.CONTAINS_CASE_INSENSITIVE, "name", ["side"], ["env.Side"]),
        (Filter.ENDS_WITH, "name", [".main"], ["other.main", "env.main"]),
        (Filter.VALUE_IN, "name", ["env.main", "other.main", "x"], ["other.main", "env.main"]),
        (Filter.EQUAL, "environment", ["other"], ["other.main"]),
        (Filter.GREATER_THAN, "created_at", ["2020-01-01T00:00:00Z"], ["other.main", "env.Side", "env.main"]),
        (Filter.LESS_THAN, "created_at", ["2020-01-01T00:00:00+00:00"], []),
    ],
)
def test_filters_choose_tasks(
    server: RecordingServer, function: Filter.Function, field: str, values: list[str], found: list[str]
) -> None:
    deploy(server, "env.main", "env.Side", "other.main")

    response = listed(server, filters=[Filter(function=function, field=field, values=values)])

    assert names_in(response) == found
    assert (response.metadata.total, response.metadata.filtered_total) == (3, len(found))


def test_entry_points_can_be_listed_alone(server: RecordingServer) -> None:
    deploy(server, "env.helper")
    request = deploy_request("env.main")
    request.spec.task_template.metadata.is_entrypoint = True
    tasks(server).deploy_task(request)

    scope = ProjectIdentifier(name=PROJECT, domain=DOMAIN)
    only = [ListTasksRequest.KnownFilter(is_entrypoint=True)]
    response = tasks(server).list_tasks(ListTasksRequest(project_id=scope, known_filters=only))

    assert names_in(response) == ["env.main"]


def test_organizations_have_tasks_of_their_own(server: RecordingServer) -> None:
    ours, theirs = deploy_request("env.main", image="ours:1"), deploy_request("env.main", image="theirs:1")
    theirs.task_id.org = "theirs"
    for request in (ours, theirs):
        tasks(server).deploy_task(request)

    found = tasks(server).get_task_details(GetTaskDetailsRequest(task_id=theirs.task_id)).details

    assert found.spec == theirs.spec
    assert [task.task_id.org for task in listed(server).tasks] == ["theirs", ""]


def test_a_project_is_there_once_something_is_deployed_to_it(server: RecordingServer) -> None:
    request = deploy_request("env.main")
    request.task_id.project = "mine"
    projects = ProjectServiceClientSync(url(server))
    with refused(Code.NOT_FOUND, "there is no project `mine`"):
        projects.get_project(GetProjectRequest(id="mine"))

    tasks(server).deploy_task(request)

    assert projects.get_project(GetProjectRequest(id="mine")).project.name == "mine"
    every = projects.list_projects(ListProjectsRequest(filters="eq(state, 0)")).projects.projects
    assert [project.id for project in every] == ["flytesnacks", "mine"]
    assert not projects.list_projects(ListProjectsRequest(filters="eq(state, 1)")).projects.projects


def test_an_unknown_task_is_not_found(server: RecordingServer) -> None:
    task = TaskIdentifier(project=PROJECT, domain=DOMAIN, name="env.main", version="v1")
    with refused(Code.NOT_FOUND, "task `env.main` version `v1` is not in `flytesnacks/development`"):
        tasks(server).get_task_details(GetTaskDetailsRequest(task_id=task))


def test_a_request_that_breaks_the_rules_is_refused_with_every_field(server: RecordingServer) -> None:
    request = deploy_request("env.main", version="v" * 64, triggers=2)
    request.triggers[1].ClearField("name")
    message = "task_id.version: must be at most 63 characters; triggers[1].name: must be at least 1 characters"
    with refused(Code.INVALID_ARGUMENT, message):
        tasks(server).deploy_task(request)
    assert names_in(listed(server)) == []


def test_a_request_without_a_spec_is_refused(server: RecordingServer) -> None:
    with refused(Code.INVALID_ARGUMENT, "spec: value is required"):
        tasks(server).deploy_task(DeployTaskRequest(task_id=deploy_request("env.main").task_id))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            ListRequest(filters=[Filter(field="color", values=["red"])]),
            "`color` is not a field to filter or sort by; there are name, version, project, domain, environment, "
            "environment_name, short_name, function_name, created_at, deployed_at, updated_at",
        ),
        (ListRequest(filters=[Filter(field="name")]), "request.filters: `name` has no value"),
        (
            ListRequest(filters=[Filter(function=Filter.EXISTS, field="name")]),
            "request.filters: EXISTS is not supported",
        ),
        (
            ListRequest(filters=[Filter(function=Filter.LESS_THAN, field="created_at", values=["soon"])]),
            "request.filters: `soon` is not an ISO 8601 time",
        ),
        (ListRequest(token="x"), "request.token: `x` is not a token of this control plane"),
    ],
    ids=["field", "value", "function", "time", "token"],
)
def test_a_list_request_that_makes_no_sense_is_refused(
    server: RecordingServer, request_: ListRequest, message: str
) -> None:
    scope = ProjectIdentifier(name=PROJECT, domain=DOMAIN)
    with refused(Code.INVALID_ARGUMENT, message):
        tasks(server).list_tasks(ListTasksRequest(project_id=scope, request=request_))


def test_a_service_that_is_not_there_is_unimplemented(server: RecordingServer) -> None:
    answer = httpx.post(f"{url(server)}/flyteidl2.workflow.RunService/CreateRun")

    assert (answer.status_code, answer.text) == (404, "`/flyteidl2.workflow.RunService/CreateRun` is not served here")


def test_a_client_that_asks_for_a_cluster_gets_this_server(server: RecordingServer) -> None:
    from flyteidl2.cluster.payload_pb2 import SelectClusterRequest

    clusters = ClusterServiceClientSync(url(server))
    project = ProjectIdentifier(name=PROJECT, domain=DOMAIN)

    operation = SelectClusterRequest.OPERATION_CREATE_UPLOAD_LOCATION
    assert clusters.select_cluster(SelectClusterRequest(project_id=project, operation=operation)).cluster_endpoint == ""
    with refused(Code.UNIMPLEMENTED, "inputs of triggers are kept in the triggers"):
        operation = SelectClusterRequest.OPERATION_UPLOAD_TRIGGER
        clusters.select_cluster(SelectClusterRequest(project_id=project, operation=operation))


# --- triggers ------------------------------------------------------------------------------------------------------


def trigger_name(name: str) -> TriggerName:
    return TriggerName(project=PROJECT, domain=DOMAIN, task_name="env.main", name=name)


def active_triggers(server: RecordingServer) -> dict[str, bool]:
    scope = ProjectIdentifier(name=PROJECT, domain=DOMAIN)
    response = triggers(server).list_triggers(ListTriggersRequest(project_id=scope))
    return {each.id.name.name: each.active for each in response.triggers}


def test_a_trigger_keeps_its_inputs_and_knows_its_task(server: RecordingServer) -> None:
    deploy(server, "env.main", triggers=2)

    details = triggers(server).get_trigger_details(GetTriggerDetailsRequest(name=trigger_name("trigger-1"))).trigger

    assert details.spec.inputs == deploy_request("env.main", triggers=2).triggers[1].spec.inputs
    assert (details.id.name.task_name, details.spec.task_version, details.id.revision) == ("env.main", "v1", 1)


def test_a_task_says_which_triggers_it_has(server: RecordingServer) -> None:
    deploy(server, "env.none")
    deploy(server, "env.one", triggers=1)
    deploy(server, "env.two", triggers=2)

    summaries = {task.task_id.name: task.metadata.triggers_summary for task in listed(server).tasks}

    assert summaries["env.none"].WhichOneof("summary") is None
    assert (summaries["env.one"].details.name, summaries["env.one"].details.active) == ("trigger-0", True)
    assert (summaries["env.two"].stats.total, summaries["env.two"].stats.active) == (2, 2)


def test_deploying_again_drops_triggers_that_are_gone_but_not_the_last(server: RecordingServer) -> None:
    deploy(server, "env.main", triggers=2)
    deploy(server, "env.main", triggers=1)
    assert active_triggers(server) == {"trigger-0": True}
    deploy(server, "env.main", triggers=0)
    assert active_triggers(server) == {"trigger-0": True}


def test_deploying_again_switches_a_paused_trigger_on(server: RecordingServer) -> None:
    deploy(server, "env.main", triggers=1)
    triggers(server).update_triggers(UpdateTriggersRequest(names=[trigger_name("trigger-0")], active=False))
    assert active_triggers(server) == {"trigger-0": False}
    deploy(server, "env.main", triggers=1)
    assert active_triggers(server) == {"trigger-0": True}


def test_a_deleted_trigger_is_not_found(server: RecordingServer) -> None:
    deploy(server, "env.main", triggers=2)
    triggers(server).delete_triggers(DeleteTriggersRequest(names=[trigger_name("trigger-0")]))

    assert active_triggers(server) == {"trigger-1": True}
    with refused(Code.NOT_FOUND, "task `env.main` has no trigger `trigger-0`"):
        triggers(server).get_trigger_details(GetTriggerDetailsRequest(name=trigger_name("trigger-0")))


# --- uploads -------------------------------------------------------------------------------------------------------

CONTENT = b"the bundle"


def upload_request(content: bytes = CONTENT, **kwargs: Any) -> CreateUploadLocationRequest:
    md5 = hashlib.md5(content).digest()
    given = {"project": PROJECT, "domain": DOMAIN, "filename": "code.tar.gz", "content_md5": md5, **kwargs}
    return CreateUploadLocationRequest(**given)


def location(server: RecordingServer, request: CreateUploadLocationRequest) -> CreateUploadLocationResponse:
    answer: CreateUploadLocationResponse = DataProxyServiceClientSync(url(server)).create_upload_location(request)
    return answer


def in_xml(code: str, message: str) -> str:
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"


def stored_in(server: RecordingServer) -> list[Path]:
    return [path for path in (server.folder / "uploads").rglob("*") if path.is_file()]


def test_an_upload_is_found_where_the_native_url_says(server: RecordingServer) -> None:
    where = location(server, upload_request())

    assert httpx.put(where.signed_url, content=CONTENT).status_code == 200

    assert Path(where.native_url.removeprefix("file://")).read_bytes() == CONTENT
    assert len(stored_in(server)) == 1


def test_the_same_content_has_the_same_place_and_other_content_another(server: RecordingServer) -> None:
    first, again = location(server, upload_request()), location(server, upload_request())
    other = location(server, upload_request(b"other"))

    assert first.native_url == again.native_url != other.native_url


def test_an_upload_can_be_sent_again(server: RecordingServer) -> None:
    where = location(server, upload_request())

    assert [httpx.put(where.signed_url, content=CONTENT).status_code for _ in range(2)] == [200, 200]


def test_an_upload_of_other_content_than_signed_is_refused_and_leaves_nothing(server: RecordingServer) -> None:
    where = location(server, upload_request())

    answer = httpx.put(where.signed_url, content=b"something else")

    expected, got = hashlib.md5(CONTENT).hexdigest(), hashlib.md5(b"something else").hexdigest()
    message = f"the content is not what the URL was signed for: expected MD5 `{expected}`, got `{got}`"
    assert (answer.status_code, answer.text) == (400, in_xml("BadDigest", message))
    assert stored_in(server) == []


@pytest.mark.parametrize("change", ["signature=", "md5=", "expires=", "/uploads/"])
def test_a_forged_url_is_refused(server: RecordingServer, change: str) -> None:
    start, sign, end = location(server, upload_request()).signed_url.partition(change)

    answer = httpx.put(start + sign + "7" + end, content=CONTENT)

    message = "the signature does not match this URL, ask for a new upload location"
    assert (answer.status_code, answer.text) == (403, in_xml("AccessDenied", message))
    assert stored_in(server) == []


def test_a_url_signed_by_another_control_plane_is_refused(server: RecordingServer, tmp_path: Path) -> None:
    with RecordingServer(tmp_path / "other") as other:
        signed = location(other, upload_request()).signed_url.replace(url(other), url(server))

    assert httpx.put(signed, content=CONTENT).status_code == 403


def test_an_expired_url_is_refused(server: RecordingServer) -> None:
    request = upload_request()
    request.expires_in.FromMilliseconds(1)
    where = location(server, request)
    while time.time() < where.expires_at.seconds + 1:
        time.sleep(0.05)

    answer = httpx.put(where.signed_url, content=CONTENT)

    message = "request has expired, ask for a new upload location"
    assert (answer.status_code, answer.text) == (403, in_xml("AccessDenied", message))


def test_a_known_name_with_another_md5_is_refused(server: RecordingServer) -> None:
    late = location(server, upload_request(b"late", filename_root="root"))
    first = location(server, upload_request(filename_root="root"))
    assert httpx.put(first.signed_url, content=CONTENT).status_code == 200

    path = "flytesnacks/development/root/code.tar.gz"
    with refused(Code.ALREADY_EXISTS, f"filename: `{path}` is there with another MD5"):
        location(server, upload_request(b"other", filename_root="root"))
    answer = httpx.put(late.signed_url, content=b"late")
    assert (answer.status_code, answer.text) == (409, in_xml("Conflict", f"`{path}` is there with another MD5"))
    assert location(server, upload_request(filename_root="root")).native_url == first.native_url


@pytest.mark.parametrize("filename", ["../../up", "/absolute", "a//b", "", "a/./b", "a\\b"])
def test_a_name_that_is_not_a_plain_path_is_refused(server: RecordingServer, filename: str) -> None:
    with refused(Code.INVALID_ARGUMENT, f"filename: `{filename}` is not a plain relative path"):
        location(server, upload_request(filename=filename))


def test_a_lifetime_out_of_range_is_refused(server: RecordingServer) -> None:
    request = upload_request()
    request.expires_in.FromSeconds(3601)
    with refused(Code.INVALID_ARGUMENT, "expires_in: must be more than 0 and at most 3600 seconds"):
        location(server, request)


def test_an_md5_of_the_wrong_length_is_refused(server: RecordingServer) -> None:
    with refused(Code.INVALID_ARGUMENT, "content_md5: must be 16 bytes"):
        location(server, upload_request(content_md5=b"short"))


def test_uploads_are_made_with_put_only(server: RecordingServer) -> None:
    answer = httpx.get(location(server, upload_request()).signed_url)

    assert (answer.status_code, answer.text) == (405, "uploads are made with PUT")


# --- serving -------------------------------------------------------------------------------------------------------


def test_a_port_in_use_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse) as caught:
            serve(tmp_path, port=port)
    assert str(caught.value) == (
        f"127.0.0.1:{port}: the port is in use; stop the program that listens there, or choose another port: "
        "`doit serve port=NUMBER`"
    )


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("127.0.0.1", 70000, "a port is a number from 0 to 65535"),
        ("192.0.2.1", 0, "Cannot assign requested address"),
    ],
)
def test_an_address_that_cannot_be_had_is_an_error(tmp_path: Path, host: str, port: int, reason: str) -> None:
    with pytest.raises(CannotListen) as caught:
        serve(tmp_path, host=host, port=port)
    assert str(caught.value) == (
        f"{host}:{port}: cannot listen: {reason}; choose another port: `doit serve port=NUMBER`"
    )


def test_an_answer_is_not_held_back_until_the_client_acknowledges_its_first_half() -> None:
    with _listener("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_ctrl_c_ends_serving_without_a_trace(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from flyte_build.backend.server import serve\n"
        "serve(Path(sys.argv[1]), port=0, ready=lambda endpoint: print(endpoint, flush=True))\n"
        "print('done')"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        endpoint = process.stdout.readline().strip()
        client = TaskServiceClientSync(endpoint.replace("dns:///", "http://"))
        client.deploy_task(deploy_request("env.main"))  # which leaves a connection open
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "done\n", "")


# --- in process ----------------------------------------------------------------------------------------------------


def test_in_process_and_served_are_one_control_plane(tmp_path: Path) -> None:
    settings = BackendSettings()
    backend = open_backend(settings, tmp_path)
    done: list[str] = []
    assert (
        backend.register([deploy_request("env.main", triggers=1)], lambda request: done.append(request.task_id.name))
        == {}
    )
    with RecordingServer(tmp_path / "backend") as server:
        deploy(server, "env.other")
        assert names_in(listed(server)) == ["env.other", "env.main"]
        assert active_triggers(server) == {"trigger-0": True}
    found = backend.find_tasks([deploy_request(name).task_id for name in ("env.other", "env.nope", "env.main")])
    backend.close()

    assert done == ["env.main"]
    assert [details and details.task_id.name for details in found] == ["env.other", None, "env.main"]


def test_in_process_one_task_that_is_invalid_leaves_the_rest_registered(tmp_path: Path) -> None:
    backend = EmbeddedBackend(tmp_path)
    requests = [deploy_request("env.good"), deploy_request("env.bad", version=""), deploy_request("env.fine")]
    done: list[str] = []

    failures = backend.register(requests, lambda request: done.append(request.task_id.name))

    assert done == ["env.good", "env.fine"]
    assert {name: str(error) for name, error in failures.items()} == {
        "env.bad": "embedded control plane: cannot register task `env.bad` in `flytesnacks/development`: invalid: "
        "task_id.version: must be at least 1 characters; change what it names"
    }
    assert [bool(details) for details in backend.find_tasks([each.task_id for each in requests])] == [True, False, True]


def test_in_process_there_are_no_signed_urls(tmp_path: Path) -> None:
    with pytest.raises(UploadsNotServed) as caught:
        EmbeddedBackend(tmp_path).create_upload_location(filename="x", content_md5=b"", content_length=0)
    assert str(caught.value) == (
        f"{tmp_path}: the embedded control plane takes uploads only when it is served; set `url` in [store] to a "
        "`file://` folder, or `endpoint` in [flyte] to that of `doit serve`"
    )


def _register_some(folder: Path, worker: int) -> None:
    backend = EmbeddedBackend(folder)
    for number in range(10):
        backend.register([deploy_request(f"env{worker}.task{number}")], lambda _: None)
    backend.close()


def test_processes_share_the_file_from_its_first_moment_on(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_register_some, args=(tmp_path, number)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    every = [deploy_request(f"env{worker}.task{number}").task_id for worker in range(4) for number in range(10)]
    assert None not in EmbeddedBackend(tmp_path).find_tasks(every)


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    backend = EmbeddedBackend(tmp_path)
    with contextlib.suppress(KeyboardInterrupt), backend._database.transaction() as connection:
        connection.execute("INSERT INTO secrets VALUES ('x', 'y')")
        raise KeyboardInterrupt
    with backend._database.reading() as connection:
        assert connection.execute("SELECT COUNT(*) FROM secrets").fetchone()[0] == 1


def test_only_its_owner_can_read_the_file_that_holds_the_secret(tmp_path: Path) -> None:
    Database(tmp_path).close()

    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


MEND = "make the folder writable or remove it; `doit deploy` makes a new one"


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database" * 1000)
    with pytest.raises(EmbeddedBackendUnusable) as caught:
        EmbeddedBackend(tmp_path)
    assert str(caught.value) == f"{tmp_path}: the embedded control plane cannot be used: file is not a database; {MEND}"


def test_a_file_of_a_newer_release_is_an_error(tmp_path: Path) -> None:
    Database(tmp_path).close()
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(EmbeddedBackendUnusable) as caught:
        EmbeddedBackend(tmp_path)
    reason = "made by a newer flyte_build (schema 9, this one knows 2)"
    assert str(caught.value) == f"{tmp_path}: the embedded control plane cannot be used: {reason}; {MEND}"


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "backend"
    with pytest.raises(EmbeddedBackendUnusable) as caught:
        EmbeddedBackend(folder)
    reason = f"[Errno 20] Not a directory: '{folder}'"
    assert str(caught.value) == f"{folder}: the embedded control plane cannot be used: {reason}; {MEND}"
