"""Names at and over the limit of 63 characters."""

import flyte

LONG = "a_very_long_name_that_says_everything_about_what_this_environment_is_for_and_more"

env = flyte.TaskEnvironment(name=LONG)
limit = flyte.TaskEnvironment(name="x" * 63)
over = flyte.TaskEnvironment(name="z" * 64)


@env.task
def a_task_whose_name_is_rather_longer_than_what_anyone_would_ever_want_to_type(x: int) -> int:
    return x


@env.task(short_name="a short name that is not short at all, and that is cut at sixty-three characters")
def long_short_name(x: int) -> int:
    return x


@limit.task(short_name="s" * 63)
def at_limit(x: int) -> int:
    return x


@over.task(short_name="t" * 64)
def over_limit(x: int) -> int:
    return x
