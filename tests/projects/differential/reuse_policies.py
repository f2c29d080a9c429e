"""Reusable containers: counts, ranges, scopes and idle times."""

from datetime import timedelta

import flyte

plain = flyte.TaskEnvironment(name="reuse_plain", reusable=flyte.ReusePolicy())
ranged = flyte.TaskEnvironment(
    name="reuse_ranged",
    reusable=flyte.ReusePolicy(
        replicas=(1, 5), idle_ttl=timedelta(minutes=5), concurrency=3, scaledown_ttl=120, scope="run"
    ),
    resources=flyte.Resources(cpu=1, memory="1Gi"),
    env_vars={"A": "1"},
    secrets="key",
    interruptible=True,
)
in_pod = flyte.TaskEnvironment(
    name="reuse_in_pod",
    reusable=flyte.ReusePolicy(replicas=3, idle_ttl=45),
    pod_template=flyte.PodTemplate(labels={"x": "y"}),
    image="ghcr.io/org/reused:v1",
)
named_pod = flyte.TaskEnvironment(
    name="reuse_named_pod", reusable=flyte.ReusePolicy(replicas=4, scaledown_ttl=timedelta(seconds=40)),
    pod_template="cluster-default", service_account="worker",
)


@plain.task
def sync_worker(x: int) -> int:
    return x


@ranged.task
async def concurrent_worker(x: int) -> int:
    return x


@ranged.task(cache="auto", retries=2)
async def cached_worker(x: int) -> int:
    return x


@in_pod.task
def pod_worker(x: int) -> int:
    return x


@named_pod.task(short_name="named")
async def named_pod_worker(x: int) -> int:
    return x
