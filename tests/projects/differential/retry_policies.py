"""Retries as a number and as a strategy, with and without pauses between them."""

from datetime import timedelta

import flyte

env = flyte.TaskEnvironment(name="retry_policies")


@env.task(retries=3)
def counted(x: int) -> int:
    return x


@env.task(retries=flyte.RetryStrategy(count=5))
def strategic(x: int) -> int:
    return x


@env.task(retries=flyte.RetryStrategy(5, backoff=flyte.Backoff(base=timedelta(seconds=10))))
def steady(x: int) -> int:
    return x


@env.task(
    retries=flyte.RetryStrategy(
        count=4,
        backoff=flyte.Backoff(base=timedelta(milliseconds=1500), factor=2.5, cap=timedelta(minutes=5)),
    )
)
def growing(x: int) -> int:
    return x


@env.task(retries=0)
def never(x: int) -> int:
    return x
