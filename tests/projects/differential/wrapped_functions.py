"""Tasks under decorators, made by a call, and made in a loop."""

import functools

import flyte

env = flyte.TaskEnvironment(name="wrapped_functions", cache="auto")


def announced(func):
    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        return func(*args, **kwargs)

    return wrapper


@env.task
@announced
def wrapped(x: int = 1) -> int:
    """Wrapped once."""
    return x


def plain(x: int) -> int:
    return x


made_by_call = env.task(plain)


@env.task(
    retries=1,
    short_name="many lines",
)
@announced
@announced
def twice_wrapped(
    x: int,
    y: int = 2,
) -> int:
    return x + y
