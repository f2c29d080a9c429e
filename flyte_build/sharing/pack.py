"""From receipts of this checkout to entries of the shared cache."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from flyte_build import git, pipeline, versions
from flyte_build.model import Target
from flyte_build.sharing.entries import TRACED, Entry, SharedReceipt, is_output
from flyte_build.sharing.surroundings import is_loopback
from flyte_build.state.receipts import Receipt
from flyte_build.state.trace import Trace
from flyte_build.steps import discover, images, serialize

if TYPE_CHECKING:
    from flyte_build.manifest import Manifest
    from flyte_build.project import Project

LOCAL_STEPS = ("discover", "bundle", "images")
"""Whose results can be deployed anywhere."""
_LARGE = 1 << 20
"""Bytes from which an archive is left out."""


def pack(project: Project, target: Target, *, deployed: bool) -> Entry:
    """What others may reuse of a target whose steps are all fresh."""
    shared: dict[str, Receipt] = {}
    for step in pipeline.STEPS if deployed else LOCAL_STEPS:
        receipt = project.receipt(target.name, step)
        assert isinstance(receipt, Receipt)
        if shared.keys() >= set(pipeline.NEEDS[step]) and _is_true_elsewhere(project, target, step, receipt):
            shared[step] = receipt
    return Entry(
        receipts={
            step: SharedReceipt(
                key=bytes(receipt.key),
                result=bytes(receipt.result),
                outputs=_outputs(step, receipt),
                made=receipt.made,
            )
            for step, receipt in shared.items()
        },
        files={
            path: (project.state.root / path).read_bytes()
            for step, receipt in shared.items()
            for path in _outputs(step, receipt)
            if is_output(path) and (project.state.root / path).stat().st_size < _LARGE
        },
        made=time.time(),
        commit=git.commit(project.folder),
        machine=os.uname().nodename,
    )


def _outputs(step: str, receipt: Receipt) -> dict[str, str]:
    """Without what images are built from, which may be large: who has to build loads the code again."""
    if step != discover.NAME:
        return receipt.outputs
    kept = f"objects/{receipt.read(discover.Result).discovery}"
    return {kept: receipt.outputs[kept]}


def _is_true_elsewhere(project: Project, target: Target, step: str, receipt: Receipt) -> bool:
    """Whether a receipt says something that does not stand on this machine or this checkout."""
    if step == discover.NAME and _names_the_checkout(project, target):
        return False
    if step in TRACED:
        return not (receipt.trace.opaque or receipt.trace.databases)
    if receipt.trace != Trace() or any(path.startswith(f"{project.folder}{os.sep}") for path in receipt.outputs):
        return False
    if step == "images" and not are_elsewhere(receipt.read(images.Result), project.manifest):
        return False
    return step != "deploy" or _stays_registered(project, target)


def _names_the_checkout(project: Project, target: Target) -> bool:
    """Whether what the code declares holds the path of this checkout, which is another elsewhere. No trace tells it."""
    here = os.fsencode(project.folder)
    for environment in discover.load(project, target).environments:
        build = environment.image.build
        if here in (build.dockerfile.encode() if build else b""):
            return True
        if any(here in part for task in environment.tasks for part in (task.spec, *task.triggers)):
            return True
    return False


def _stays_registered(project: Project, target: Target) -> bool:
    """Whether a registration is still what it was, whatever has been registered since."""
    # An explicit version says nothing of the content: whether it is still this one there, the backend is asked.
    if versions.is_explicit(target.version):
        return False
    # A trigger belongs to a task in all its versions: each registration turns it to its own.
    registered = serialize.load(project, target).waves
    return not any(registration.triggers for wave in registered for registration in wave)


def are_elsewhere(result: images.Result, manifest: Manifest) -> bool:
    """Whether images that were built are where others find them: in a registry, and a backend, not of this machine."""
    builder = manifest.backend.endpoint if manifest.images.builder == "remote" else ""
    built = (*result.images, *result.uris.values()) if result.images else ()
    return not any(map(is_loopback, (*built, builder if built else "")))
