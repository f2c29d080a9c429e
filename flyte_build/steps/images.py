"""Images: from what environments say to the URIs that go into specs."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flyte_build.errors import ImageNeedsBuild, ImageReferenceUnknown
from flyte_build.model import Discovery, EnvironmentDraft, ImageSettings, Target, Value
from flyte_build.steps import Outcome, discover

if TYPE_CHECKING:
    from flyte_build.project import Project

NAME = "images"
FORMAT = 1


class Key(Value, frozen=True):
    format: int
    images: str
    """Digest of what the environments say."""
    builder: str
    registry: str
    default: str
    mirrors: dict[str, str]
    refs: dict[str, str]


class Result(Value, frozen=True):
    uris: dict[str, str]
    """Environment -> URI, in the order of the image cache that tasks carry."""


def key(project: Project, target: Target) -> Key:
    settings = project.manifest.images
    return Key(
        format=FORMAT,
        images=project.result(target.name, discover.NAME, discover.Result).images,
        builder=settings.builder,
        registry=settings.registry,
        default=settings.default,
        mirrors=settings.mirrors,
        refs=settings.refs,
    )


def run(project: Project, target: Target) -> Outcome:
    """Find each environment's image.

    Raises:
        StepError: an image must be built, or is named by an unknown reference.
    """
    uris = resolve(discover.load(project, target), project.manifest.images, root_dir=target.root_dir)
    count = len(set(uris.values()))
    return Outcome(result=Result(uris=uris), summary=f"{count} image{'s' if count != 1 else ''} named")


def resolve(discovery: Discovery, settings: ImageSettings, *, root_dir: str = ".") -> dict[str, str]:
    """Environment -> image URI, for those whose image tasks look up at run time. `root_dir` is for messages."""
    drafts = {
        environment.name: replace(environment, file=posixpath.normpath(posixpath.join(root_dir, environment.file)))
        for environment in discovery.environments
    }
    names = before_dependencies(discovery.selected, {name: draft.depends_on for name, draft in drafts.items()})
    resolved = ((name, _uri(drafts[name], settings)) for name in names if name in drafts)
    return {name: uri for name, uri in resolved if uri}


def before_dependencies(selected: Iterable[str], depends_on: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Each environment once, depth first, before what it depends on: the SDK's order of its image cache."""
    seen: set[str] = set()

    def visit(name: str) -> Iterator[str]:
        if name not in seen:
            seen.add(name)
            yield name
            for other in depends_on.get(name, ()):
                yield from visit(other)

    for name in selected:
        yield from visit(name)


def _uri(environment: EnvironmentDraft, settings: ImageSettings) -> str:
    image = environment.image
    match image.kind:
        case "none" | "fixed":
            return ""
        case "uri":
            return image.uri
        case "auto":
            return settings.default or image.uri
        case "ref":
            return _referred(environment, settings)
        case "build":
            raise ImageNeedsBuild(environment=environment.name, file=environment.file, reason=image.reason)


def _referred(environment: EnvironmentDraft, settings: ImageSettings) -> str:
    known = {**settings.refs, **({"default": settings.default} if settings.default else {})}
    uri = known.get(environment.image.reference)
    if uri is None:
        raise ImageReferenceUnknown(
            environment=environment.name,
            file=environment.file,
            reference=environment.image.reference,
            known=tuple(known),
        )
    return uri
