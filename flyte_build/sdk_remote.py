"""What building images on the backend takes from the Flyte SDK: which task builds, and how it is given its inputs.

Private parts are listed here, as in `flyte_build.sdk`, and looked up by the same test.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flyte
import flyte.remote
from flyte._internal.imagebuild.remote_builder import IMAGE_TASK_DOMAIN, IMAGE_TASK_NAME, IMAGE_TASK_PROJECT
from flyte._internal.runtime.convert import convert_from_native_to_inputs
from flyteidl2.imagebuilder.payload_pb2 import GetImageRequest, GetImageResponse
from flyteidl2.task.common_pb2 import Inputs
from flyteidl2.task.task_definition_pb2 import TaskDetails, TaskSpec

from flyte_build.model import BuildSecret

if TYPE_CHECKING:
    from flyte.remote._client.controlplane import ClientSet

PRIVATE_NAMES = (
    "flyte._internal.imagebuild.remote_builder.IMAGE_TASK_DOMAIN",
    "flyte._internal.imagebuild.remote_builder.IMAGE_TASK_NAME",
    "flyte._internal.imagebuild.remote_builder.IMAGE_TASK_PROJECT",
    "flyte._internal.runtime.convert.convert_from_native_to_inputs",
    "flyte.remote._client.controlplane.ClientSet",
    "flyte.remote._client.controlplane.ClusterAwareImageService.get_image",
    "flyte.remote._client.controlplane.Console.run_url",
)

BUILDER_NAME, BUILDER_PROJECT, BUILDER_DOMAIN = IMAGE_TASK_NAME, IMAGE_TASK_PROJECT, IMAGE_TASK_DOMAIN
"""The task that builds images."""

_SECRETS = Path("/etc/flyte/secrets")
"""Where the builder looks for secrets."""


async def get_image(client: ClientSet, request: GetImageRequest) -> GetImageResponse:
    """The image service's answer.

    Raises:
        ConnectError: the service's own, or the one of choosing a cluster, which the SDK hides in another error.
    """
    try:
        return await client.image_service.get_image(request)
    except RuntimeError as error:
        hidden = error.__cause__ or error
    raise hidden  # as it was: whether it has a cause tells who made it


def spec_with_secrets(builder: TaskDetails, secrets: Iterable[BuildSecret]) -> TaskSpec:
    """The builder's spec, with these secrets mounted where it looks for them."""
    keys = dict.fromkeys((secret.group or None, secret.key) for secret in secrets)
    mounted: list[str | flyte.Secret] = [flyte.Secret(key=key, group=group, mount=_SECRETS) for group, key in keys]
    return flyte.remote.TaskDetails(builder).override(secrets=mounted or None).pb2.spec


async def inputs_for(task: TaskSpec, values: Mapping[str, str]) -> Inputs:
    """`values` as the literals that the task's interface wants.

    Raises:
        ValueError, TypeError: it takes no such inputs.
    """
    interface = flyte.remote.TaskDetails(TaskDetails(spec=task)).interface
    converted = await convert_from_native_to_inputs(interface, **dict[str, Any](values))
    return converted.proto_inputs
