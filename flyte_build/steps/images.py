"""Images: from what environments say to the URIs that go into specs. What is not in its registry yet is built."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

from msgspec.structs import replace

from flyte_build.errors import ImageFilesChanged, ImageNotRemote, ImageReferenceUnknown, RegistryNotSet
from flyte_build.model import BackendSettings, Discovery, EnvironmentDraft, ImageBuild, ImageSettings, Target, Value
from flyte_build.state import receipts
from flyte_build.state.receipts import Receipt
from flyte_build.steps import Outcome, discover

if TYPE_CHECKING:
    from flyte_build.images.naming import NamedBuild
    from flyte_build.project import Project

NAME = "images"
FORMAT = 3


class Key(Value, frozen=True):
    format: int
    declared: str
    """Digest of what the environments say."""
    builder: str
    registry: str
    default: str
    mirrors: dict[str, str]
    refs: dict[str, str]
    platforms: tuple[str, ...]
    build_args: dict[str, str]
    pin: bool
    backend: BackendSettings | None
    """Whose builder it is; None when images are built here. Where layers are cached changes nothing of an image."""


class Image(Value, frozen=True):
    """An image that was built, or found where it would have gone."""

    digest: str
    """Of its manifest; empty: the backend's builder does not tell."""
    how: Literal["built", "reused"]


class Result(Value, frozen=True):
    uris: dict[str, str]
    """Environment -> URI, by name: so is the image cache that tasks carry."""
    images: dict[str, Image] = {}
    """URI with its tag -> image, for those that are made of layers."""


class Wanted(NamedTuple):
    """What the environments of a target need, before any registry is asked."""

    uris: dict[str, str]
    """Environment -> URI, with the tag of those that are built, in the order that a receipt has: by name."""
    builds: dict[str, NamedBuild]
    """URI -> how it is built: each once, however many environments share it."""
    drafts: dict[str, ImageBuild]
    """URI -> what the environments say of it."""


def key(project: Project, target: Target) -> Key:
    settings = project.manifest.images
    return Key(
        format=FORMAT,
        declared=project.result(target.name, discover.NAME, discover.Result).images,
        builder=settings.builder,
        registry=settings.registry,
        default=settings.default,
        mirrors=settings.mirrors,
        refs=settings.refs,
        platforms=settings.platforms,
        build_args=settings.build_args,
        pin=settings.pin,
        backend=project.manifest.backend if settings.builder == "remote" else None,
    )


def run(project: Project, target: Target) -> Outcome:
    """Find each environment's image, and build what is not there.

    Raises:
        StepError: an image cannot be found or built, or is named by an unknown reference.
    """
    needed = wanted(discover.load(project, target), project.manifest.images, root_dir=target.root_dir)
    if not needed.builds:
        count = len(set(needed.uris.values()))
        return Outcome(result=Result(uris=needed.uris), summary=f"{count} image{'s' if count != 1 else ''} named")
    _bring_contexts(project, target, needed.drafts.values())
    from flyte_build.builders import building

    workshop = building.Workshop(
        folder=project.state.images,
        objects=project.state.objects,
        settings=project.manifest.images,
        backend=project.manifest.backend,
        environ=project.environ,
        show=lambda line: project.show(NAME, target.name, line),
    )
    places: dict[str, str] = {}
    images: dict[str, Image] = {}
    for uri, build in needed.builds.items():
        made = building.ensure(workshop, build, needed.drafts[uri])
        images[uri] = Image(digest=made.digest, how=made.how)
        places[uri] = made.uri
    uris = {environment: places.get(uri, uri) for environment, uri in needed.uris.items()}
    return Outcome(result=Result(uris=uris, images=images), summary=_summary(images.values()))


