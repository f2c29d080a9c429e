"""Several outputs, with and without names."""

from typing import NamedTuple

import flyte


class Metrics(NamedTuple):
    loss: float
    accuracy: float
    label: str


env = flyte.TaskEnvironment(name="named_outputs")


@env.task
def named(x: int) -> Metrics:
    """Measures.

    Returns:
        loss: The loss.
        accuracy: The accuracy.
    """
    return Metrics(0.1, 0.9, "x")


@env.task
def unnamed(x: int) -> tuple[int, str]:
    return x, ""

