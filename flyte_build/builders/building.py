"""Images, brought to where they belong: looked up, and built and pushed if they are not there; several at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from flyte_build import errors
from flyte_build.builders import buildkit, registry
from flyte_build.builders.engine import Engines, remove
from flyte_build.builders.registry import Absent, Elsewhere, Found, Misnamed, Registries, Unknown
from flyte_build.children import Children
from flyte_build.images.naming import NamedBuild
from flyte_build.images.references import parse
from flyte_build.model import BackendSettings, ImageBuild, ImageSettings, Value
from flyte_build.once import once
from flyte_build.state.folder import image_file, write_atomically
from flyte_build.state.lock import exclusive

if TYPE_CHECKING:
    from flyte_build.backend import Backend
    from flyte_build.builders.remote import RemoteBuilder

AT_A_TIME = 8
"""Images of a run. Builds wait for what they fetch and push, so more of them keep an engine busy than it has cores; too
many would share too little memory."""


class Made(Value, frozen=True):
    """An image that is there."""

    uri: str
    """Under which tasks find it."""
    digest: str
    """Of its manifest; empty: the backend's builder does not tell."""
    how: Literal["built", "reused"]


class Job(NamedTuple):
    """An image to be brought."""

    build: NamedBuild
    draft: ImageBuild
    """What the code says of it."""

    @property
    def uri(self) -> str:
        return self.build.uri


Show = Callable[[str, str], None]
"""Told each line of a build as it comes: the image's URI, and the line."""


