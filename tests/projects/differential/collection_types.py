"""Lists, dictionaries, tuples, and each in the other."""

from typing import Any, Dict, List, Optional, Set, Tuple

import flyte

env = flyte.TaskEnvironment(name="collection_types")


@env.task
def lists(a: list[int], b: List[str], c: list[list[float]], d: list) -> list[dict[str, int]]:
    return []


@env.task
def dicts(a: dict[str, int], b: Dict[str, List[str]], c: dict, d: dict[int, str]) -> dict[str, Any]:
    return {}


@env.task
def tuples(a: tuple[int, str], b: Tuple[int, ...]) -> Tuple[int, str]:
    return a


@env.task
def others(a: Set[int], b: Optional[list[int]] = None) -> set[str]:
    return set()
