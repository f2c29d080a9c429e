"""Types that Flyte has no name for, and no type at all."""

from typing import Any

import flyte


class Opaque:
    def __init__(self, x: int) -> None:
        self.x = x


env = flyte.TaskEnvironment(name="pickled_types")


@env.task
def opaque(value: Opaque) -> Opaque:
    return value


@env.task
def untyped(value, other: Any) -> Any:
    return value
