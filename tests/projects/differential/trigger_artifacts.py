"""Triggers that fire on a new version of an artifact."""

from datetime import datetime

import flyte
from flyte.io import File

env = flyte.TaskEnvironment(name="trigger_artifacts")


@env.task(
    triggers=(
        flyte.Trigger(
            "retrain", flyte.OnArtifact("model"), inputs={"model": flyte.TriggeredArtifact, "threshold": 0.5}
        ),
    ),
    produces_artifacts=True,
)
async def validate(model: File, threshold: float) -> str:
    return model.path


@env.task(
    triggers=flyte.Trigger(
        "clean_us",
        flyte.OnArtifact("raw", version="v1", partitions={"kind": "daily"}, region="us"),
        inputs={"raw": flyte.TriggeredArtifact, "day": flyte.TriggeredPartition("date")},
    )
)
def clean(raw: str, day: datetime) -> str:
    return raw
