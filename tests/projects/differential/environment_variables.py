"""Environment variables, in the order they are written, with values that are easy to spoil."""

import flyte

env = flyte.TaskEnvironment(
    name="variables",
    env_vars={"ZULU": "last", "ALPHA": "first", "EMPTY": "", "SPACES": "  a b  ", "UNICODE": "snö ☃", "JSON": '{"a": 1}'},
)
none = flyte.TaskEnvironment(name="variables_none", env_vars={})


@env.task
def reads() -> str:
    return ""


@none.task
def reads_nothing() -> str:
    return ""
