"""From an entry of the shared cache to receipts of this checkout."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from flyte_build import causes, pipeline
from flyte_build.errors import StepError
from flyte_build.model import Cause, Fresh, Stale, Target, Upload, Value
from flyte_build.sharing.entries import TRACED, Entry, Traces, is_output, may_stand_on
from flyte_build.state import digest, receipts
from flyte_build.state.folder import write_unless_there
from flyte_build.state.receipts import Receipt
from flyte_build.steps import bundle, deploy, discover, images, serialize

if TYPE_CHECKING:
    from flyte_build.project import Project


_RESULTS: dict[str, type[Value]] = {
    "discover": discover.Result,
    "bundle": bundle.Result,
    "images": images.Result,
    "upload": Upload,
    "serialize": serialize.Result,
    "deploy": deploy.Result,
}
_BLANK = Receipt(format=receipts.FORMAT, key=msgspec.Raw(), result=msgspec.Raw())


def staleness(project: Project, target: Target, step: str) -> Stale | None:
    """Why a step would run; None when it is fresh."""
    try:
        verdict = pipeline.judge(project, target, step)
    except StepError as error:
        return Stale(reason=error.message, cause=Cause(kind="asked"))  # the step will run, and tell it
    return verdict if isinstance(verdict, Stale) else None


def is_fresh(project: Project, target: Target) -> bool:
    """Whether nothing would run for a target."""
    return not any(staleness(project, target, step) for step in pipeline.STEPS)


def traces_of(project: Project, target: Target) -> Traces | None:
    """What the receipts here were made from, if that is how the world is."""
    if any(staleness(project, target, step) for step in TRACED):
        return None
    discovered, bundled = (project.receipt(target.name, step) for step in TRACED)
    assert isinstance(discovered, Receipt)
    assert isinstance(bundled, Receipt)
    return Traces(discover=discovered.trace, bundle=bundled.trace)


def look_again(project: Project, target: str) -> None:
    """Trust nothing that was seen of a target's results: another process may have written them since."""
    for step in pipeline.STEPS:
        receipt = project.receipt(target, step)
        for path in receipt.outputs if isinstance(receipt, Receipt) else ():
            project.index.forget(os.path.join(project.state.root, path))


def install(project: Project, target: Target, entry: Entry, traces: Traces) -> bool:
    """Make an entry's receipts this checkout's own, step by step. Gives whether it lacked one of them."""
    fresh: set[str] = set()
    installed = False
    for step in pipeline.STEPS:
        stale = staleness(project, target, step)
        if stale and fresh.issuperset(pipeline.NEEDS[step]):
            blank = replace(_BLANK, trace=traces.of(step), reason=stale.reason, cause=stale.cause)
            try:
                here = _install_step(project, target, step, entry, blank)
            except StepError:  # the step will run, and tell it
                here = False
            installed, stale = installed or here, None if here else stale
        if not stale:
            fresh.add(step)
    return installed


def _install_step(project: Project, target: Target, step: str, entry: Entry, receipt: Receipt) -> bool:
    """Write a step's receipt, if it says of this checkout what one of its own would. Judged as those are.

    Raises:
        StepError: the key cannot be made, or a large bundle not be packed.
    """
    shared = entry.receipts.get(step)
    if shared is None or project.state.again(target.name, step).exists():
        return False
    if not all(may_stand_on(*output) for output in shared.outputs.items()) or not _is_readable(step, shared.result):
        return False
    key = pipeline.STEPS[step].key(project, target)
    if step != discover.NAME and shared.key != key.json():  # that of discovery is in the entry's name
        return False
    if not _bring_files(project, entry, shared.outputs):
        pipeline.run(project, target, step)
        return True
    receipt = replace(
        receipt,
        key=msgspec.Raw(key.json()),
        result=msgspec.Raw(shared.result),
        outputs=shared.outputs,
        made=replace(shared.made, shared=True),
    )
    if not isinstance(receipts.judge(key, receipt, project.world(target)), Fresh):
        return False
    if step == discover.NAME:
        causes.keep_installed(project)
    project.worked = True
    receipts.save(project.state.receipt(target.name, step), receipt)
    project.state.journal(target.name, step).unlink(missing_ok=True)
    return True


def _is_readable(step: str, result: bytes) -> bool:
    """Whether the step can read its result: one of other code would end this run and all to come."""
    try:
        msgspec.json.decode(result, type=_RESULTS[step])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _bring_files(project: Project, entry: Entry, outputs: dict[str, str]) -> bool:
    """Write what an entry has of a step's outputs. False: it lacks an archive that is not here either."""
    for path in filter(is_output, outputs):
        place = project.state.root / path
        if path in entry.files and digest.of_bytes(entry.files[path]) == outputs[path]:
            write_unless_there(place, entry.files[path])
            project.index.forget(str(place))
        elif project.index.digest(str(place)) != outputs[path]:
            return False
    return True
