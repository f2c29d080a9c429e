"""The embedded control plane, served, with a record of what it is sent and failures on demand."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import unquote

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext
from flyteidl2.task.common_pb2 import TriggerAutomationSpecType
from flyteidl2.task.task_definition_pb2 import TaskIdentifier
from flyteidl2.task.task_service_pb2 import DeployTaskRequest

from flyte_build.backend import uploads
from flyte_build.backend.database import Database
from flyte_build.backend.server import Application, Receive, Scope, Send, Server, application

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Server = TypeVar("_Server", bound="RecordingServer")

PROJECT, DOMAIN = "flytesnacks", "development"

PUT = "PUT"
"""The name under which an upload is counted, and made to fail, beside the remote calls."""


def deploy_request(name: str, *, version: str = "v1", image: str = "image:1", triggers: int = 0) -> DeployTaskRequest:
    """What registers a small task, `ENVIRONMENT.FUNCTION` by name, with so many triggers that have an input."""
    task_id = TaskIdentifier(project=PROJECT, domain=DOMAIN, name=name, version=version)
    request = DeployTaskRequest(task_id=task_id)
    request.spec.task_template.container.image = image
    request.spec.environment.name = name.partition(".")[0]
    for number in range(triggers):
        trigger = request.triggers.add(name=f"trigger-{number}")
        trigger.spec.active = True
        trigger.spec.inputs.literals.add(name="x").value.scalar.primitive.integer = number
        trigger.automation_spec.type = TriggerAutomationSpecType.TYPE_NONE
    return request


@dataclass
class _Failure:
    call: str
    code: Code | int
    times: int
    when: Callable[[Any], bool]


@dataclass
class RecordingServer:
    """A control plane in `folder`: `with RecordingServer(folder) as server: ... server.count("DeployTask")`.

    Failed calls are recorded too. It keeps its tasks and uploads in the folder, as any other served one.
    """

    folder: Path
    calls: list[tuple[str, Any]] = field(default_factory=list)
    """Each remote call in order: its name, such as `DeployTask`, and the request."""
    uploads: list[tuple[str, bytes]] = field(default_factory=list)
    """Each upload in order: file name and content."""
    _failures: list[_Failure] = field(default_factory=list)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self: _Server) -> _Server:
        database = self._stack.enter_context(contextlib.closing(Database(self.folder)))
        self._server = self._stack.enter_context(Server(self._recording(self.application(database))))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def application(self, database: Database) -> Application:
        """What is served, before uploads are recorded; each remote call goes through `Recorder(self)`."""
        return application(database, [Recorder(self)])

    @property
    def endpoint(self) -> str:
        """As Flyte's configuration has it, such as `dns:///localhost:8090`."""
        return self._server.endpoint

    def requests(self, call: str) -> list[Any]:
        """The requests of one kind of call, in order."""
        return [request for name, request in self.calls if name == call]

    def count(self, call: str) -> int:
        """How often a call was made; `PUT` counts the uploads."""
        return len(self.uploads) if call == PUT else len(self.requests(call))

    @property
    def counts(self) -> Counter[str]:
        """How often each call was made, and `PUT`."""
        puts: Counter[str] = Counter({PUT: len(self.uploads)} if self.uploads else {})
        return puts + Counter(name for name, _ in self.calls)

    def forget(self) -> None:
        """Empties the record."""
        self.calls.clear()
        self.uploads.clear()

    def fail(
        self, call: str, code: Code | int, *, times: int = 1, when: Callable[[Any], bool] = lambda _: True
    ) -> None:
        """Makes the next calls fail: with a Connect code, or, for `PUT`, with an HTTP status.

        Args:
            times: How often; -1: always.
            when: Told the request (for `PUT`: the file's name), says whether this one fails.
        """
        self._failures.append(_Failure(call, code, times, when))

    def failure(self, call: str, request: Any) -> Code | int | None:
        """What this call is to fail with, if anything."""
        for failure in self._failures:
            if failure.call == call and failure.times != 0 and failure.when(request):
                failure.times -= 1
                return failure.code
        return None

    def _recording(self, app: Application) -> Application:
        async def recorded(scope: Scope, receive: Receive, send: Send) -> None:
            if not (scope["method"] == PUT and scope["path"].startswith(uploads.PREFIX)):
                return await app(scope, receive, send)
            name = unquote(scope["path"]).rpartition("/")[2]
            messages = [message async for message in _messages(receive)]
            self.uploads.append((name, b"".join(message.get("body", b"") for message in messages)))
            status = self.failure(PUT, name)
            if status is not None:
                await send({"type": "http.response.start", "status": int(str(status)), "headers": []})
                return await send({"type": "http.response.body", "body": b""})
            return await app(scope, _replay(messages), send)

        return recorded


@dataclass(frozen=True)
class Recorder:
    server: RecordingServer

    async def intercept_unary(
        self,
        call_next: Callable[[_Request, RequestContext[Any, Any]], Awaitable[_Response]],
        request: _Request,
        ctx: RequestContext[Any, Any],
    ) -> _Response:
        name = ctx.method().name
        self.server.calls.append((name, request))
        code = self.server.failure(name, request)
        if isinstance(code, Code):
            raise ConnectError(code, f"made to fail: {name}")
        return await call_next(request, ctx)


async def _messages(receive: Receive) -> Any:
    while True:
        message = await receive()
        yield message
        if not message.get("more_body", False):
            return


def _replay(messages: list[dict[str, Any]]) -> Receive:
    remaining: Iterator[dict[str, Any]] = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(remaining)

    return receive
