"""Pod templates that the cluster knows by name."""

import flyte

env = flyte.TaskEnvironment(name="pod_names", pod_template="cluster-default")


@env.task
def inherits() -> None: ...


@env.task(pod_template="big-machines")
def overrides() -> None: ...
