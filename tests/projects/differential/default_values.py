"""Defaults of every sort."""

import math
from datetime import datetime, timedelta, timezone

import flyte

env = flyte.TaskEnvironment(name="default_values")


@env.task
def scalars(
    i: int = -(2**40),
    f: float = 1e-300,
    infinite: float = math.inf,
    whole: float = 3.0,
    b: bool = True,
    off: bool = False,
    s: str = "",
    quoted: str = 'a "b" \n c',
) -> int:
    return i


@env.task
def times(
    moment: datetime = datetime(2024, 2, 29, 12, 30, 15, 250000, tzinfo=timezone.utc),
    span: timedelta = timedelta(days=1, seconds=2, microseconds=3),
) -> datetime:
    return moment


@env.task
def collections(
    numbers: list[int] = [3, 1, 2],
    nothing: list[str] = [],
    mapping: dict[str, float] = {"z": 1.0, "a": 2.0},
    nested: list[dict[str, list[int]]] = [{"k": [1]}, {}],
    loose: dict = {"b": [1, "x", None], "a": {"c": True}},
) -> list[int]:
    return numbers


@env.task
def only_some(required: int, also: str, given: int = 5, more: str = "m") -> int:
    return required
