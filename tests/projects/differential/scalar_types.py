"""Simple types, in and out."""

from datetime import date, datetime, timedelta

import flyte

env = flyte.TaskEnvironment(name="scalar_types")


@env.task
def every(
    i: int, f: float, b: bool, s: str, moment: datetime, span: timedelta, day: date, raw: bytes
) -> tuple[int, float, bool, str, datetime, timedelta, date, bytes]:
    return i, f, b, s, moment, span, day, raw


@env.task
def nothing_out(x: int):
    pass


@env.task
def keyword_only(*, x: int, y: str = "y") -> str:
    return y


@env.task
def positional_only(x: int, /, y: int = 2) -> int:
    return x + y
