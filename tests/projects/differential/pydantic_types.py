"""Pydantic models: nested, constrained, with defaults."""

from typing import Literal, Optional

import flyte
from pydantic import BaseModel, Field


class Split(BaseModel):
    train: float = Field(0.8, ge=0, le=1, description="Share of the rows")
    seed: int = 7


class Settings(BaseModel):
    """What a run is told."""

    name: str
    split: Split = Split()
    tags: list[str] = []
    mode: Literal["fast", "slow"] = "fast"
    limit: Optional[int] = None
    nested: dict[str, Split] = {}


env = flyte.TaskEnvironment(name="pydantic_types")


@env.task
async def configure(settings: Settings) -> Split:
    return settings.split


@env.task
async def with_default(settings: Settings = Settings(name="default", tags=["a"])) -> list[Settings]:
    return [settings]
