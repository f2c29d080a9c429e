"""Files that go with an environment; one of them is read while the module loads."""

from pathlib import Path

import flyte

QUERY = (Path(__file__).parent / "data" / "query.sql").read_text()

env = flyte.TaskEnvironment(name="included", include=("data/query.sql", "data/*.csv"))
folder = flyte.TaskEnvironment(name="included_folder", include=["data"])


@env.task
def text() -> str:
    return QUERY


@folder.task
def length(extra: str = QUERY) -> int:
    return len(extra)
