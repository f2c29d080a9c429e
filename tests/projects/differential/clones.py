"""Environments made from others."""

from pathlib import Path

import flyte

base = flyte.TaskEnvironment(
    name="clone_base",
    image="ghcr.io/org/base:v1",
    resources=flyte.Resources(cpu=1),
    env_vars={"A": "1"},
    secrets="key",
    cache="auto",
    pod_template="default",
    description="The first",
    service_account="one",
    queue="queue",
    interruptible=True,
)
same = base.clone_with(name="clone_same")
changed = base.clone_with(
    "clone_changed",
    image=flyte.Image.from_base("ghcr.io/org/other:v1"),
    resources=flyte.Resources(cpu=2, memory="1Gi"),
    env_vars={"B": "2"},
    secrets=[flyte.Secret("other")],
    depends_on=[base],
    description="The second",
    interruptible=False,
    service_account="two",
    include=(str(Path(__file__).parent / "data" / "notes.txt"),),
    cache="disable",
    reusable=flyte.ReusePolicy(replicas=2),
)


@base.task
def on_base(x: int) -> int:
    return x


@same.task
def on_same(x: int) -> int:
    return x


@changed.task
def on_changed(x: int) -> int:
    return x


overridden = on_base.override(short_name="overridden", retries=4, cache="disable")
