"""The values that pass between the services."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Ride:
    zone: str
    kilometres: float
    minutes: float


@dataclass
class Model:
    """Minutes as a straight line over kilometres."""

    minutes_per_kilometre: float
    minutes_at_start: float
    rides: int

    def minutes(self, kilometres: float) -> float:
        return round(self.minutes_at_start + self.minutes_per_kilometre * kilometres, 2)