def _bring_contexts(project: Project, target: Target, builds: Iterable[ImageBuild]) -> None:
    """Make again what images are built from, where the discovery was made elsewhere and came without.

    Raises:
        StepError: the code cannot be loaded.
        ImageFilesChanged
    """
    contexts = {f"objects/{build.context}": build.context for build in builds if build.context}
    if all((project.state.root / path).is_file() for path in contexts):
        return
    path, receipt = project.state.receipt(target.name, discover.NAME), project.receipt(target.name, discover.NAME)
    assert isinstance(receipt, Receipt)
    if contexts.keys() <= discover.run(project, target).outputs.keys():
        receipts.save(path, replace(receipt, outputs={**receipt.outputs, **contexts}))
    else:
        receipts.forget(path)
        raise ImageFilesChanged(target=target.name)


def clean(project: Project, target: Target, *, dryrun: bool) -> tuple[str, ...]:
    """Remove from the engine what was built here of a target's images, and what no target has any more.

    No registry is asked. Gives the images' URIs.
    """
    from flyte_build.builders import building

    named = {name: _recorded(project, name) for name in project.manifest.targets}
    others = {uri for name, uris in named.items() for uri in uris if name != target.name}
    folder = project.state.images
    found = tuple(uri for uri in building.built(folder) if uri in named[target.name] or uri not in others)
    return found if dryrun else tuple(uri for uri in found if building.forget(folder, uri, project.environ))


def _recorded(project: Project, target: str) -> Collection[str]:
    """URIs of the images that a target's receipt names."""
    receipt = project.receipt(target, NAME)
    result = receipt.read_if_known(Result) if isinstance(receipt, Receipt) else None
    return result.images if result else ()


def _summary(images: Iterable[Image]) -> str:
    ways = [image.how for image in images]
    return ", ".join(f"{ways.count(how)} {how}" for how in ("built", "reused") if how in ways)


def wanted(discovery: Discovery, settings: ImageSettings, *, root_dir: str = ".") -> Wanted:
    """What a target's environments need: a pure decision. `root_dir` is for messages.

    Raises:
        ImageReferenceUnknown: a reference is not in `[images.refs]`.
        RegistryNotSet: an image is to be built, and nothing says where to.
    """
    drafts = {
        environment.name: replace(environment, file=posixpath.normpath(posixpath.join(root_dir, environment.file)))
        for environment in discovery.environments
    }
    uris: dict[str, str] = {}
    builds: dict[str, NamedBuild] = {}
    said: dict[str, ImageBuild] = {}
    for name, draft in sorted(drafts.items()):
        if draft.image.build is not None:
            build = _named(draft, draft.image.build, settings)
            uris[name] = build.uri
            builds[build.uri], said[build.uri] = build, draft.image.build
        elif uri := _uri(draft, settings):
            uris[name] = uri
    return Wanted(uris=uris, builds=builds, drafts=said)


def decides_uris(settings: ImageSettings) -> bool:
    """Whether an image's URI is known only when it is there: by its digest, or as the backend's builder names it."""
    return settings.pin or settings.builder == "remote"


def _named(environment: EnvironmentDraft, build: ImageBuild, settings: ImageSettings) -> NamedBuild:
    from flyte_build.images import naming

    base = _referred(environment, build.base_reference, settings) if build.base_reference else ""
    found = naming.named(build, settings, base)
    if settings.builder == "local" and found.repository == build.name:
        raise RegistryNotSet(environment=environment.name, image=build.name)
    if settings.builder == "remote" and build.remote_refusal:
        raise ImageNotRemote(environment=environment.name, file=environment.file, reason=build.remote_refusal)
    return found


def _uri(environment: EnvironmentDraft, settings: ImageSettings) -> str:
    image = environment.image
    match image.kind:
        case "uri":
            return image.uri
        case "auto":
            return settings.default or image.uri
        case "ref":
            return _referred(environment, image.reference, settings)
        case _:
            return ""


def _referred(environment: EnvironmentDraft, reference: str, settings: ImageSettings) -> str:
    known = {**settings.refs, **({"default": settings.default} if settings.default else {})}
    uri = known.get(reference)
    if uri is None:
        raise ImageReferenceUnknown(
            environment=environment.name, file=environment.file, reference=reference, known=tuple(known)
        )
    return uri
