"""Targets x steps: what a step needs, whether it is stale, and running it under a receipt. Knows nothing of doit."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from flyte_build import causes, git
from flyte_build.errors import StepNotDone
from flyte_build.model import Cause, Stale, Target, Value, Verdict
from flyte_build.state import receipts
from flyte_build.state.folder import unwritable, write_atomically
from flyte_build.state.receipts import Lost, Made, Receipt
from flyte_build.steps import Outcome, bundle, deploy, discover, images, serialize, upload

if TYPE_CHECKING:
    from flyte_build.project import Project

_T = TypeVar("_T", bound=Value)


class Step(Protocol):
    """A module of `steps`."""

    NAME: str

    def key(self, project: Project, target: Target) -> Value: ...

    def run(self, project: Project, target: Target) -> Outcome: ...


STEPS: dict[str, Step] = {
    "discover": discover,
    "bundle": bundle,
    "images": images,
    "upload": upload,
    "serialize": serialize,
    "deploy": deploy,
}
NEEDS: dict[str, tuple[str, ...]] = {
    "discover": (),
    "bundle": ("discover",),
    "images": ("discover",),
    "upload": ("bundle",),
    "serialize": ("discover", "images", "upload"),
    "deploy": ("serialize",),
}
CAUSES = {
    "discovery": "discover",
    "files": "discover",
    "declared": "discover",
    "images": "images",
    "bundle": "bundle",
    "bundle_uri": "upload",
    "content": "serialize",
}
"""Field of a key -> the step whose result it holds. That step's own reason says more than "the bundle changed"."""


class Done(Value, frozen=True):
    """What a step did, for the report."""

    step: str
    target: str
    reason: str
    cause: Cause
    summary: str
    seconds: float
    notes: tuple[str, ...] = ()


def judge(project: Project, target: Target, step: str) -> Verdict:
    """Whether a step has to run, and why. What it needs is taken as it is: doit runs that first.

    Raises:
        StepError: the key itself cannot be made, such as a version that asks git where there is none.
    """
    receipt = project.receipt(target.name, step)
    if isinstance(receipt, Lost):
        return _undone(project, target, step, receipt)
    for need in NEEDS[step]:
        if isinstance(project.receipt(target.name, need), Lost):
            return Stale(reason=f"{need} was not done", cause=Cause(kind="need", name=need))
    key = STEPS[step].key(project, target)
    verdict = receipts.judge(key, receipt, project.world(target))
    if isinstance(verdict, Stale):
        return _with_cause(project, target, step, verdict)
    return (_lost(project, target, step) if receipt.trace.databases else None) or verdict


def _lost(project: Project, target: Target, step: str) -> Stale | None:
    """What a step has registered may be gone, though the database is there."""
    why = project.lost_registrations.get(project.state.receipt_path(target.name, step))
    return Stale(reason=why, cause=Cause(kind="path", name=why.partition(" ")[0])) if why else None


def _undone(project: Project, target: Target, step: str, receipt: Lost) -> Stale:
    """Why there is no receipt; of a step that failed or was interrupted, what changed since it was done."""
    before = receipts.load(project.state.before(target.name, step)) if receipt == receipts.NEVER_DONE else receipt
    if isinstance(before, Lost):
        return receipts.lost(receipt)
    if not any(isinstance(project.receipt(target.name, need), Lost) for need in NEEDS[step]):
        verdict = receipts.judge(STEPS[step].key(project, target), before, project.world(target))
        if isinstance(verdict, Stale):
            return _with_cause(project, target, step, verdict)
    return Stale(reason="its last run did not finish", cause=Cause(kind="missing"))


def judge_with_needs(project: Project, target: Target, step: str) -> Verdict:
    """The same when nothing is about to run: a step is also stale when one that it needs is.

    Raises:
        StepError: a key cannot be made.
    """
    for need in NEEDS[step]:
        verdict = judge_with_needs(project, target, need)
        if isinstance(verdict, Stale):
            return verdict
    return judge(project, target, step)


def _with_cause(project: Project, target: Target, step: str, verdict: Stale) -> Stale:
    """The reason of the step whose result changed; else the verdict, with what leads there."""
    source = CAUSES.get(verdict.cause.name, step) if verdict.cause.kind == "setting" else step
    receipt = project.receipt(target.name, source)
    if source != step and isinstance(receipt, Receipt):
        return Stale(reason=receipt.reason, cause=receipt.cause)
    return causes.explain(project, target, verdict, _with_readers(project, target))


