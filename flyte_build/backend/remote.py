"""Any Flyte 2 endpoint, through the SDK's authenticated client."""

from __future__ import annotations

import asyncio
import queue
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.common.identifier_pb2 import ProjectIdentifier
from flyteidl2.dataproxy.dataproxy_service_pb2 import (
    CreateUploadLocationRequest,
    CreateUploadLocationResponse,
    UploadInputsRequest,
)
from flyteidl2.task.task_definition_pb2 import TaskDetails, TaskIdentifier, TaskTrigger
from flyteidl2.task.task_service_pb2 import DeployTaskRequest, GetTaskDetailsRequest

from flyte_build import sdk_client
from flyte_build.backend import UPLOAD_LIFETIME
from flyte_build.backend.failures import Call, failure, unreachable
from flyte_build.errors import BackendUnreachable, BuildError, NotLoggedIn, UploadNameTaken
from flyte_build.model import BackendSettings

if TYPE_CHECKING:
    from flyte.remote._client.controlplane import ClientSet
    from flyteidl2.task.task_service_connect import TaskServiceClient

CONCURRENCY = 32
"""Calls under way at a time."""

_TIMEOUT_MS = 60_000
_PATIENCE = 600.0
"""Seconds for a call with all that it needs, such as a login in the browser."""
_FIRST_PAUSE = 0.1
"""Seconds before the first retry; each further pause is twice as long, less up to half of it by chance."""
_ATTEMPTS_WITHOUT_ANSWER = 4
_ATTEMPTS_WITH_ANSWER = 7
_TRANSIENT = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.ABORTED})

_T = TypeVar("_T")


