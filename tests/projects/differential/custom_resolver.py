"""Tasks that are loaded in a way of the user's own."""

import flyte
from support.resolver import WordResolver

env = flyte.TaskEnvironment(name="custom_resolver")


@env.task(task_resolver=WordResolver())
def found_by_word(x: int) -> int:
    return x


@env.task
def found_as_usual(x: int) -> int:
    return x
