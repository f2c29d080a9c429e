"""An environment without tasks: those are declared where it is used."""

import flyte

shared_env = flyte.TaskEnvironment(name="shared_environment", image="ghcr.io/org/shared:v1", env_vars={"SHARED": "1"})
