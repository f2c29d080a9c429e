"""Requests, limits, disk and shared memory, in each form that they are written in."""

import flyte

whole = flyte.TaskEnvironment(name="res_whole", resources=flyte.Resources(cpu=2, memory="4Gi"))
fraction = flyte.TaskEnvironment(name="res_fraction", resources=flyte.Resources(cpu=0.5, memory="500M", disk="10Gi"))
milli = flyte.TaskEnvironment(name="res_milli", resources=flyte.Resources(cpu="250m"))
ranges = flyte.TaskEnvironment(name="res_ranges", resources=flyte.Resources(cpu=(1, "2500m"), memory=("1Gi", "4Gi")))
shared = flyte.TaskEnvironment(name="res_shared", resources=flyte.Resources(memory="1Gi", shm="512Mi"))
shared_auto = flyte.TaskEnvironment(name="res_shared_auto", resources=flyte.Resources(shm="auto"))
nothing = flyte.TaskEnvironment(name="res_nothing", resources=flyte.Resources())


@whole.task
def use_whole() -> int:
    return 1


@fraction.task
def use_fraction() -> int:
    return 1


@milli.task
def use_milli() -> int:
    return 1


@ranges.task
def use_ranges() -> int:
    return 1


@shared.task
def use_shared() -> int:
    return 1


@shared_auto.task
def use_shared_auto() -> int:
    return 1


@nothing.task
def use_nothing() -> int:
    return 1
