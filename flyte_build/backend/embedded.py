"""The embedded control plane in process: SQLite and a folder, no server and no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from flyteidl2.dataproxy.dataproxy_service_pb2 import CreateUploadLocationResponse
from flyteidl2.task.task_definition_pb2 import TaskDetails, TaskIdentifier
from flyteidl2.task.task_service_pb2 import DeployTaskRequest

from flyte_build.backend import UPLOAD_LIFETIME, rules, task_table
from flyte_build.backend.database import Database, now
from flyte_build.backend.failures import Call, failure
from flyte_build.backend.refused import Refused
from flyte_build.errors import BuildError, UploadsNotServed

NAME = "embedded control plane"


class EmbeddedBackend:
    """A `Backend`. What the server accepts it accepts, and keeps in the same file."""

    def __init__(self, folder: Path) -> None:
        """Open the control plane in `folder`, made if missing.

        Raises:
            EmbeddedBackendUnusable: the folder cannot be used.
        """
        self._database = Database(folder)
        self.set_aside = self._database.set_aside

    def register(
        self, requests: Sequence[DeployTaskRequest], done: Callable[[DeployTaskRequest], None]
    ) -> dict[str, BuildError]:
        """In one transaction, so `done` is called when all are registered.

        Raises:
            EmbeddedBackendUnusable: the file cannot be written; nothing is registered then.
        """
        failures = {request.task_id.name: error for request in requests if (error := _broken_rules(request))}
        accepted = [request for request in requests if request.task_id.name not in failures]
        moment = now()
        with self._database.transaction() as connection:
            for request in accepted:
                task_table.deploy(connection, request, moment)
        for request in accepted:
            done(request)
        return failures

    def find_tasks(self, ids: Sequence[TaskIdentifier]) -> list[TaskDetails | None]:
        with self._database.reading() as connection:
            return [task_table.find(connection, task) for task in ids]

    def create_upload_location(
        self, *, filename: str, content_md5: bytes, content_length: int, expires_in: float = UPLOAD_LIFETIME
    ) -> CreateUploadLocationResponse:
        """Always raises: there is no server here to send a file to."""
        del filename, content_md5, content_length, expires_in

        raise UploadsNotServed(path=str(self._database.folder))

    @property
    def identity(self) -> bytes:
        """Of this control plane: another one made in its place has another."""
        return self._database.identity

    def close(self) -> None:
        self._database.close()


def _broken_rules(request: DeployTaskRequest) -> BuildError | None:
    task = request.task_id
    try:
        rules.check(request)
    except Refused as refused:
        call = Call(NAME, task.project, task.domain, f"register task `{task.name}`")
        return failure(call, code=refused.code, reason=refused.message)
    return None
