"""The end of a chain of environments in several files."""

import flyte

upstream = flyte.TaskEnvironment(name="chain_upstream", image="ghcr.io/org/up:v1")
side = flyte.TaskEnvironment(name="chain_side", depends_on=[upstream])


@upstream.task
async def prepare(x: int) -> list[int]:
    return list(range(x))


@side.task
async def look(x: int) -> int:
    return sum(await prepare(x))
