"""Caching, said at the environment and at the task, with every option of `flyte.Cache`."""

from datetime import timedelta

import flyte


class ConstantPolicy:
    """A cache policy of the user's own."""

    def __init__(self, answer: str) -> None:
        self.answer = answer

    def get_version(self, salt: str, params: object) -> str:
        return f"{self.answer}-{salt}"


cached = flyte.TaskEnvironment(name="cache_on", cache="auto")
uncached = flyte.TaskEnvironment(name="cache_off", cache="disable")
explained = flyte.TaskEnvironment(
    name="cache_explained",
    cache=flyte.Cache(behavior="override", version_override="v7", serialize=True, ignored_inputs=("seed", "verbose")),
)


@cached.task
def inherits(x: int) -> int:
    return x + 1


@cached.task(cache="disable")
def switched_off(x: int) -> int:
    return x + 2


@uncached.task(cache="auto")
async def switched_on(x: int) -> int:
    """A docstring is part of the body that is hashed."""
    return x + 3


@uncached.task(cache=flyte.Cache("auto", salt="pepper"))
def salted(x: int) -> int:
    return x + 4


@uncached.task(cache=flyte.Cache("enable", ignored_inputs="x", max_age=3600))
def aliased(x: int) -> int:
    return x + 5


@uncached.task(cache=flyte.Cache("auto", max_age=timedelta(days=1, milliseconds=250), serialize=True))
def aged(x: int) -> int:
    return x + 6


@uncached.task(cache=flyte.Cache("auto", policies=ConstantPolicy("one"), salt="s"))
def own_policy(x: int) -> int:
    return x + 7


@uncached.task(cache=flyte.Cache("auto", policies=[ConstantPolicy("one"), ConstantPolicy("two")], max_age=0))
def two_policies(x: int) -> int:
    return x + 8


@explained.task
def overridden(x: int, seed: int = 0, verbose: bool = False) -> int:
    return x + 9


@explained.task(cache=flyte.Cache("disable", ignored_inputs=("seed",)))
def ignored_but_off(x: int, seed: int = 0) -> int:
    return x + 10
