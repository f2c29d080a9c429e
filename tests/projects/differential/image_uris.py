"""Images given as text."""

import flyte

env = flyte.TaskEnvironment(name="image_uri", image="ghcr.io/org/app:v1")
digest = flyte.TaskEnvironment(name="image_digest", image="ghcr.io/org/app@sha256:" + "0" * 64)
port = flyte.TaskEnvironment(name="image_port", image="localhost:5000/app")
auto = flyte.TaskEnvironment(name="image_auto", image="auto")
none = flyte.TaskEnvironment(name="image_none", image=None)


@env.task
def by_tag() -> None: ...


@digest.task
def by_digest() -> None: ...


@port.task
def by_port() -> None: ...


@auto.task
def by_default() -> None: ...


@none.task
def without() -> None: ...
