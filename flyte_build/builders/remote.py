"""The backend's own image builder: a task of Union's control plane that is sent a spec and a context.

What is asked of whom, and in what order, is as with the SDK's own remote builder. Other than there, what cannot be
known is an error: an image is absent only if the control plane says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.common import phase_pb2
from flyteidl2.common.identifier_pb2 import ActionIdentifier, ProjectIdentifier
from flyteidl2.common.list_pb2 import Filter, ListRequest, Sort
from flyteidl2.dataproxy.dataproxy_service_pb2 import GetActionDataRequest, UploadInputsRequest
from flyteidl2.imagebuilder.definition_pb2 import ImageIdentifier
from flyteidl2.imagebuilder.payload_pb2 import GetImageRequest
from flyteidl2.task.run_pb2 import CACHE_LOOKUP_SCOPE_PROJECT_DOMAIN, CacheConfig, RunSpec
from flyteidl2.task.task_definition_pb2 import TaskDetails, TaskSpec
from flyteidl2.task.task_service_pb2 import GetTaskDetailsRequest, ListTasksRequest
from flyteidl2.workflow.run_definition_pb2 import ActionDetails
from flyteidl2.workflow.run_service_pb2 import CreateRunRequest, WatchActionDetailsRequest, WatchActionDetailsResponse

from flyte_build import archive, sdk_remote
from flyte_build.backend import Backend
from flyte_build.backend.embedded import NAME as EMBEDDED
from flyte_build.backend.failures import Call
from flyte_build.backend.remote import RemoteBackend
from flyte_build.errors import (
    BackendFailed,
    BackendUnreachable,
    RemoteBuildAborted,
    RemoteBuilderIncompatible,
    RemoteBuilderMissing,
    RemoteBuildFailed,
    RemoteBuildWithoutImage,
    StateUnwritable,
    StepError,
)
from flyte_build.model import BackendSettings, BuildSecret
from flyte_build.store.signed import SignedStore

if TYPE_CHECKING:
    from flyte.remote._client.controlplane import ClientSet
    from flyteidl2.workflow.run_service_connect import RunServiceClient

WATCH = 60.0
"""Seconds that one subscription to a run lasts: one that a proxy has silently dropped is noticed by then."""
PAUSES = (1.0, 5.0, 10.0, 20.0, 40.0, 60.0)
"""Seconds between attempts to watch a run while the control plane is out of order. The build goes on meanwhile."""
_RESUBSCRIBE = 1.0
"""Seconds."""

_GOOD = (phase_pb2.ACTION_PHASE_SUCCEEDED, phase_pb2.ACTION_PHASE_RECOVERED)
_ENDED = (
    *_GOOD,
    phase_pb2.ACTION_PHASE_FAILED,
    phase_pb2.ACTION_PHASE_ABORTED,
    phase_pb2.ACTION_PHASE_TIMED_OUT,
)
_CHUNK = 1 << 20


class Run(NamedTuple):
    action: ActionIdentifier
    url: str


class RemoteBuilder:
    """The image builder of a control plane, for any number of images and of threads, with the login of its client."""

    def __init__(
        self,
        settings: BackendSettings,
        backend: Backend,
        *,
        sleep: Callable[[float], None] = time.sleep,
        watch: float = WATCH,
    ) -> None:
        """Nothing is sent yet. `backend` is that of the settings, and stays open; `watch`: seconds.

        Raises:
            RemoteBuilderMissing: the embedded control plane has none.
        """
        if not isinstance(backend, RemoteBackend):
            raise RemoteBuilderMissing(endpoint=EMBEDDED)
        self._settings, self._sleep, self._watch = settings, sleep, watch
        self._project = ProjectIdentifier(organization=settings.org, name=settings.project, domain=settings.domain)
        self._backend = backend
        self._uploads = SignedStore(locations=backend, sleep=sleep)

    def find(self, name: str) -> str:
        """The URI of the image `REPOSITORY:TAG`, with or without a registry before it; empty when there is none.

        Raises:
            RemoteBuilderMissing: this control plane knows no images.
            StepError: it cannot be asked.
        """
        image = ImageIdentifier(name=name.rpartition("/")[2])
        request = GetImageRequest(id=image, organization=self._settings.org, project_id=self._project)

        async def ask(client: ClientSet) -> str:
            try:
                response = await sdk_remote.get_image(client, request)
            except ConnectError as error:
                if error.code is Code.NOT_FOUND:
                    return ""
                if error.code is Code.UNIMPLEMENTED:
                    raise RemoteBuilderMissing(endpoint=self._settings.endpoint) from error
                raise
            return str(response.image.fqin)

        return self._backend.ask(self._call(f"find image `{name}`"), ask)

    def build(
        self,
        *,
        name: str,
        spec: bytes,
        context: Path | None,
        secrets: tuple[BuildSecret, ...],
        started: Callable[[str], None],
    ) -> str:
        """Build an image and give the URI under which it was pushed.

        Args:
            name: `REPOSITORY:TAG`, with a registry before it unless the backend's own is meant.
            spec: A `flyteidl2.imagebuilder.ImageSpec`.
            context: An uncompressed tar of the files that the spec names; None: it names none.
            started: Told the URL of the run as soon as there is one.

        Raises:
            RemoteBuilderMissing: this control plane builds no images.
            RemoteBuildFailed, RemoteBuildAborted, RemoteBuildWithoutImage: the run gave no image.
            StepError: the control plane or its store cannot be used.
        """
        builder = self._builder()
        values = {"spec": self._send_spec(spec), "context": self._send_context(context), "target_image": name}
        task = sdk_remote.spec_with_secrets(builder, secrets)
        run = self._start(self._call(f"start the build of image `{name}`"), task, values)
        started(run.url)
        ended = self._end(self._call(f"watch the build of image `{name}`"), run.action)
        if ended.status.phase not in _GOOD:
            raise _failure(name, run.url, ended)
        uri = self._output(self._call(f"read the build of image `{name}`"), run.action)
        if not uri:
            raise RemoteBuildWithoutImage(image=name, url=run.url)
        return uri

    def _builder(self) -> TaskDetails:
        """The newest version of the task that builds."""
        project = ProjectIdentifier(
            organization=self._settings.org, name=sdk_remote.BUILDER_PROJECT, domain=sdk_remote.BUILDER_DOMAIN
        )
        named = Filter(function=Filter.Function.EQUAL, field="name", values=[sdk_remote.BUILDER_NAME])
        newest = ListRequest(limit=1, filters=[named], sort_by=Sort(key="created_at", direction=Sort.DESCENDING))
        listing = ListTasksRequest(org=self._settings.org, project_id=project, request=newest)

        async def ask(client: ClientSet) -> TaskDetails:
            try:
                found = (await client.task_service.list_tasks(listing)).tasks
                if found:
                    request = GetTaskDetailsRequest(task_id=found[0].task_id)
                    return (await client.task_service.get_task_details(request)).details
            except ConnectError as error:
                if error.code is not Code.NOT_FOUND:
                    raise
            raise RemoteBuilderMissing(endpoint=self._settings.endpoint)

        place = (sdk_remote.BUILDER_PROJECT, sdk_remote.BUILDER_DOMAIN)
        call = Call(self._settings.endpoint, *place, f"read task `{sdk_remote.BUILDER_NAME}`")
        return self._backend.ask(call, ask)

    def _send_spec(self, spec: bytes) -> str:
        with _scratch(lambda out: out.write(spec)) as file:
            return self._uploads.send(file, "spec.pb")

    def _send_context(self, context: Path | None) -> str:
        if context is None:
            return ""
        with context.open("rb") as tar:
            parts = iter(partial(tar.read, _CHUNK), b"")
            with _scratch(lambda out: archive.compress(out, parts)) as file:
                return self._uploads.send(file, "context.tar.gz")

    def _start(self, call: Call, task: TaskSpec, values: dict[str, str]) -> Run:
        """Start the run. Should an answer be lost there are two of them, which end with the same image."""
        options = RunSpec(cache_config=CacheConfig(cache_lookup_scope=CACHE_LOOKUP_SCOPE_PROJECT_DOMAIN))
        inputs = UploadInputsRequest(project_id=self._project, task_spec=task)

        async def ask(client: ClientSet) -> Run:
            try:
                inputs.inputs.CopyFrom(await sdk_remote.inputs_for(task, values))
            except (TypeError, ValueError) as error:
                raise RemoteBuilderIncompatible(
                    endpoint=self._settings.endpoint, task=sdk_remote.BUILDER_NAME, reason=str(error)
                ) from error
            uploaded = await client.dataproxy_service.upload_inputs(inputs)
            request = CreateRunRequest(
                project_id=self._project,
                task_spec=task,
                run_spec=options,
                offloaded_input_data=uploaded.offloaded_input_data,
            )
            action = (await client.run_service.create_run(request)).run.action.id
            place = action.run
            url = client.console.run_url(project=place.project, domain=place.domain, run_name=place.name)
            return Run(action, url)

        return self._backend.ask(call, ask)

    def _end(self, call: Call, action: ActionIdentifier) -> ActionDetails:
        """Wait for the end of a run, however long it takes."""
        request = WatchActionDetailsRequest(action_id=action)

        async def ask(client: ClientSet) -> ActionDetails | None:
            # The SDK's protocol declares a coroutine; what the client gives is the stream.
            runs = cast("RunServiceClient", client.run_service)
            return await _last_within(self._watch, runs.watch_action_details(request))

        pauses = iter(PAUSES)
        while True:
            try:
                ended = self._backend.ask(call, ask)
            except (BackendUnreachable, BackendFailed):
                pause = next(pauses, None)
                if pause is None:
                    raise
                self._sleep(pause)
                continue
            if ended is not None:
                return ended
            pauses = iter(PAUSES)
            self._sleep(_RESUBSCRIBE)

    def _output(self, call: Call, action: ActionIdentifier) -> str:
        """The first output of a run, a text; empty when there is none."""

        async def ask(client: ClientSet) -> str:
            answer = await client.dataproxy_service.get_action_data(GetActionDataRequest(action_id=action))
            return "".join(literal.value.scalar.primitive.string_value for literal in answer.outputs.literals[:1])

        return self._backend.ask(call, ask)

    def _call(self, action: str) -> Call:
        return Call(self._settings.endpoint, self._settings.project, self._settings.domain, action)


async def _last_within(seconds: float, updates: AsyncIterator[WatchActionDetailsResponse]) -> ActionDetails | None:
    """The run's end, or None when it is not seen within so many seconds or the subscription ends before."""

    async def last() -> ActionDetails | None:
        async for update in updates:
            if update.details.status.phase in _ENDED:
                return update.details
        return None

    try:
        return await asyncio.wait_for(last(), seconds)
    except asyncio.TimeoutError:
        return None
    except ConnectError as error:
        if error.code is Code.CANCELED:  # its word for being called off
            return None
        raise


def _failure(name: str, url: str, ended: ActionDetails) -> StepError:
    if ended.status.phase == phase_pb2.ACTION_PHASE_ABORTED:
        return RemoteBuildAborted(image=name, url=url, reason=ended.abort_info.reason)
    late = "it timed out" if ended.status.phase == phase_pb2.ACTION_PHASE_TIMED_OUT else ""
    return RemoteBuildFailed(image=name, url=url, reason=ended.error_info.message or late)


@contextlib.contextmanager
def _scratch(write: Callable[[BinaryIO], int]) -> Iterator[Path]:
    """A file to upload from, gone afterwards.

    Raises:
        StateUnwritable: the disk is full, or nothing may be written there.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="flyte-build-"))
            with (Path(folder) / "file").open("wb") as out:
                write(out)
        except OSError as error:
            raise StateUnwritable(path=tempfile.gettempdir(), reason=error.strerror or str(error)) from error
        yield Path(folder) / "file"
