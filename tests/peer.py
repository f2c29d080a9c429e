"""The SDK's own `flyte deploy`, run against a control plane on loopback that records what it is sent.

That control plane checks nothing, so that what the SDK sends is known whatever our own one thinks of it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext
from flyteidl2.cluster import payload_pb2
from flyteidl2.cluster.service_connect import ClusterService, ClusterServiceASGIApplication
from flyteidl2.dataproxy import dataproxy_service_pb2
from flyteidl2.dataproxy.dataproxy_service_connect import DataProxyService, DataProxyServiceASGIApplication
from flyteidl2.task.task_service_connect import TaskService, TaskServiceASGIApplication
from flyteidl2.task.task_service_pb2 import DeployTaskRequest, DeployTaskResponse

from flyte_build.backend.server import Application, Receive, Scope, Send, Server

PROJECT = "flytesnacks"
DOMAIN = "development"
Context = RequestContext[Any, Any]


@dataclass(frozen=True)
class PeerBundle:
    """One uploaded object."""

    name: str
    uri: str
    content: bytes

    @property
    def md5(self) -> str:
        """In hex: what the SDK calls a bundle's computed version."""
        return hashlib.md5(self.content).hexdigest()


@dataclass(frozen=True)
class PeerDeploy:
    """What one `flyte deploy` sent."""

    requests: dict[str, DeployTaskRequest]
    """By task name; the last one, when a task was sent more than once."""
    bundles: tuple[PeerBundle, ...]
    """Each upload, in order."""
    counts: dict[str, int]
    """How often each call was made, and `PUT`."""
    stdout: str

    def bundle_of(self, task: str) -> PeerBundle | None:
        """The bundle that a task was registered with; None when it has none."""
        uri = self.requests[task].spec.task_template.metadata.code_bundle_uri
        return next((bundle for bundle in self.bundles if bundle.uri == uri), None)


class PeerFailedError(AssertionError):
    """`flyte deploy` ended with an error; says what it printed."""


def peer_deploy(project: Path, *args: str, env: Mapping[str, str] = {}) -> PeerDeploy:
    """Runs `flyte deploy *args` in a copy of `project`, with a home of its own.

    Raises:
        PeerFailedError: the command did not succeed.
    """
    record = Record()
    with tempfile.TemporaryDirectory() as tmp, Server(answering_at_once(record)) as server:
        copy, home = Path(tmp).resolve() / "project", Path(tmp).resolve() / "home"
        shutil.copytree(project, copy, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        home.mkdir()
        record.uploads_to = server.endpoint.replace("dns:///", "http://")
        command = [*flyte_command(server.endpoint), "deploy", "--project", PROJECT, "--domain", DOMAIN, *args]
        done = subprocess.run(command, cwd=copy, env=clean_environment(home, env), capture_output=True, text=True)
    if done.returncode != 0:
        raise PeerFailedError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    requests = {request.task_id.name: request for request in record.requests}
    return PeerDeploy(requests, tuple(record.bundles), dict(record.counts), done.stdout)


def flyte_command(endpoint: str) -> tuple[str, ...]:
    return (str(Path(sys.executable).with_name("flyte")), "--endpoint", endpoint, "--insecure", "--no-progress")


def clean_environment(home: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Nothing of the caller's own: no Flyte or git configuration, no caches, no telemetry."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CEILING_DIRECTORIES": str(home.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
        "COLUMNS": "200",
        **env,
    }


# --- the control plane ---------------------------------------------------------------------------------------------


@dataclass
class Record:
    """What a control plane was sent."""

    uploads_to: str = ""
    requests: list[DeployTaskRequest] = field(default_factory=list)
    bundles: list[PeerBundle] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Tasks(TaskService):  # type: ignore[misc]  # the generated classes are untyped
    record: Record

    async def deploy_task(self, request: DeployTaskRequest, ctx: Context) -> DeployTaskResponse:
        self.record.counts["DeployTask"] += 1
        self.record.requests.append(request)
        return DeployTaskResponse()


@dataclass(frozen=True)
class _Clusters(ClusterService):  # type: ignore[misc]  # the generated classes are untyped
    record: Record

    async def select_cluster(
        self, request: payload_pb2.SelectClusterRequest, ctx: Context
    ) -> payload_pb2.SelectClusterResponse:
        self.record.counts["SelectCluster"] += 1
        if request.operation == payload_pb2.SelectClusterRequest.OPERATION_UPLOAD_TRIGGER:
            raise ConnectError(Code.UNIMPLEMENTED, "trigger inputs are inline here")
        return payload_pb2.SelectClusterResponse()


@dataclass(frozen=True)
class _DataProxy(DataProxyService):  # type: ignore[misc]  # the generated classes are untyped
    record: Record

    async def create_upload_location(
        self, request: dataproxy_service_pb2.CreateUploadLocationRequest, ctx: Context
    ) -> dataproxy_service_pb2.CreateUploadLocationResponse:
        self.record.counts["CreateUploadLocation"] += 1
        key = f"bucket/{request.project}/{request.domain}/{request.content_md5.hex()}/{request.filename}"
        return dataproxy_service_pb2.CreateUploadLocationResponse(
            signed_url=f"{self.record.uploads_to}/{key}", native_url=f"s3://{key}"
        )


def answering_at_once(record: Record) -> Application:
    """A control plane that does nothing but note what it is sent."""
    services: list[Any] = [
        TaskServiceASGIApplication(_Tasks(record)),
        ClusterServiceASGIApplication(_Clusters(record)),
        DataProxyServiceASGIApplication(_DataProxy(record)),
    ]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        service = next((each for each in services if scope["path"].startswith(f"{each.path}/")), None)
        await (service(scope, receive, send) if service else _put(record, scope, receive, send))

    return app


async def _put(record: Record, scope: Scope, receive: Receive, send: Send) -> None:
    content, more = b"", True
    while more:
        message = await receive()
        content += message.get("body", b"")
        more = message.get("more_body", False)
    path = scope["path"].lstrip("/")
    record.counts["PUT"] += 1
    record.bundles.append(PeerBundle(name=path.rpartition("/")[2], uri=f"s3://{path}", content=content))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
