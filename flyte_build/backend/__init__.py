"""Where tasks are registered: the embedded control plane, or any Flyte 2 endpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from flyteidl2.dataproxy.dataproxy_service_pb2 import CreateUploadLocationResponse
    from flyteidl2.task.task_definition_pb2 import TaskDetails, TaskIdentifier
    from flyteidl2.task.task_service_pb2 import DeployTaskRequest

    from flyte_build.errors import BuildError
    from flyte_build.model import BackendSettings

FOLDER = "backend"
"""The folder of the embedded control plane, inside the state folder."""

CONTROL_PLANE = "control-plane.sqlite"
"""Its file there."""

UPLOAD_LIFETIME = 3600.0
"""Seconds that a signed URL is asked for: the most that Flyte's own backend grants."""


class Backend(Protocol):
    """What the steps ask of a control plane."""

    def register(
        self, requests: Sequence[DeployTaskRequest], done: Callable[[DeployTaskRequest], None]
    ) -> dict[str, BuildError]:
        """Register tasks, in no particular order; call `done` in this thread as each one is registered.

        One that fails does not stop the others. A task that the control plane already has counts as registered.

        Returns:
            The failures, by task name.
        """
        ...

    def find_tasks(self, ids: Sequence[TaskIdentifier]) -> list[TaskDetails | None]:
        """What is registered under each identifier, in that order; None where there is nothing.

        Raises:
            BuildError: the control plane cannot be asked.
        """
        ...

    def create_upload_location(
        self, *, filename: str, content_md5: bytes, content_length: int, expires_in: float = UPLOAD_LIFETIME
    ) -> CreateUploadLocationResponse:
        """A signed URL to PUT a file to. The same name and content give the same `native_url`.

        Args:
            content_md5: The 16 bytes of the digest; the upload must have it.
            content_length: Bytes.
            expires_in: Seconds.

        Raises:
            BuildError: the control plane cannot be asked, or refuses.
        """
        ...

    def close(self) -> None:
        """Let go of connections and threads."""
        ...


def open_backend(settings: BackendSettings, state_folder: Path) -> Backend:
    """The backend that the settings name.

    Raises:
        BuildError: it cannot be opened, or the settings for logging in are wrong.
    """
    if settings.embedded:
        from flyte_build.backend.embedded import EmbeddedBackend

        return EmbeddedBackend(state_folder / FOLDER)
    from flyte_build.backend.remote import RemoteBackend

    return RemoteBackend(settings)
