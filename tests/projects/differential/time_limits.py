"""Timeouts: seconds, a span, and the three bounds of `flyte.Timeout`."""

from datetime import timedelta

import flyte

env = flyte.TaskEnvironment(name="time_limits")


@env.task(timeout=90)
def seconds() -> None: ...


@env.task(timeout=timedelta(hours=1, microseconds=500))
def span() -> None: ...


@env.task(timeout=flyte.Timeout(max_runtime=timedelta(minutes=30), max_queued_time=900, deadline=timedelta(hours=2)))
def all_bounds() -> None: ...


@env.task(timeout=flyte.Timeout(deadline=3600))
def only_deadline() -> None: ...


@env.task(timeout=flyte.Timeout(max_queued_time=timedelta(0), max_runtime=0))
def unlimited() -> None: ...
