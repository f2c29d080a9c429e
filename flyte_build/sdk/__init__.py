"""The only package that touches the Flyte SDK, private parts included.

Every name that it relies on is listed in `PRIVATE_NAMES`, and a test looks each of them up in the oldest and the newest
supported SDK (2.12.x). Importing this package imports the SDK: only the discovery worker, the client and the binding of
reusable environments do so.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import flyte
import flyte.errors
import flyte.report
from flyte import Image as Image
from flyte._constants import FLYTE_SYS_PATH
from flyte._deploy import _update_interface_inputs_and_outputs_docstring
from flyte._environment import list_loaded_environments
from flyte._image import CodeBundleLayer
from flyte._internal.image_cache import ImageCache
from flyte._internal.runtime.convert import convert_upload_default_inputs
from flyte._internal.runtime.reuse import extract_unique_id_and_image
from flyte._internal.runtime.task_serde import translate_task_to_wire
from flyte._internal.runtime.trigger_serde import to_task_trigger
from flyte._utils.description_parser import parse_description
from flyte.models import ActionID, CodeBundle, RawDataPath, SerializationContext, TaskContext
from flyte.syncify import syncify
from flyte.syncify._api import _BackgroundLoop
from flyte.types import _load_custom_type_transformers
from flyteidl2.core import tasks_pb2
from flyteidl2.task import task_definition_pb2

from flyte_build import standins
from flyte_build.errors import TaskNotSerialized
from flyte_build.model import EnvironmentDraft, ImageBuild, ImageDraft, TaskDraft

if TYPE_CHECKING:
    from flyte._task import TaskTemplate

PRIVATE_NAMES = (
    "flyte._deploy._update_interface_inputs_and_outputs_docstring",
    "flyte._environment.list_loaded_environments",
    "flyte._image.AptPackages",
    "flyte._image.CodeBundleLayer",
    "flyte._image.Commands",
    "flyte._image.CopyConfig",
    "flyte._image.DockerIgnore",
    "flyte._image.Env",
    "flyte._image.PipOption",
    "flyte._image.PipPackages",
    "flyte._image.PixiProject",
    "flyte._image.PixiScript",
    "flyte._image.PoetryProject",
    "flyte._image.PythonWheels",
    "flyte._image.Requirements",
    "flyte._image.UVProject",
    "flyte._image.UVScript",
    "flyte._image.WorkDir",
    "flyte._image._CREATE_FLYTE_USER_CMD",
    "flyte._image._DockerLines",
    "flyte._internal.image_cache.ImageCache",
    "flyte._internal.runtime.convert.convert_upload_default_inputs",
    "flyte._internal.runtime.reuse.extract_unique_id_and_image",
    "flyte._internal.runtime.task_serde.translate_task_to_wire",
    "flyte._internal.runtime.trigger_serde.offload_trigger_inputs",
    "flyte._internal.runtime.trigger_serde.to_task_trigger",
    "flyte._constants.FLYTE_SYS_PATH",
    "flyte._utils.parse_uv_script_file",
    "flyte._utils.description_parser.parse_description",
    "flyte.syncify._api._BackgroundLoop",
    "flyte.types._load_custom_type_transformers",
)

PRIVATE_ATTRIBUTES = {
    "flyte._image.Image": ("_final_tag", "_image_registry_secret", "_is_cloned", "_layers", "_ref_name", "_tag"),
    "flyte._environment.Environment": ("_declaring_file",),
    "flyte.syncify._api.Syncify": ("_bg_loop",),
    "flyte.syncify._api._BackgroundLoop": ("_run", "loop", "thread"),
}
"""Attributes of their objects that are relied on, too."""

SHORT_DESCRIPTION_LIMIT = 255
LONG_DESCRIPTION_LIMIT = 2048
"""Characters; as the SDK's own deploy cuts descriptions."""
ACTOR_VERSION_LENGTH = 15
"""Characters, as in the SDK's `add_reusable`."""


# --- the worker's process ------------------------------------------------------------------------------------------


def prepare_process() -> None:
    """Do once what every load needs: a quiet log, type plugins, and what a first serialization imports."""
    logging.getLogger("flyte").setLevel(logging.ERROR)
    _load_custom_type_transformers()  # type: ignore[no-untyped-call]
    _rehearse()
    gc.freeze()
    gc.set_threshold(10_000)  # what a load makes mostly lives to its end


def _rehearse() -> None:
    """Serialize a task that nobody will see: children then start with everything imported."""
    environment = TaskEnvironment(name="rehearsal", resources=flyte.Resources(cpu=1))

    @environment.task
    async def task(number: int = 1) -> str:
        """Rehearse.

        Args:
            number: Of nothing.
        """
        return str(number)

    root = Path(__file__).parents[2]
    cache = image_cache_of([environment])
    image = ImageDraft(kind="none")
    draft_environment(environment, image, root=root, image_cache=cache, has_bundle=True, sync_paths=True)
    list_loaded_environments().clear()


