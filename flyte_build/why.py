"""`doit why`: why each step of a target will run, or why not, from what is known here. Nothing is run or written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

from flyte_build import pipeline
from flyte_build.errors import StepError
from flyte_build.model import Cause, Fresh, Target, Value
from flyte_build.report import cause_lines
from flyte_build.state.receipts import Made, Receipt

if TYPE_CHECKING:
    from flyte_build.project import Project

_COMMIT = 12
"""Digits of a commit that people are shown."""


class Answer(Value, frozen=True):
    """What is known of one step.

    - `stale`: it will run. `fresh`: it will not.
    - `open`: nothing that is known now makes it run, but it will when a step that it needs gives another result.
    - `fails`: whether it will run cannot be said, `reason` says why.
    """

    target: str
    step: str
    verdict: Literal["stale", "fresh", "open", "fails"]
    reason: str = ""
    cause: Cause | None = None
    waits_for: tuple[str, ...] = ()
    """Steps that it needs, and that may give another result."""
    made: Made | None = None
    """Where the receipt that it equals comes from."""


def why(project: Project, target: Target, step: str) -> tuple[Answer, ...]:
    """An answer for each step that `step` needs, in order, and for itself."""
    answers: dict[str, Answer] = {}
    for each in needed(step):
        waits_for = tuple(need for need in pipeline.NEEDS[each] if answers[need].verdict != "fresh")
        answers[each] = _answer(project, target, each, waits_for)
    return tuple(answers.values())


def needed(step: str) -> tuple[str, ...]:
    """The step and all that it needs, in the order in which they run."""
    wanted = {step}
    for each in reversed(pipeline.STEPS):
        if each in wanted:
            wanted.update(pipeline.NEEDS[each])
    return tuple(each for each in pipeline.STEPS if each in wanted)


def _answer(project: Project, target: Target, step: str, waits_for: tuple[str, ...]) -> Answer:
    try:
        verdict = pipeline.judge(project, target, step)
    except StepError as error:
        return Answer(target=target.name, step=step, verdict="fails", reason=error.message)
    if not isinstance(verdict, Fresh):
        return Answer(target=target.name, step=step, verdict="stale", reason=verdict.reason, cause=verdict.cause)
    receipt = project.receipt(target.name, step)
    assert isinstance(receipt, Receipt)
    found: Literal["fresh", "open"] = "open" if waits_for else "fresh"
    return Answer(target=target.name, step=step, verdict=found, waits_for=waits_for, made=receipt.made)


def text(answers: Iterable[Answer]) -> str:
    """Answers about one target, for people."""
    lines: list[str] = []
    for answer in answers:
        first, *more = _lines(answer)
        lines += [f"  {answer.step:<10}{first}", *(f"            {line}" for line in more)]
        head = answer.target
    return "\n".join([head, *lines])


def _lines(answer: Answer) -> Iterator[str]:
    if answer.verdict == "fails":
        yield f"cannot be told: {answer.reason}"
    elif answer.verdict == "stale":
        yield f"runs: {answer.reason}"
        cause = answer.cause or Cause(kind="asked")
        yield from cause_lines(cause.chain, cause.old, cause.new)
    else:
        equals = f"equals the receipt of {_made(answer.made or Made())}"
        if answer.waits_for:
            yield f"fresh unless {' or '.join(answer.waits_for)} gives another result"
            yield equals
        else:
            yield f"fresh: {equals}"


def _made(made: Made) -> str:
    when = made.time.replace("T", " ").replace("+00:00", " UTC")
    commit = f", commit {made.commit[:_COMMIT]}" if made.commit else ""
    return f"{when}{commit}, on {made.machine}{', from the shared cache' if made.shared else ''}"
