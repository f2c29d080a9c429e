"""Files, folders and tables."""

from typing import Annotated

import flyte
from flyte.io import DataFrame, Dir, File

env = flyte.TaskEnvironment(name="blob_types")


@env.task
async def move(source: File, folder: Dir, table: DataFrame) -> tuple[File, Dir, DataFrame]:
    return source, folder, table


@env.task
async def several(sources: list[File], folders: dict[str, Dir]) -> list[File]:
    return sources


@env.task
async def described(table: Annotated[DataFrame, "a note"], text: Annotated[str, "another"]) -> DataFrame:
    return table


@env.task
async def with_defaults(source: File = File.from_existing_remote("s3://bucket/key.csv")) -> File:
    return source
