"""One image, brought to where it belongs: looked up, and built and pushed if it is not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flyte_build import errors
from flyte_build.builders import buildkit, engine, registry
from flyte_build.builders.registry import Absent, Found, Unknown
from flyte_build.images.naming import NamedBuild
from flyte_build.images.references import parse
from flyte_build.model import BackendSettings, ImageBuild, ImageSettings, Value
from flyte_build.state import digest
from flyte_build.state.folder import write_atomically
from flyte_build.state.lock import exclusive


class Made(Value, frozen=True):
    """An image that is there."""

    uri: str
    """Under which tasks find it."""
    digest: str
    """Of its manifest; empty: the backend's builder does not tell."""
    how: Literal["built", "reused"]


@dataclass(frozen=True)
class Workshop:
    """Where images are made, and with what."""

    folder: Path
    """Of logs, locks, and the list of what was built here."""
    objects: Path
    """Of contexts, by digest."""
    settings: ImageSettings
    backend: BackendSettings
    environ: Mapping[str, str]
    show: Callable[[str], None]
    """Told each line of a build as it comes."""

    def file(self, uri: str, ending: str) -> Path:
        return file_of(self.folder, uri, ending)


def ensure(workshop: Workshop, build: NamedBuild, draft: ImageBuild) -> Made:
    """An image that is in its registry, or with the backend, after this. One process at a time builds it.

    Raises:
        StepError: nobody can tell whether it is there, or it cannot be built or pushed.
    """
    with exclusive(workshop.file(build.uri, "lock")):
        if workshop.settings.builder == "remote":
            return _remotely(workshop, build, draft)
        found = _find(build)
        if found is not None:
            return _made(workshop, build, found, "reused")
        _build(workshop, build)
        pushed = _find(build)
        if pushed is None:
            raise errors.PushedImageMissing(uri=build.uri, registry=parse(build.uri).registry)
        return _made(workshop, build, pushed, "built")


def has_all(found: Found, platforms: tuple[str, ...]) -> bool:
    """Whether an image is there for each of the platforms."""
    return set(map(registry.normal_platform, platforms)) <= set(found.platforms)


def _find(build: NamedBuild) -> Found | None:
    match registry.ask(parse(build.uri)):
        case Found() as found:
            return found if has_all(found, build.platforms) else None
        case Absent():
            return None
        case Unknown(reason=reason):
            raise errors.ImageStateUnknown(uri=build.uri, reason=reason, registry=parse(build.uri).registry)


def _made(workshop: Workshop, build: NamedBuild, found: Found, how: Literal["built", "reused"]) -> Made:
    uri = f"{build.repository}@{found.digest}" if workshop.settings.pin else build.uri
    return Made(uri=uri, digest=found.digest, how=how)


def _build(workshop: Workshop, build: NamedBuild) -> None:
    buildkit.secret_options(build, workshop.environ)  # said before anything slow begins
    found = engine.find(build, workshop.environ)
    context = str(workshop.objects / build.context) if build.context else ""
    request = buildkit.Request(
        build=build,
        context=context,
        log=os.path.relpath(workshop.file(build.uri, "log")),
        cache_from=workshop.settings.cache_from,
        cache_to=workshop.settings.cache_to,
    )
    write_atomically(workshop.file(build.uri, "built"), build.uri.encode())
    buildkit.build_and_push(found, request, workshop.environ, workshop.show)


def _remotely(workshop: Workshop, build: NamedBuild, draft: ImageBuild) -> Made:
    from flyte_build.builders import remote

    name = f"{build.repository.rpartition('/')[2]}:{build.tag}"
    if uri := remote.find(workshop.backend, name):
        return Made(uri=uri, digest="", how="reused")
    uri = remote.build(
        workshop.backend,
        name=build.uri,
        spec=_with_base(draft.remote_spec, build.base),
        context=workshop.objects / build.context if build.context else None,
        secrets=(*build.secrets, *((draft.registry_secret,) if draft.registry_secret else ())),
        started=lambda url: workshop.show(f"building at {url}"),
    )
    return Made(uri=uri, digest="", how="built")


def _with_base(spec: bytes, base: str) -> bytes:
    """The specification, with the base that its reference stands for."""
    if not base:
        return spec
    from flyteidl2.imagebuilder.definition_pb2 import ImageSpec

    message = ImageSpec.FromString(spec)
    message.base_image = base
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def forget(folder: Path, uri: str, environ: Mapping[str, str]) -> bool:
    """Remove an image that was built here from the engine, with its log. Gives whether it is gone."""
    if not engine.remove(uri, environ):
        return False
    for ending in ("built", "log", "lock"):
        file_of(folder, uri, ending).unlink(missing_ok=True)
    return True


def built(folder: Path) -> tuple[str, ...]:
    """URIs of what this project has built and not cleaned."""
    return tuple(sorted(record.read_text() for record in folder.glob("*.built")))


def file_of(folder: Path, uri: str, ending: str) -> Path:
    """Where a log, a lock or the record of a build is."""
    return folder / f"{digest.of_parts('image', [uri])}.{ending}"
