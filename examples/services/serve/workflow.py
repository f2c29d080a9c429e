"""Answers how long a ride will take."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import flyte

from services.prep.workflow import clean_rides, gather_rides
from services.train.workflow import fit_model, train_env
from shared_lib.rides import Model

serve_env = flyte.TaskEnvironment(
    name="serve",
    description="Predicts the length of rides",
    resources=flyte.Resources(cpu="250m", memory="256Mi"),
    interruptible=True,
    depends_on=[train_env],  # and through it on prep
)


class Weather(Enum):
    DRY = "dry"
    RAIN = "rain"
    SNOW = "snow"


SLOWER = {Weather.DRY: 1.0, Weather.RAIN: 1.2, Weather.SNOW: 1.5}


@dataclass
class Prediction:
    kilometres: float
    minutes: float
    weather: Weather = Weather.DRY


@serve_env.task(retries=2)
def predict(model: Model, kilometres: float, weather: Weather = Weather.DRY) -> Prediction:
    """Predicts one ride."""
    return Prediction(kilometres, round(model.minutes(kilometres) * SLOWER[weather], 2), weather)


@serve_env.task
async def predict_each(model: Model, distances: list[float]) -> dict[str, float]:
    """Predicts the minutes of several rides, by distance."""
    return {f"{distance:g} km": model.minutes(distance) for distance in distances}


@serve_env.task(entrypoint=True)
async def estimate(kilometres: float = 5.0, weather: Weather = Weather.DRY) -> Prediction:
    """Goes the whole way: gathers, cleans, fits and predicts, in one container."""
    rides = await gather_rides.forward()
    model = await fit_model.forward(clean_rides.forward(rides).rides)
    return predict.forward(model, kilometres, weather)
