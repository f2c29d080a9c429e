"""Three environments in one file, one without tasks, one with a dash in its name."""

import flyte

first = flyte.TaskEnvironment(name="several_first", description="The first of three")
second = flyte.TaskEnvironment(name="several-second", description="")
empty = flyte.TaskEnvironment(name="several_empty")


@first.task
def alpha(x: int = 1) -> int:
    return x


@second.task
def alpha_too(x: int = 2) -> int:
    return x


@second.task
async def beta() -> str:
    return "beta"