class _LateLoop(_BackgroundLoop):
    """The SDK's background loop as a forked process has it: its thread begins when first needed, which is seldom."""

    fresh: asyncio.AbstractEventLoop
    _beginning = threading.Lock()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:  # type: ignore[override]
        if self.thread.ident is None:
            with self._beginning:
                if self.thread.ident is None:
                    self.thread.start()
        return self.fresh


def revive_after_fork() -> None:
    """Give a forked process the SDK's background thread again; without it, `flyte.init()` in user code would hang."""
    background = syncify._bg_loop  # the SDK's functions hold this very object
    background.thread = threading.Thread(name=background.thread.name, target=background._run, daemon=True)
    background.__class__ = _LateLoop
    cast(_LateLoop, background).fresh = asyncio.new_event_loop()


PlanImage = Callable[[Image], ImageBuild]
"""Plans an image that has to be built; raises `ImageError` when it cannot be."""

FOLDER = str(Path(flyte.__file__).parent)
"""Where the SDK is installed."""
Environment = flyte.Environment
TaskEnvironment = flyte.TaskEnvironment


def declaring_file(environment: Environment) -> str:
    """Absolute path of the file that made an environment; empty when it was made at a prompt."""
    return environment._declaring_file or ""


def loaded_environments() -> list[Environment]:
    """Every environment made so far in this process, in the order of making."""
    return list(list_loaded_environments())


# --- drafts --------------------------------------------------------------------------------------------------------


def draft_environment(
    environment: TaskEnvironment,
    image: ImageDraft,
    *,
    root: Path,
    image_cache: ImageCache,
    has_bundle: bool,
    sync_paths: bool,
) -> EnvironmentDraft:
    """Serialize an environment and its tasks, with stand-ins.

    Raises:
        TaskNotSerialized: the SDK cannot serialize a task.
    """
    context = SerializationContext(
        version=standins.VERSION,
        project=standins.PROJECT,
        domain=standins.DOMAIN,
        org=standins.ORG,
        code_bundle=CodeBundle(tgz=standins.BUNDLE, computed_version=standins.BUNDLE_VERSION) if has_bundle else None,
        image_cache=image_cache,
        root_dir=root,
    )
    paths = {FLYTE_SYS_PATH: sys_path_value(root, sys.path)} if sync_paths else {}
    return EnvironmentDraft(
        name=environment.name,
        image=image,
        depends_on=tuple(dict.fromkeys(other.name for other in environment.depends_on)),
        tasks=asyncio.run(_draft_tasks(environment.tasks.values(), context, paths)),
        file=_relative(declaring_file(environment), root),
    )


def sys_path_value(root: Path, entries: Iterable[str]) -> str:
    """What the SDK gives tasks of the local `sys.path`: its entries under the root, relative to it.

    Unlike the SDK we leave out installed packages: a virtual environment that happens to lie under the root is of this
    machine, and would make another version of the same code.
    """
    local = [Path(entry) for entry in entries if "site-packages" not in entry and "dist-packages" not in entry]
    return ":".join(f"./{path.relative_to(root)}" for path in local if path.is_relative_to(root))


def image_cache_of(environments: Iterable[Environment]) -> ImageCache:
    """The cache that drafts carry: a stand-in for each image that the SDK would put there."""
    names = [e.name for e in environments if e.image == "auto" or isinstance(e.image, Image)]
    lookup = {name: standins.image(name) for name in names}
    return ImageCache(image_lookup=lookup, serialized_form=standins.IMAGE_CACHE)


def draft_image(image: str | Image | None, plan: PlanImage, *, has_code: bool = False) -> ImageDraft:
    """What an environment says about its image. `has_code`: the image holds the code, where no bundle does.

    Raises:
        ImageError: it has to be built, and cannot.
    """
    if image is None or image == "":
        return ImageDraft(kind="none")
    if image == "auto":
        return ImageDraft(kind="auto", uri=Image.from_debian_base().uri)
    if isinstance(image, str):
        return ImageDraft(kind="fixed", uri=image)
    if not has_code and any(isinstance(layer, CodeBundleLayer) for layer in image._layers):
        image = _without_code(image)
    if image.dockerfile is None and not image._layers:
        if image._ref_name is not None:
            return ImageDraft(kind="ref", reference=image._ref_name)
        if not image._is_cloned and image.base_image:
            return ImageDraft(kind="uri", uri=image.uri)
    return ImageDraft(kind="build", build=plan(image))


