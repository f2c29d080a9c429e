"""Gathers rides and keeps the plausible ones."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import NamedTuple

import flyte

from shared_lib.rides import Ride

with (Path(__file__).parent / "zones.csv").open(encoding="utf-8", newline="") as _file:
    ZONES = {row["code"]: row["name"] for row in csv.DictReader(_file)}

prep_env = flyte.TaskEnvironment(
    name="prep",
    description="Gathers and cleans rides",
    resources=flyte.Resources(cpu="500m", memory="256Mi"),
    env_vars={"LONGEST_RIDE_MINUTES": "90"},
    cache="auto",
    include=("zones.csv",),  # read above, while the module loads: so it must travel with the code
)


class CleanRides(NamedTuple):
    rides: list[Ride]
    dropped: int


@prep_env.task
async def gather_rides(count: int = 24, seed: int = 7) -> list[Ride]:
    """Makes up rides, the same ones for the same seed.

    Args:
        count: How many rides.
        seed: Where the made-up numbers start.
    """
    codes = sorted(ZONES)
    state, rides = seed, []
    for index in range(count):
        state = (1103515245 * state + 12345) % 2**31
        kilometres = 1 + (state >> 16) % 90 / 10
        minutes = 240.0 if index % 10 == 9 else round(3 + 4 * kilometres + (state >> 8) % 20 / 10, 1)
        rides.append(Ride(ZONES[codes[index % len(codes)]], kilometres, minutes))
    return rides


@prep_env.task
def clean_rides(rides: list[Ride], longest_minutes: float | None = None) -> CleanRides:
    """Drops rides that took too long to be true.

    Args:
        rides: What was gathered.
        longest_minutes: The longest ride to keep; by default LONGEST_RIDE_MINUTES of the environment.

    Returns:
        rides: The plausible rides.
        dropped: How many were not.
    """
    limit = float(os.environ.get("LONGEST_RIDE_MINUTES", "90")) if longest_minutes is None else longest_minutes
    kept = [ride for ride in rides if ride.minutes <= limit]
    return CleanRides(kept, len(rides) - len(kept))
