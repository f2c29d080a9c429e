"""An environment that runs one task on several machines."""

import flyte
from flyte.clustered import ClusteredTaskEnvironment, ClusterFailurePolicy, TorchRun

env = ClusteredTaskEnvironment(
    name="clustered",
    replicas=2,
    nproc_per_node=4,
    runtime=TorchRun(rdzv_backend="c10d", max_restarts=1),
    failure_policy=ClusterFailurePolicy(max_restarts=3, restart_on_host_maintenance=True),
    ttl_seconds_after_finished=600,
    resources=flyte.Resources(cpu=2, memory="4Gi"),
)


@env.task
async def train(epochs: int = 3) -> float:
    return float(epochs)
