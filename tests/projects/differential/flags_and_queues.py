"""The smaller options of an environment and of a task, inherited and overridden."""

import flyte

env = flyte.TaskEnvironment(name="flags", queue="env-queue", interruptible=True, description="All the flags")
off = flyte.TaskEnvironment(name="flags_off", interruptible=False)


@env.task
def inherits() -> None: ...


@env.task(queue="task-queue", interruptible=False)
def overrides() -> None: ...


@off.task(interruptible=True, report=True)
def reporting() -> None: ...


@off.task(short_name="Friendly name", entrypoint=True)
async def entry() -> None: ...


@off.task(max_inline_io_bytes=1024, produces_artifacts=True)
async def small() -> None: ...


@off.task(report=False, entrypoint=False, produces_artifacts=False)
async def explicit_defaults() -> None: ...
