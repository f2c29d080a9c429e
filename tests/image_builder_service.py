"""A control plane with Union's image builder: the services that it needs, beside those of the embedded one.

A build is a run that ends as the test says. What a builder would read is read: `built` holds the bytes that were sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte._internal.imagebuild.remote_builder import IMAGE_TASK_DOMAIN, IMAGE_TASK_NAME, IMAGE_TASK_PROJECT
from flyte.types import TypeEngine
from flyteidl2.common import phase_pb2
from flyteidl2.core.interface_pb2 import Variable
from flyteidl2.dataproxy import dataproxy_service_connect, dataproxy_service_pb2
from flyteidl2.imagebuilder import payload_pb2 as image_pb2
from flyteidl2.imagebuilder import service_connect as image_connect
from flyteidl2.task.task_definition_pb2 import TaskIdentifier
from flyteidl2.task.task_service_pb2 import DeployTaskRequest
from flyteidl2.workflow import run_service_connect, run_service_pb2
from flyteidl2.workflow.run_definition_pb2 import ActionDetails

from flyte_build.backend import rules
from flyte_build.backend.database import Database, now
from flyte_build.backend.remote import RemoteBackend
from flyte_build.backend.server import Application, Receive, Scope, Send
from flyte_build.backend.services import DataProxy
from flyte_build.backend.task_table import deploy
from flyte_build.builders.remote import RemoteBuilder
from flyte_build.model import BackendSettings
from tests.recording import Recorder, RecordingServer

BACKEND_REGISTRY = "registry.example.com"
_TEXTS = {"spec": str, "context": str | None, "target_image": str}


@contextlib.contextmanager
def image_builder(settings: BackendSettings, **how: Any) -> Iterator[RemoteBuilder]:
    """A builder with a client of its own."""
    with contextlib.closing(RemoteBackend(settings)) as backend:
        yield RemoteBuilder(settings, backend, **how)


@dataclass(frozen=True)
class Outcome:
    """How runs end. `uri` None: with an image named after `target_image`; empty: without outputs."""

    phase: int = phase_pb2.ACTION_PHASE_SUCCEEDED
    error: str = ""
    reason: str = ""
    uri: str | None = None


@dataclass(frozen=True)
class Built:
    """What one run was given: files as the builder reads them, secrets as (group, key, how they are mounted)."""

    target_image: str
    spec: bytes
    context: bytes
    secrets: list[tuple[str, str, int]]


def builder_task(*, version: str = "v1", inputs: dict[str, Any] = _TEXTS) -> DeployTaskRequest:
    """What registers the builder."""
    task = TaskIdentifier(project=IMAGE_TASK_PROJECT, domain=IMAGE_TASK_DOMAIN, name=IMAGE_TASK_NAME, version=version)
    request = DeployTaskRequest(task_id=task)
    template = request.spec.task_template
    for name in ("project", "domain", "name", "version"):
        setattr(template.id, name, getattr(task, name))
    template.type = "python"
    template.container.image = "builder:1"
    request.spec.environment.name = IMAGE_TASK_NAME
    for name, kind in inputs.items():
        variable = Variable(type=TypeEngine.to_literal_type(kind))
        template.interface.inputs.variables.add(key=name).value.CopyFrom(variable)
    output = Variable(type=TypeEngine.to_literal_type(str))
    template.interface.outputs.variables.add(key="o0").value.CopyFrom(output)
    return request


@dataclass
class ImageBuilderServer(RecordingServer):
    """`RecordingServer` with an image builder. Further calls to count and to fail: `GetImage`, `CreateRun`, ..."""

    builder: DeployTaskRequest | None = field(default_factory=builder_task)
    """None: this control plane has no builder, but an image service."""
    images: dict[str, str] = field(default_factory=dict)
    """`REPOSITORY:TAG` -> URI, of what was built before."""
    outcome: Outcome = Outcome()
    held: threading.Event | None = None
    """Runs end no sooner than it is set."""
    interruptions: list[Literal["ends", "silent"]] = field(default_factory=list)
    """What happens to the first subscriptions to a run, after one update; a silent one ends when the next begins."""
    built: list[Built] = field(default_factory=list)

    def application(self, database: Database) -> Application:
        if self.builder is not None:
            with database.transaction() as connection:
                deploy(connection, self.builder, now())
        around, inner = [Recorder(self)], super().application(database)
        proxy = _DataProxy(database, self)
        services: tuple[Any, ...] = (
            image_connect.ImageServiceASGIApplication(_Images(self), interceptors=around),
            run_service_connect.RunServiceASGIApplication(_Runs(self, proxy), interceptors=around),
            dataproxy_service_connect.DataProxyServiceASGIApplication(proxy, interceptors=around),
        )

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            named = (service for service in services if scope["path"].startswith(f"{service.path}/"))
            await next(named, inner)(scope, receive, send)

        return app

    def uri(self) -> str:
        """Of the image that the last run gives; empty: none."""
        image = self.built[-1].target_image
        named = image if "/" in image else f"{BACKEND_REGISTRY}/{image}"
        return named if self.outcome.uri is None else self.outcome.uri


class _Images(image_connect.ImageService):  # type: ignore[misc]  # the generated classes are untyped
    def __init__(self, server: ImageBuilderServer) -> None:
        self._server = server

    async def get_image(self, request: image_pb2.GetImageRequest, _: Any) -> image_pb2.GetImageResponse:
        rules.check(request)
        uri = self._server.images.get(request.id.name)
        if uri is None:
            raise ConnectError(Code.NOT_FOUND, f"no image {request.id.name}")
        return image_pb2.GetImageResponse(image={"id": request.id, "fqin": uri})


class _DataProxy(DataProxy):
    """Keeps the inputs of runs as well, and gives their outputs."""

    def __init__(self, database: Database, server: ImageBuilderServer) -> None:
        super().__init__(database)
        self._server = server
        self.inputs: list[dataproxy_service_pb2.UploadInputsRequest] = []

    async def upload_inputs(
        self, request: dataproxy_service_pb2.UploadInputsRequest, _: Any
    ) -> dataproxy_service_pb2.UploadInputsResponse:
        rules.check(request)
        self.inputs.append(request)
        offloaded = {"uri": f"s3://inputs/{len(self.inputs) - 1}", "inputs_hash": "h"}
        return dataproxy_service_pb2.UploadInputsResponse(offloaded_input_data=offloaded)

    async def get_action_data(
        self, request: dataproxy_service_pb2.GetActionDataRequest, _: Any
    ) -> dataproxy_service_pb2.GetActionDataResponse:
        rules.check(request)
        response = dataproxy_service_pb2.GetActionDataResponse()
        if uri := self._server.uri():
            response.outputs.literals.add(name="o0").value.scalar.primitive.string_value = uri
        return response


class _Runs(run_service_connect.RunService):  # type: ignore[misc]  # the generated classes are untyped
    def __init__(self, server: ImageBuilderServer, proxy: _DataProxy) -> None:
        self._server, self._proxy = server, proxy

    async def create_run(self, request: run_service_pb2.CreateRunRequest, _: Any) -> run_service_pb2.CreateRunResponse:
        rules.check(request)
        number = int(request.offloaded_input_data.uri.removeprefix("s3://inputs/"))
        values = {literal.name: _text(literal.value) for literal in self._proxy.inputs[number].inputs.literals}
        wanted = request.task_spec.task_template.security_context.secrets
        self._server.built.append(
            Built(
                target_image=values["target_image"],
                spec=_read(values["spec"]),
                context=gzip.decompress(_read(values["context"])) if values["context"] else b"",
                secrets=[(secret.group, secret.key, secret.mount_requirement) for secret in wanted],
            )
        )
        place = {"org": request.project_id.organization, "project": request.project_id.name}
        run = {**place, "domain": request.project_id.domain, "name": f"run{len(self._server.built)}"}
        return run_service_pb2.CreateRunResponse(run={"action": {"id": {"run": run, "name": "a0"}}})

    async def watch_action_details(
        self, request: run_service_pb2.WatchActionDetailsRequest, _: Any
    ) -> AsyncIterator[run_service_pb2.WatchActionDetailsResponse]:
        rules.check(request)
        server = self._server
        server.calls.append(("WatchActionDetails", request))
        code = server.failure("WatchActionDetails", request)
        if isinstance(code, Code):
            raise ConnectError(code, "made to fail: WatchActionDetails")
        running = ActionDetails(id=request.action_id, status={"phase": phase_pb2.ACTION_PHASE_RUNNING})
        yield run_service_pb2.WatchActionDetailsResponse(details=running)
        interruption = server.interruptions.pop(0) if server.interruptions else ""
        if interruption == "ends":
            return
        subscriptions = server.count("WatchActionDetails")
        while interruption == "silent" and server.count("WatchActionDetails") == subscriptions:
            await asyncio.sleep(0.005)
        while server.held and not server.held.is_set():
            await asyncio.sleep(0.005)
        yield run_service_pb2.WatchActionDetailsResponse(details=self._ended(request))

    async def get_run_details(
        self, request: run_service_pb2.GetRunDetailsRequest, _: Any
    ) -> run_service_pb2.GetRunDetailsResponse:
        """For the SDK's own builder. As on a real control plane there is no error in it."""
        rules.check(request)
        action = {"id": {"run": request.run_id, "name": "a0"}, "status": {"phase": self._server.outcome.phase}}
        return run_service_pb2.GetRunDetailsResponse(details={"action": action})

    def _ended(self, request: run_service_pb2.WatchActionDetailsRequest) -> ActionDetails:
        outcome = self._server.outcome
        details = ActionDetails(id=request.action_id, status={"phase": outcome.phase})
        if outcome.error:
            details.error_info.message = outcome.error
        if outcome.reason:
            details.abort_info.reason = outcome.reason
        return details


def _text(literal: Any) -> str:
    inner = literal.scalar.union.value if literal.scalar.HasField("union") else literal
    return str(inner.scalar.primitive.string_value)


def _read(uri: str) -> bytes:
    return Path(uri.removeprefix("file://")).read_bytes()
