"""A workflow some folders down, with absolute, relative and lazy imports."""

import flyte

from nested.helpers import FACTOR
from .. import helpers

env = flyte.TaskEnvironment(name="nested_workflow")


@env.task
def multiply(x: int, factor: int = FACTOR) -> int:
    from support import late

    return late.product(x, factor, helpers.FACTOR)