@dataclass(frozen=True)
class Workshop:
    """Where images are made, and with what: one for a run, for all its threads."""

    folder: Path
    """Of logs, locks, and the list of what was built here."""
    objects: Path
    """Of contexts, by digest."""
    settings: ImageSettings
    backend: BackendSettings
    open_backend: Callable[[], Backend]
    environ: Mapping[str, str]
    registries: Registries = field(default_factory=Registries)
    children: Children = field(default_factory=Children)
    made: dict[str, Made] = field(default_factory=dict)
    """By URI, for what other targets of the run need, too."""

    @once
    def engines(self) -> Engines:
        return Engines(self.environ)

    @once
    def remote(self) -> RemoteBuilder:
        from flyte_build.builders import remote

        return remote.RemoteBuilder(self.backend, self.open_backend())

    @once
    def threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="images")

    def file(self, uri: str, ending: str) -> Path:
        return file_of(self.folder, uri, ending)

    def close(self) -> None:
        """Let go of connections, and of threads as they come to an end."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.registries.close()


def ensure_all(workshop: Workshop, jobs: Iterable[Job], show: Show, *, one_by_one: bool) -> dict[str, Made]:
    """Images that are in their registries, or with the backend, after this, by their URIs with tags.

    One that fails stops no other. `one_by_one`: in this thread, instead of at the same time in others.

    Raises:
        StepError: nobody can tell whether one is there, or it cannot be built or pushed.
    """
    jobs = tuple(jobs)
    outcomes = [_outcome(workshop, job, show) for job in jobs] if one_by_one else _at_once(workshop, jobs, show)
    failures = [outcome for outcome in outcomes if isinstance(outcome, errors.StepError)]
    if failures:
        raise failures[0] if len(failures) == 1 else _told_once(jobs, outcomes)
    return {job.uri: outcome for job, outcome in zip(jobs, outcomes, strict=True) if isinstance(outcome, Made)}


def _at_once(workshop: Workshop, jobs: tuple[Job, ...], show: Show) -> list[Made | errors.StepError]:
    """What became of each, in their order. Ctrl-C, where it comes to this thread, ends all."""
    under_way: list[Future[Made | errors.StepError]] = []
    try:
        under_way += (workshop.threads.submit(_outcome, workshop, job, show) for job in jobs)
        wait(under_way)
    except BaseException:
        workshop.children.end()
        for each in under_way:
            each.cancel()
        raise
    return [each.result() for each in under_way]


def _outcome(workshop: Workshop, job: Job, show: Show) -> Made | errors.StepError:
    try:
        return ensure(workshop, job, lambda line: show(job.uri, line))
    except errors.StepError as error:
        return error


def _told_once(jobs: Iterable[Job], outcomes: Iterable[Made | errors.StepError]) -> errors.SeveralImagesFailed:
    """The failures in their order; those that differ in nothing but the image are told as one."""
    alike: dict[str, list[str]] = {}
    first: dict[str, errors.StepError] = {}
    for job, outcome in zip(jobs, outcomes, strict=True):
        if isinstance(outcome, errors.StepError):
            what = outcome.message.replace(job.uri, "")
            first.setdefault(what, outcome)
            alike.setdefault(what, []).append(job.uri)
    return errors.SeveralImagesFailed(
        failures=tuple(first.values()), alike=tuple(tuple(uris[1:]) for uris in alike.values())
    )


def ensure(workshop: Workshop, job: Job, show: Callable[[str], None]) -> Made:
    """An image that is where it belongs after this. One thread or process at a time builds it.

    Raises:
        StepError: nobody can tell whether it is there, or it cannot be built or pushed.
    """
    with exclusive(workshop.file(job.uri, "lock")):
        made = workshop.made.get(job.uri)
        if made is not None:
            return Made(uri=made.uri, digest=made.digest, how="reused")
        bring = _remotely if workshop.settings.builder == "remote" else _here
        workshop.made[job.uri] = made = bring(workshop, job, show)
        return made


def _here(workshop: Workshop, job: Job, show: Callable[[str], None]) -> Made:
    build = job.build
    found = _find(workshop.registries, build)
    if found is not None:
        return _made(workshop, build, found, "reused")
    _build(workshop, build, show)
    pushed = _find(workshop.registries, build)
    if pushed is None:
        raise errors.PushedImageMissing(uri=build.uri, registry=parse(build.uri).registry)
    return _made(workshop, build, pushed, "built")


def has_all(found: Found, platforms: tuple[str, ...]) -> bool:
    """Whether an image is there for each of the platforms."""
    return set(map(registry.normal_platform, platforms)) <= set(found.platforms)


def _find(registries: Registries, build: NamedBuild) -> Found | None:
    place = parse(build.uri)
    match registries.ask(place):
        case Found() as found:
            return found if has_all(found, build.platforms) else None
        case Absent():
            return None
        case Unknown(reason=reason):
            raise errors.ImageStateUnknown(uri=build.uri, reason=reason, registry=place.registry)
        case Misnamed(reason=reason):
            raise errors.RegistryMisnamed(uri=build.uri, registry=place.registry, reason=reason)
        case Elsewhere(address=address, said=said):
            raise errors.NotARegistry(uri=build.uri, registry=place.registry, address=address, said=said)


def _made(workshop: Workshop, build: NamedBuild, found: Found, how: Literal["built", "reused"]) -> Made:
    uri = f"{build.repository}@{found.digest}" if workshop.settings.pin else build.uri
    return Made(uri=uri, digest=found.digest, how=how)


def _build(workshop: Workshop, build: NamedBuild, show: Callable[[str], None]) -> None:
    buildkit.secret_options(build, workshop.environ)  # said before anything slow begins
    site = buildkit.Site(workshop.engines.find(build), workshop.environ, workshop.children)
    context = str(workshop.objects / build.context) if build.context else ""
    request = buildkit.Request(
        build=build,
        context=context,
        log=os.path.relpath(workshop.file(build.uri, "log")),
        cache_from=workshop.settings.cache_from,
        cache_to=workshop.settings.cache_to,
    )
    write_atomically(workshop.file(build.uri, "built"), build.uri.encode())
    buildkit.build_and_push(site, request, show)


def _remotely(workshop: Workshop, job: Job, show: Callable[[str], None]) -> Made:
    build, draft = job
    name = f"{build.repository.rpartition('/')[2]}:{build.tag}"
    if uri := workshop.remote.find(name):
        return Made(uri=uri, digest="", how="reused")
    uri = workshop.remote.build(
        name=build.uri,
        spec=_with_base(draft.remote_spec, build.base),
        context=workshop.objects / build.context if build.context else None,
        secrets=(*build.secrets, *((draft.registry_secret,) if draft.registry_secret else ())),
        started=lambda url: show(f"building at {url}"),
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
    if not remove(uri, environ):
        return False
    for ending in ("built", "log", "lock"):
        file_of(folder, uri, ending).unlink(missing_ok=True)
    return True


def built(folder: Path) -> tuple[str, ...]:
    """URIs of what this project has built and not cleaned."""
    return tuple(sorted(record.read_text() for record in folder.glob("*.built")))


def file_of(folder: Path, uri: str, ending: str) -> Path:
    """Where a log, a lock or the record of a build is."""
    return folder / image_file(uri, ending)
