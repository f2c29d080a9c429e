"""The least that an environment can say."""

import flyte

env = flyte.TaskEnvironment("minimal")


@env.task
def sync_task() -> None:
    pass


@env.task
async def async_task() -> None:
    pass


@env.task()
def called_decorator(x: int) -> int:
    return x