class RemoteBackend:
    """A `Backend`. The client lives on one event loop in a thread of its own, so callers may have a loop as well."""

    def __init__(self, settings: BackendSettings) -> None:
        """Prepare the client; nothing is sent yet.

        Raises:
            BuildError: the settings for logging in are wrong.
        """
        self._settings = settings
        self._loop = _LoopThread()
        self._offloads_inputs = True
        self._answered = False
        self._first = asyncio.Lock()
        self._gate = asyncio.Semaphore(CONCURRENCY)
        self._gone: BackendUnreachable | NotLoggedIn | None = None
        """Why there is no use in asking anything more."""
        try:
            self._client = self._loop.run(sdk_client.connect(settings))
        except BaseException:
            self._loop.close()
            raise
        # The SDK's protocol leaves out the time limit, which the generated client takes.
        self._tasks = cast("TaskServiceClient", self._client.task_service)

    def register(
        self, requests: Sequence[DeployTaskRequest], done: Callable[[DeployTaskRequest], None]
    ) -> dict[str, BuildError]:
        failures: dict[str, BuildError] = {}
        finished: queue.SimpleQueue[tuple[DeployTaskRequest, BuildError | None] | None] = queue.SimpleQueue()

        async def each(request: DeployTaskRequest) -> None:
            finished.put((request, await self._deploy(request)))

        job = self._loop.start(self._all(each, requests))
        job.add_done_callback(lambda _: finished.put(None))
        try:
            while (item := finished.get()) is not None:
                request, error = item
                if error is None:
                    done(request)
                else:
                    failures[request.task_id.name] = error
        finally:
            job.cancel()  # of no effect when it has ended; else `done` has raised, or Ctrl-C came
        job.result()
        return failures

    def find_tasks(self, ids: Sequence[TaskIdentifier]) -> list[TaskDetails | None]:
        return self._loop.run(self._all(self._find, ids))

    def create_upload_location(
        self, *, filename: str, content_md5: bytes, content_length: int, expires_in: float = UPLOAD_LIFETIME
    ) -> CreateUploadLocationResponse:
        settings = self._settings
        request = CreateUploadLocationRequest(
            org=settings.org,
            project=settings.project,
            domain=settings.domain,
            filename=filename,
            content_md5=content_md5,
            content_length=content_length,
            add_content_md5_metadata=True,
        )
        request.expires_in.FromSeconds(int(expires_in))
        call = Call(settings.endpoint, settings.project, settings.domain, f"upload `{filename}`")

        async def ask() -> CreateUploadLocationResponse:
            try:
                return await self._client.dataproxy_service.create_upload_location(request)
            except ConnectError as error:
                if error.code is Code.ALREADY_EXISTS:
                    raise UploadNameTaken(filename=filename) from error
                raise

        return self._loop.run(self._send(call, ask))

    def ask(self, call: Call, attempt: Callable[[ClientSet], Awaitable[_T]]) -> _T:
        """What `attempt` gets from a service that is no step's: tried again as all calls are. Safe to call in threads.

        Raises:
            BuildError: the answer is no, or none came.
        """
        return self._loop.run(self._send(call, lambda: attempt(self._client)))

    def close(self) -> None:
        self._loop.close()

    async def _deploy(self, request: DeployTaskRequest) -> BuildError | None:
        """None when the task is registered, be it just now or before."""
        task = request.task_id
        call = Call(self._settings.endpoint, task.project, task.domain, f"register task `{task.name}`")

        async def deploy() -> None:
            try:
                await self._tasks.deploy_task(complete, timeout_ms=_TIMEOUT_MS)
            except ConnectError as error:
                if error.code is not Code.ALREADY_EXISTS:
                    raise

        try:
            complete = await self._with_offloaded_inputs(call, request)
            await self._send(call, deploy)
        except BuildError as error:
            return error
        return None

    async def _find(self, task: TaskIdentifier) -> TaskDetails | None:
        request = GetTaskDetailsRequest(task_id=task)
        call = Call(self._settings.endpoint, task.project, task.domain, f"read task `{task.name}`")

        async def ask() -> TaskDetails | None:
            try:
                response = await self._tasks.get_task_details(request, timeout_ms=_TIMEOUT_MS)
            except ConnectError as error:
                if error.code is Code.NOT_FOUND:
                    return None
                raise
            details: TaskDetails = response.details
            return details

        return await self._send(call, ask)

    async def _with_offloaded_inputs(self, call: Call, request: DeployTaskRequest) -> DeployTaskRequest:
        """The request as the SDK's own deploy sends it: inputs of triggers are uploaded, if the backend wants that."""
        if not any(trigger.spec.inputs.literals for trigger in request.triggers):
            return request
        complete = DeployTaskRequest()
        complete.CopyFrom(request)
        for trigger in complete.triggers:
            if self._offloads_inputs and trigger.spec.inputs.literals:
                await self._offload(call, complete, trigger)
        return complete

    async def _offload(self, call: Call, request: DeployTaskRequest, trigger: TaskTrigger) -> None:
        task = request.task_id
        project = ProjectIdentifier(organization=task.org, name=task.project, domain=task.domain)
        inputs = UploadInputsRequest(inputs=trigger.spec.inputs, project_id=project, task_spec=request.spec)

        async def upload() -> None:
            try:
                response = await self._client.dataproxy_service.upload_trigger(inputs)
            except ConnectError as error:
                if error.code is not Code.UNIMPLEMENTED:
                    raise
                self._offloads_inputs = False
            else:
                trigger.spec.offloaded_input_data.CopyFrom(response.offloaded_input_data)

        await self._send(call, upload)

    async def _all(self, function: Callable[[Any], Awaitable[_T]], items: Sequence[Any]) -> list[_T]:
        """`function` of each item, in the items' order; `CONCURRENCY` at a time, whoever asks."""

        async def one(item: Any) -> _T:
            async with self._gate:
                return await function(item)

        return await asyncio.gather(*map(one, items))

    async def _send(self, call: Call, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Ask, and ask again while that may help.

        Until there was an answer, one call at a time: should the first need a login, the others find it done, where
        each would start its own.

        Raises:
            BuildError: the answer is no, or none came.
        """
        if not self._answered:
            async with self._first:
                if not self._answered:
                    return await self._ask(call, attempt)
        return await self._ask(call, attempt)

    async def _ask(self, call: Call, attempt: Callable[[], Awaitable[_T]]) -> _T:
        if self._gone is not None:
            raise self._gone
        try:
            result = await _retried(attempt)
        except ConnectError as error:
            if not _unanswered(error):
                self._answered = True
                raise failure(call, code=error.code.value, reason=error.message) from error
            gone = unreachable(call, error.message)
            if not self._answered:
                self._gone = gone
            raise gone from error
        except sdk_client.login_errors() as error:
            self._gone = NotLoggedIn(endpoint=call.endpoint, reason=str(error) or type(error).__name__)
            raise self._gone from error
        self._answered = True
        return result


class _LoopThread:
    """An event loop that runs in a thread until it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="flyte-build-client", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, _T]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        job = self.start(work)
        try:
            result: _T = job.result()
        finally:
            job.cancel()
        return result

    def close(self) -> None:
        if not self._loop.is_closed():
            self.run(_cancel_all_others())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


async def _cancel_all_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _retried(attempt: Callable[[], Awaitable[_T]]) -> _T:
    tries = 0
    while True:
        try:
            return await _in_time(attempt)
        except ConnectError as error:
            tries += 1
            limit = _ATTEMPTS_WITHOUT_ANSWER if _unanswered(error) else _ATTEMPTS_WITH_ANSWER
            if error.code not in _TRANSIENT or tries >= limit:
                raise
            await asyncio.sleep(_FIRST_PAUSE * 2 ** (tries - 1) * random.uniform(0.5, 1))  # noqa: S311


async def _in_time(attempt: Callable[[], Awaitable[_T]]) -> _T:
    try:
        return await asyncio.wait_for(attempt(), _PATIENCE)
    except (asyncio.TimeoutError, ConnectError) as error:
        if isinstance(error, ConnectError) and error.code is not Code.CANCELED:  # its word for being called off
            raise
        raise ConnectError(Code.CANCELED, f"timed out after {_PATIENCE:g} seconds") from error


def _unanswered(error: ConnectError) -> bool:
    """Whether no server gave this error: Connect's client makes it up when a connection fails or times out."""
    made_up = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELED)
    return error.code in made_up and error.__cause__ is not None
