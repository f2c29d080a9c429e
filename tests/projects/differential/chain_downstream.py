"""The start of a chain: a diamond, and an edge that is added afterwards."""

import flyte
from chain_upstream import prepare, side, upstream

middle = flyte.TaskEnvironment(name="chain_middle", depends_on=[upstream])
downstream = flyte.TaskEnvironment(name="chain_downstream", depends_on=[middle, side])
late = flyte.TaskEnvironment(name="chain_late")
late.add_dependency(downstream, upstream)


@middle.task
async def double(x: int) -> list[int]:
    return [2 * y for y in await prepare(x)]


@downstream.task
async def report(x: int) -> int:
    """Adds up what the middle gives."""
    return sum(await double(x))


@late.task
async def again(x: int) -> int:
    return await report(x)