def _with_readers(project: Project, target: Target) -> tuple[str, ...]:
    """Digests of the objects that say what led to what."""
    discovered = _result(project, target, discover.NAME, discover.Result)
    packed = _result(project, target, bundle.NAME, bundle.Result)
    return (*((discovered.discovery,) if discovered else ()), *((packed.bundle,) if packed else ()))


def _result(project: Project, target: Target, step: str, kind: type[_T]) -> _T | None:
    receipt = project.receipt(target.name, step)
    if isinstance(receipt, Lost):
        receipt = receipts.load(project.state.before(target.name, step))
    return receipt.read_if_known(kind) if isinstance(receipt, Receipt) else None


def run(project: Project, target: Target, step: str) -> Done:
    """Do a step: forget its receipt, do the work, write the receipt.

    Raises:
        StepError: the work failed; there is no receipt then.
    """
    started = time.perf_counter()
    for need in NEEDS[step]:
        if isinstance(project.receipt(target.name, need), Lost):
            raise StepNotDone(step=step, need=need, target=target.name)
    verdict = judge(project, target, step)
    stale = verdict if isinstance(verdict, Stale) else Stale(reason="asked for", cause=Cause(kind="asked"))
    project.worked = True
    project.state.create()
    path, before = project.state.receipt(target.name, step), project.state.before(target.name, step)
    _discard_changed_outputs(project, project.receipt(target.name, step))
    receipts.set_aside(path, before)
    key = STEPS[step].key(project, target)
    outcome = STEPS[step].run(project, target)
    receipt = Receipt(
        format=receipts.FORMAT,
        key=msgspec.Raw((outcome.key or key).json()),
        result=msgspec.Raw(outcome.result.json()),
        trace=outcome.trace,
        outputs=outcome.outputs,
        reason=stale.reason,
        cause=stale.cause,
        made=_made(project),
    )
    project.state.journal(target.name, step).unlink(missing_ok=True)  # left beside a receipt it would never go
    receipts.save(path, receipt)
    for done in (project.state.again(target.name, step), before):
        done.unlink(missing_ok=True)
    if step == deploy.NAME:
        project.registered_again(target.name)
    _look_ahead(project, outcome)
    return Done(
        step=step,
        target=target.name,
        reason=stale.reason,
        cause=stale.cause,
        summary=outcome.summary,
        seconds=time.perf_counter() - started,
        notes=(*outcome.notes, *_unseen(outcome, stale.reason)),
    )


def _look_ahead(project: Project, outcome: Outcome) -> None:
    """Have the index know what the receipt will be compared with, so that the next run need not read it."""
    for path in outcome.outputs:
        project.index.made(os.path.join(project.state.root, path))
    for path in outcome.trace.files:
        project.index.digest(os.path.join(project.folder, path))


def _made(project: Project) -> Made:
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Made(time=now, commit=git.commit(project.folder), machine=os.uname().nodename)


def _unseen(outcome: Outcome, reason: str) -> Iterator[str]:
    """What makes the step run every time, told once: from the next run on it is the reason."""
    for what in outcome.trace.opaque:
        if not reason.startswith(what):
            yield f"{what}, whose inputs cannot be seen: it will be loaded in every run"


def _discard_changed_outputs(project: Project, receipt: Receipt | Lost) -> None:
    """A step takes a file that is there under a digest for its own; so one with another content must go first.

    Raises:
        StateUnwritable: it cannot be removed.
    """
    outputs = receipt.outputs if isinstance(receipt, Receipt) else {}
    for name, content in outputs.items():
        path = project.state.root / name
        if project.index.digest(str(path)) != content:
            if path.is_relative_to(project.state.root):
                with unwritable(path):
                    path.unlink(missing_ok=True)
            project.index.forget(str(path))


def forget(project: Project, target: str, step: str) -> None:
    """Make a step not done, so that the next run does it again from its beginning, and here."""
    receipts.forget(project.state.receipt(target, step))
    receipts.forget(project.state.before(target, step))
    write_atomically(project.state.again(target, step), b"")
    journal = project.state.journal(target, step)
    with unwritable(journal):
        journal.unlink(missing_ok=True)
