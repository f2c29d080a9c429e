"""Pod templates as objects: sidecars, volumes, labels, and the SDK's own helpers."""

from datetime import timedelta

import flyte
from kubernetes.client import (
    V1Container,
    V1EnvVar,
    V1PodSpec,
    V1ResourceRequirements,
    V1Toleration,
    V1Volume,
    V1VolumeMount,
)

sidecar = flyte.PodTemplate(
    primary_container_name="main",
    labels={"team": "data", "app": "x"},
    annotations={"note": "hello"},
    pod_spec=V1PodSpec(
        containers=[
            V1Container(
                name="main",
                env=[V1EnvVar(name="FROM_POD", value="1")],
                resources=V1ResourceRequirements(limits={"example.com/widget": "1"}, requests={"cpu": "100m"}),
                volume_mounts=[V1VolumeMount(name="scratch", mount_path="/scratch")],
            ),
            V1Container(name="logger", image="busybox:1", command=["tail"], args=["-f", "/dev/null"]),
        ],
        volumes=[V1Volume(name="scratch", empty_dir={})],
        tolerations=[V1Toleration(key="spot", operator="Exists", effect="NoSchedule")],
        node_selector={"disk": "ssd"},
    ),
)
adopted = flyte.PodTemplate.from_spec(
    V1PodSpec(containers=[V1Container(name="only", image="ghcr.io/org/fixed:v1")]), labels={"a": "b"}
)

env = flyte.TaskEnvironment(
    name="pod_objects",
    pod_template=sidecar,
    resources=flyte.Resources(cpu=(1, 2), memory="1Gi", gpu=1, disk="1Gi"),
    env_vars={"FROM_ENV": "2"},
)
plain = flyte.TaskEnvironment(name="pod_objects_plain", image="ghcr.io/org/plain:v1")


@env.task
def with_sidecar(x: int = 1) -> int:
    """Runs beside a logger."""
    return x


@env.task(pod_template=adopted)
def task_wins(x: int) -> int:
    return x


@plain.task(pod_template=flyte.PodTemplate(labels={"queue": "fast"}, annotations={"why": "labels only"}))
def labels_only(x: int) -> int:
    return x


@plain.task(pod_template=flyte.PodTemplate().with_termination_grace_period(timedelta(minutes=2)))
def graceful(x: int) -> int:
    return x


@plain.task(pod_template=flyte.PodTemplate().allow_fuse().allow_nested_sandboxing())
def capable(x: int) -> int:
    return x
