"""Fits a model to clean rides, each night."""

from __future__ import annotations

from datetime import datetime, timedelta

import flyte

from services.prep.workflow import clean_rides, gather_rides, prep_env
from shared_lib.rides import Model, Ride

train_env = flyte.TaskEnvironment(
    name="train",
    description="Fits the model",
    resources=flyte.Resources(cpu=(1, 2), memory="512Mi"),
    depends_on=[prep_env],
)

NIGHTLY = flyte.Trigger(
    name="nightly",
    automation=flyte.Cron("30 2 * * *", timezone="Europe/London"),
    description="Fits the model again each night",
    inputs={"started": flyte.TriggerTime, "count": 96},
)
PATIENT = flyte.RetryStrategy(
    count=3, backoff=flyte.Backoff(base=timedelta(seconds=10), factor=2.0, cap=timedelta(minutes=2))
)


@train_env.task(cache="auto", retries=PATIENT, timeout=timedelta(minutes=10))
async def fit_model(rides: list[Ride]) -> Model:
    """Fits a straight line.

    Args:
        rides: Clean rides, at least two.
    """
    from shared_lib.regression import straight_line  # only this task needs it

    slope, start = straight_line([ride.kilometres for ride in rides], [ride.minutes for ride in rides])
    return Model(slope, start, len(rides))


@train_env.task(triggers=NIGHTLY, short_name="nightly training")
async def train_nightly(started: datetime, count: int = 48) -> Model:
    """Gathers, cleans and fits, in one container.

    `forward` calls a task as a plain function; `await gather_rides(...)` would start it as an action of its own.

    Args:
        started: When the trigger fired; the day seeds the made-up rides.
        count: How many rides to gather.
    """
    rides = await gather_rides.forward(count, started.toordinal())
    return await fit_model.forward(clean_rides.forward(rides).rides)
