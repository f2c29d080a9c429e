"""A report that needs none of the services."""

from __future__ import annotations

from pathlib import Path
from string import Template

import flyte

from shared_lib.rides import Ride

env = flyte.TaskEnvironment(name="weekly_report", resources=flyte.Resources(cpu="250m", memory="128Mi"))


@env.task(triggers=flyte.Trigger.weekly(inputs={"rides": [Ride("Centre", 3.0, 15.0)]}))
def write_report(rides: list[Ride]) -> str:
    """Counts rides by zone.

    The template is read when the task runs, so nothing shows before that it is needed: `include` in deploy.toml
    puts it into the bundle.
    """
    template = Template((Path(__file__).parent / "weekly.txt").read_text(encoding="utf-8"))
    zones = sorted({ride.zone for ride in rides})
    lines = [f"{zone:<12} {sum(ride.zone == zone for ride in rides):>4}" for zone in zones]
    return template.substitute(lines="\n".join(lines))
