"""Serialize: bind drafts to a version, a bundle, images, a project and a domain. No code of the user's is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from flyte_build import git, standins, versions
from flyte_build.binding import ACTOR, Binding, replace_standins
from flyte_build.errors import BundleEmpty, VersionTooLong
from flyte_build.model import Discovery, EnvironmentDraft, Registration, Target, TaskDraft, Upload, Value
from flyte_build.state import digest
from flyte_build.steps import Outcome, bundle, discover, images, upload

if TYPE_CHECKING:
    from flyte_build.project import Project

NAME = "serialize"
VERSION_LIMIT = 63
"""Characters, by the rule of `TaskIdentifier.version`."""
FORMAT = 1
_SHOWN = 3
"""Files that a note names."""


class Key(Value, frozen=True):
    format: int
    sdk: str
    discovery: str
    bundle: str
    bundle_uri: str
    images: dict[str, str]
    version: str
    """As in the manifest, with everything filled in but the content."""
    project: str
    domain: str
    org: str


class Result(Value, frozen=True):
    registrations: str
    """Digest of the list of `Registration`, which is kept under it."""
    content: str
    """Digest of what is registered, links to the source apart."""
    version: str
    tasks: int


class Registrations(Value, frozen=True):
    """What a target registers: in waves, each of which depends only on those before it."""

    waves: tuple[tuple[Registration, ...], ...]


def key(project: Project, target: Target) -> Key:
    settings = project.manifest.backend
    discovered = project.result(target.name, discover.NAME, discover.Result)
    return Key(
        format=FORMAT,
        sdk=discovered.sdk,
        discovery=discovered.discovery,
        bundle=project.result(target.name, bundle.NAME, bundle.Result).digest,
        bundle_uri=project.result(target.name, upload.NAME, Upload).uri,
        images=project.result(target.name, images.NAME, images.Result).uris,
        version=versions.fill(target, project.folder, project.environ),
        project=settings.project,
        domain=settings.domain,
        org=settings.org,
    )


def load(project: Project, target: Target) -> Registrations:
    """The registrations that the receipt names."""
    result = project.result(target.name, NAME, Result)
    return msgspec.json.decode(project.state.object(result.registrations).read_bytes(), type=Registrations)


def run(project: Project, target: Target) -> Outcome:
    """Bind the target's drafts."""
    now = key(project, target)
    discovery = discover.load(project, target)
    content = content_version(discovery, now.bundle, now.images)
    binding = Binding(
        version=now.version.replace(versions.CONTENT, content),
        project=now.project,
        domain=now.domain,
        org=now.org,
        images=now.images,
        bundle_uri=now.bundle_uri,
        bundle_version=now.bundle,
    )
    check(target, discovery, binding.version, bundle_digest=now.bundle)
    registrations = bind(discovery, binding)
    described = digest.of_parts("specs", [part for wave in registrations.waves for r in wave for part in _content(r)])
    linked = with_links(registrations, discovery, project, target)
    kept = project.state.put_object(linked.json())
    tasks = sum(map(len, registrations.waves))
    return Outcome(
        result=Result(registrations=kept, content=described, version=binding.version, tasks=tasks),
        outputs={f"objects/{kept}": kept},
        summary=f"version {binding.version}",
        notes=_uncommitted_note(project, target),
    )


def _uncommitted_note(project: Project, target: Target) -> tuple[str, ...]:
    """Told with the first target that meets it: the checkout is the same for all."""
    named = [name for name in ("{git_sha}", "{git_tag}") if name in target.version]
    changed = git.uncommitted(project.folder) if named else ()
    if not changed or not project.is_news("uncommitted"):
        return ()
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    other = ", or put `{content}` into `version` too" if versions.is_explicit(target.version) else ""
    return (
        f"`{named[0]}` in `version` names a commit that the folder is not: {', '.join(changed[:_SHOWN])}{more}; "
        f"commit that first{other}",
    )


