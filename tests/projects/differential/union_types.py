"""Optional values and unions, in both spellings."""

from typing import Optional, Union

import flyte
from flyte.io import File

env = flyte.TaskEnvironment(name="union_types")


@env.task
def optional(a: Optional[int], b: int | None = None, c: Optional[str] = "c") -> Optional[int]:
    return a


@env.task
def either(a: Union[int, str], b: int | str | None = 3, c: list[int | None] = [1, None]) -> Union[int, list[str]]:
    return 1


@env.task
def files(a: Optional[File] = None, b: Union[File, str] = "x") -> Optional[File]:
    return a
