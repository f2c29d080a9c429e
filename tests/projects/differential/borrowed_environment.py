"""Tasks in an environment that another module declares."""

from support.environments import shared_env


@shared_env.task
def here(x: int) -> int:
    return x
