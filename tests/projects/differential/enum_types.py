"""Enumerations and literals."""

from enum import Enum
from typing import Literal

import flyte


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Size(str, Enum):
    SMALL = "s"
    LARGE = "l"


env = flyte.TaskEnvironment(name="enum_types")


@env.task
def paint(colour: Colour, size: Size = Size.LARGE) -> Colour:
    return colour


@env.task
def choose(mode: Literal["fast", "slow"], again: Literal["a", "b"] = "b") -> str:
    return mode


@env.task
def many(colours: list[Colour], by_name: dict[str, Size]) -> list[Size]:
    return []
