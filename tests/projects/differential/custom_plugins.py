"""Task plugins: one that fills `custom` and `config`, one without a container, one of the SDK's own."""

import flyte
from flyte.extras import Sleep
from support.plugin import Queue, Statement

queue = flyte.TaskEnvironment(name="plugin_queue", plugin_config=Queue(workers=3, labels={"b": "2", "a": "1"}))
statement = flyte.TaskEnvironment(name="plugin_statement", plugin_config=Statement("select 1"))
sleeping = flyte.TaskEnvironment(name="plugin_sleep", plugin_config=Sleep())


@queue.task
async def queued(x: int) -> int:
    """Runs in a queue."""
    return x


@queue.task(retries=2, cache="auto")
def queued_and_cached(x: int) -> int:
    return x


@statement.task
def query() -> int:
    return 1


@sleeping.task
async def doze(duration: int) -> None: ...
