"""Dataclasses: nested, with defaults, optional fields and lists of themselves."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Optional

import flyte
from flyte.io import File


class Level(Enum):
    LOW = "low"
    HIGH = "high"


@dataclass
class Point:
    x: float
    y: float = 0.0


@dataclass
class Shape:
    """A named list of points."""

    name: str
    points: list[Point] = field(default_factory=list)
    by_name: dict[str, Point] = field(default_factory=dict)
    centre: Optional[Point] = None
    level: Level = Level.LOW
    drawn: Optional[datetime] = None
    source: Optional[File] = None


env = flyte.TaskEnvironment(name="dataclass_types")


@env.task
def centre(shape: Shape, scale: float = 1.0) -> Point:
    return Point(scale)


@env.task
def many(shapes: list[Shape], origin: Point = Point(1.5, -2.0)) -> dict[str, Shape]:
    return {shape.name: shape for shape in shapes}
