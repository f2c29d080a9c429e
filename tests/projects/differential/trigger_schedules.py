"""Schedules: cron with a time zone, fixed rates, the named shapes, several on one task."""

from datetime import datetime, timezone

import flyte

env = flyte.TaskEnvironment(name="trigger_schedules")

NIGHTLY = flyte.Trigger("nightly", flyte.Cron("30 2 * * *", timezone="Europe/Stockholm"), description="Each night")
OFTEN = flyte.Trigger(name="often", automation=flyte.FixedRate(15))
LATER = flyte.Trigger(
    name="later",
    automation=flyte.FixedRate(60, start_time=datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),
    auto_activate=False,
)


@env.task(triggers=NIGHTLY)
def one(x: int = 1) -> int:
    return x


@env.task(triggers=(OFTEN, LATER))
async def two(x: int = 1) -> int:
    return x


@env.task(triggers=(flyte.Trigger.hourly("at"), flyte.Trigger.daily("at"), flyte.Trigger.weekly(), flyte.Trigger.monthly()))
def named_shapes(at: datetime = datetime(2024, 1, 1, tzinfo=timezone.utc)) -> str:
    return str(at)


@env.task(triggers=(flyte.Trigger.minutely("started", name="tick", inputs={"count": 3}),))
def with_time_and_input(started: datetime, count: int, label: str = "x") -> str:
    return label