def _without_code(image: Image) -> Image:
    """The same image without the code in it, which a bundle brings."""
    bare = copy.copy(image)
    vars(bare).pop("uri", None)  # cached
    kept = tuple(layer for layer in image._layers if not isinstance(layer, CodeBundleLayer))
    object.__setattr__(bare, "_layers", kept)
    return bare


async def _draft_tasks(
    tasks: Iterable[TaskTemplate[Any, Any, Any]], context: SerializationContext, paths: Mapping[str, str]
) -> tuple[TaskDraft, ...]:
    return tuple([await _draft_task(task, context, paths) for task in tasks])


async def _draft_task(
    task: TaskTemplate[Any, Any, Any], context: SerializationContext, paths: Mapping[str, str]
) -> TaskDraft:
    code = getattr(getattr(task, "func", None), "__code__", None)
    assert context.root_dir is not None
    source = _relative(code.co_filename, context.root_dir) if code else ""
    line = code.co_firstlineno + 1 if code else 0
    try:
        spec, triggers = await _serialize(task, context, paths)
    except Exception as error:
        raise TaskNotSerialized(
            task=task.name, file=source, line=max(line - 1, 0), reason=f"{type(error).__name__}: {error}"
        ) from error
    return TaskDraft(
        name=task.name,
        spec=spec.SerializeToString(deterministic=True),
        triggers=tuple(trigger.SerializeToString(deterministic=True) for trigger in triggers),
        source_file=source,
        source_line=line,
    )


async def _serialize(
    task: TaskTemplate[Any, Any, Any], context: SerializationContext, paths: Mapping[str, str]
) -> tuple[task_definition_pb2.TaskSpec, list[task_definition_pb2.TaskTrigger]]:
    # The order and the additions are those of the SDK's own deploy, so that the result is the same, field by field.
    task = copy.copy(task)
    if paths:
        task.env_vars = {**(task.env_vars or {}), **paths}
    defaults = await convert_upload_default_inputs(task.interface)
    spec = translate_task_to_wire(task, context, default_inputs=defaults, task_context=_link_context(context))
    environment = task.parent_env() if task.parent_env else None
    if environment is not None and environment.description:
        spec.environment.description = environment.description
    spec.documentation.CopyFrom(_documentation(task))
    interface = _update_interface_inputs_and_outputs_docstring(spec.task_template.interface, task.native_interface)
    spec.task_template.interface.CopyFrom(interface)
    triggers = [
        await to_task_trigger(
            t=trigger,
            task_name=task.name,
            task_inputs=spec.task_template.interface.inputs,
            task_default_inputs=list(spec.default_inputs),
        )
        for trigger in task.triggers
    ]
    return spec, triggers


def _link_context(context: SerializationContext) -> TaskContext:
    """What log links are made with: the backend's own templates."""
    action = ActionID(
        name="{{.actionName}}",
        run_name="{{.runName}}",
        project="{{.executionProject}}",
        domain="{{.executionDomain}}",
        org="{{.executionOrg}}",
    )
    return TaskContext(
        action=action,
        output_path=context.output_path,
        version=context.version,
        raw_data_path=RawDataPath(path=""),
        compiled_image_cache=context.image_cache,
        run_base_dir="",
        report=flyte.report.Report(name=action.name),
        custom_context={},
    )


def _documentation(task: TaskTemplate[Any, Any, Any]) -> task_definition_pb2.DocumentationEntity:
    """Descriptions from the docstring. The link to the source is bound later: it names a commit, not content."""
    docstring = task.interface.docstring
    short = docstring.short_description if docstring else None
    long = docstring.long_description if docstring else None
    return task_definition_pb2.DocumentationEntity(
        short_description=parse_description(short, SHORT_DESCRIPTION_LIMIT) if short else None,
        long_description=parse_description(long, LONG_DESCRIPTION_LIMIT) if long else None,
    )


@functools.cache  # the tasks of a file share it
def _relative(path: str, root: Path) -> str:
    try:
        return Path(path).resolve().relative_to(root).as_posix()
    except ValueError:
        return path


def actor_version(template: tasks_pb2.TaskTemplate, bundle_version: str | None) -> str:
    """The version of a reusable environment's container, which the SDK derives from the bound template."""
    policy = template.reuse_policy
    rebuilt = flyte.ReusePolicy(
        replicas=(policy.min_replicas, policy.max_replicas),
        concurrency=policy.concurrency,
        idle_ttl=policy.idle_ttl.ToTimedelta(),
        scaledown_ttl=policy.scaledown_ttl.ToTimedelta(),
    )
    bundle = None if bundle_version is None else CodeBundle(tgz=standins.BUNDLE, computed_version=bundle_version)
    version, _ = extract_unique_id_and_image(template.custom["name"], bundle, template, rebuilt)
    return version[:ACTOR_VERSION_LENGTH]