def check(target: Target, discovery: Discovery, version: str, *, bundle_digest: str) -> None:
    """Refuse what would be registered and could never run.

    Raises:
        StepError: the version is too long, or the tasks need a bundle and there is none.
    """
    if len(version) > VERSION_LIMIT:
        raise VersionTooLong(place=target.place("version"), version=version, limit=VERSION_LIMIT)
    drafts = (task for environment in discovery.environments for task in environment.tasks)
    if not bundle_digest and any(standins.BUNDLE.encode() in task.spec for task in drafts):
        raise BundleEmpty(place=target.place())


def content_version(discovery: Discovery, bundle_digest: str, image_uris: dict[str, str]) -> str:
    """The version that stands for the content: code, drafts and images, and nothing of the machine."""
    in_order = [part for item in image_uris.items() for part in item]
    parts: list[str | bytes] = [bundle_digest, digest.of_parts("images", in_order)]
    for environment in discovery.environments:
        parts += [environment.name, image_uris.get(environment.name, environment.image.uri)]
        for task in environment.tasks:
            parts += [task.name, task.spec, *task.triggers]
    return digest.of_parts("version", parts)


def bind(discovery: Discovery, binding: Binding) -> Registrations:
    """Every task of a discovery as a message ready to be sent, dependencies first."""
    values = binding.values()
    waves = tuple(
        tuple(_bind_task(task, environment.name, binding, values) for environment in wave for task in environment.tasks)
        for wave in waves_of(discovery.environments)
    )
    return Registrations(waves=tuple(wave for wave in waves if wave))


def waves_of(environments: Sequence[EnvironmentDraft]) -> list[list[EnvironmentDraft]]:
    """Environments in groups: one stands after all that it depends on. They come with dependencies first."""
    depth: dict[str, int] = {}
    for environment in environments:
        depth[environment.name] = 1 + max((depth.get(other, 0) for other in environment.depends_on), default=0)
    return [[e for e in environments if depth[e.name] == level] for level in sorted(set(depth.values()))]


def _bind_task(task: TaskDraft, environment: str, binding: Binding, values: dict[str, str]) -> Registration:
    from flyteidl2.task import task_definition_pb2

    spec = task_definition_pb2.TaskSpec.FromString(task.spec)
    replace_standins(spec, values)
    if spec.task_template.type == ACTOR:
        from flyte_build import sdk

        version = sdk.actor_version(spec.task_template, binding.bundle_version or None)
        spec.task_template.custom["version"] = version
    triggers = []
    for data in task.triggers:
        trigger = task_definition_pb2.TaskTrigger.FromString(data)
        replace_standins(trigger, values)
        triggers.append(trigger.SerializeToString(deterministic=True))
    return Registration(
        name=task.name,
        environment=environment,
        version=binding.version,
        spec=spec.SerializeToString(deterministic=True),
        triggers=tuple(triggers),
    )


def _content(registration: Registration) -> tuple[str | bytes, ...]:
    return (registration.name, registration.spec, *registration.triggers)


def with_links(registrations: Registrations, discovery: Discovery, project: Project, target: Target) -> Registrations:
    """The same, each task with the address of its source where git knows one."""
    checkout = git.checkout(project.folder)
    if checkout is None:
        return registrations
    root = project.root(target)
    links = {
        task.name: checkout.link(root / task.source_file, task.source_line)
        for environment in discovery.environments
        for task in environment.tasks
        if task.source_file
    }
    waves = tuple(tuple(_linked(r, links.get(r.name, "")) for r in wave) for wave in registrations.waves)
    return Registrations(waves=waves)


def _linked(registration: Registration, link: str) -> Registration:
    from flyteidl2.task import task_definition_pb2

    if not link:
        return registration
    spec = task_definition_pb2.TaskSpec.FromString(registration.spec)
    spec.documentation.source_code.link = link
    return msgspec.structs.replace(registration, spec=spec.SerializeToString(deterministic=True))
