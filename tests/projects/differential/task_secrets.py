"""Secrets by name, by group, as a variable, as a file, and several."""

from pathlib import Path

import flyte

by_name = flyte.TaskEnvironment(name="secret_by_name", secrets="my-key")
grouped = flyte.TaskEnvironment(name="secret_grouped", secrets=flyte.Secret("token", group="my-team"))
mounted = flyte.TaskEnvironment(
    name="secret_mounted", secrets=flyte.Secret("cert", group="tls", mount=Path("/etc/flyte/secrets"))
)
several = flyte.TaskEnvironment(
    name="secret_several",
    secrets=["plain", flyte.Secret("openai", as_env_var="OPENAI_API_KEY"), flyte.Secret(key="x", group="g")],
    service_account="reader",
)


@by_name.task
def use_name() -> str:
    return ""


@grouped.task
def use_group() -> str:
    return ""


@mounted.task
def use_mount() -> str:
    return ""


@several.task
def use_several() -> str:
    return ""
