"""Annotations that are text while the module loads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import flyte

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Pair:
    left: int
    right: Pair | None = None


env = flyte.TaskEnvironment(name="future_annotations", cache="auto")


@env.task
async def walk(left: int, right: list[int] | None = None) -> dict[str, list[int]]:
    act: Callable[[int], int] = abs
    return {"left": [act(left)]}
