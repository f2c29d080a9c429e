"""`doit plan`: what a deploy would do to one target, from what is known locally. No network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flyte_build import pipeline, versions
from flyte_build.model import Cause, Stale, Target, Value
from flyte_build.state.receipts import Receipt
from flyte_build.steps import bundle, deploy, discover, images, serialize, upload

if TYPE_CHECKING:
    from flyte_build.project import Project


UNKNOWN = "[images]"
"""In a version: what is known when the images are built, whose digests or places it depends on."""


class Plan(Value, frozen=True):
    """What would be done. Empty `register` and `upload`: nothing."""

    target: str
    version: str
    deployed_version: str
    """What is registered there now, as far as this checkout knows; empty: nothing."""
    register: tuple[str, ...]
    """Names of tasks."""
    upload: str
    """File name of the bundle that would be sent; empty: none."""
    bundle_files: int
    bundle_size: int
    """Bytes before compression."""
    archive_size: int
    images: dict[str, str]
    """Environment -> URI, with its tag."""
    builds: dict[str, str]
    """URI of each image that is made of layers -> what would be done about it, and why."""
    reason: str
    """Why something would be done; empty when nothing would."""
    cause: Cause | None
    """The same as data."""


def plan(project: Project, target: Target) -> Plan:
    """What a deploy would do. Discovery and bundle are up to date by now; no registry is asked.

    Raises:
        StepError: the deploy would fail in a way that is known beforehand.
    """
    discovery = discover.load(project, target)
    packed = project.result(target.name, bundle.NAME, bundle.Result)
    needed = images.wanted(discovery, project.manifest.images, root_dir=target.root_dir)
    looks = _stale(project, target, images.NAME)
    unnamed = looks if _other_uris(project, target, needed.uris) else None
    uris = needed.uris if unnamed else project.result(target.name, images.NAME, images.Result).uris
    known = not (unnamed and needed.builds and images.decides_uris(project.manifest.images))
    template = versions.fill(target, project.folder, project.environ)
    content = serialize.content_version(discovery, packed.digest, uris)
    version = template.replace(versions.CONTENT, content if known else UNKNOWN)
    serialize.check(target, discovery, version, bundle_digest=packed.digest)
    sends = _stale(project, target, upload.NAME)
    stale = sends or unnamed or _stale(project, target, serialize.NAME) or _stale(project, target, deploy.NAME)
    names = tuple(task.name for environment in discovery.environments for task in environment.tasks)
    return Plan(
        target=target.name,
        version=version,
        deployed_version=_deployed(project, target),
        register=names if stale else (),
        upload=f"{packed.digest}.tar.gz" if sends and packed.digest else "",
        bundle_files=packed.files,
        bundle_size=packed.size,
        archive_size=packed.archive_size,
        images=needed.uris,
        builds={uri: _about(project, target, uri, looks) for uri in needed.builds},
        reason=stale.reason if stale else "",
        cause=stale.cause if stale else None,
    )


def _other_uris(project: Project, target: Target, uris: dict[str, str]) -> bool:
    """Whether what is bound now may name other images than these: then tasks are registered again."""
    receipt = project.receipt(target.name, images.NAME)
    done = receipt.read_if_known(images.Result) if isinstance(receipt, Receipt) else None
    return done is None or done.uris != uris or images.decides_uris(project.manifest.images)


def _about(project: Project, target: Target, uri: str, stale: Stale | None) -> str:
    """What would be done about an image. Without asking its registry, that is known only of images in a receipt."""
    receipt = project.receipt(target.name, images.NAME)
    done = receipt.read_if_known(images.Result) if isinstance(receipt, Receipt) else None
    known = done.images.get(uri) if done else None
    if known is None:
        return f"would be built unless it is there ({stale.reason if stale else ''})"
    return f"{known.how}, {known.digest}" if known.digest else known.how


def _stale(project: Project, target: Target, step: str) -> Stale | None:
    verdict = pipeline.judge(project, target, step)
    return verdict if isinstance(verdict, Stale) else None


def _deployed(project: Project, target: Target) -> str:
    receipt = project.receipt(target.name, deploy.NAME)
    done = receipt.read_if_known(deploy.Result) if isinstance(receipt, Receipt) else None
    if done is None:
        return ""
    wanted = project.manifest.backend
    there = (done.endpoint, done.project, done.domain, done.org)
    return done.version if there == (wanted.endpoint, wanted.project, wanted.domain, wanted.org) else ""
