"""Image objects that need no build."""

import flyte

BASE = flyte.Image.from_base("ghcr.io/org/base:v2")

based = flyte.TaskEnvironment(name="image_based", image=BASE)
shared = flyte.TaskEnvironment(name="image_shared", image=BASE, depends_on=[based])
debian = flyte.TaskEnvironment(name="image_debian", image=flyte.Image.from_debian_base())
other_python = flyte.TaskEnvironment(
    name="image_other_python", image=flyte.Image.from_debian_base(python_version=(3, 12), platform=("linux/arm64",))
)
other_flyte = flyte.TaskEnvironment(
    name="image_other_flyte", image=flyte.Image.from_debian_base(python_version=(3, 13), flyte_version="2.11.0")
)


@based.task
def on_base() -> None: ...


@shared.task
def on_shared() -> None: ...


@debian.task
def on_debian() -> None: ...


@other_python.task
def on_other_python() -> None: ...


@other_flyte.task
def on_other_flyte() -> None: ...
