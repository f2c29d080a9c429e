"""A service account at the environment, and one at the task that wins."""

import flyte

env = flyte.TaskEnvironment(name="service_accounts", service_account="env-account")
plain = flyte.TaskEnvironment(name="service_accounts_plain")


@env.task
def inherits() -> None: ...


@env.task(service_account="task-account")
def overrides() -> None: ...


@plain.task(service_account="lonely-account")
def only_task() -> None: ...


@plain.task
def none_at_all() -> None: ...
