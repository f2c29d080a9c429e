"""What a repository's dodo.py imports: `from flyte_build.dodo import *`."""

from __future__ import annotations

import sys

if sys.path and sys.path[0] not in ("", *sys.path[1:]):
    # doit puts the repository before everything else, where a `queue.py` of the user's would run in this process.
    sys.path.append(sys.path.pop(0))

import gc

gc.set_threshold(100_000)  # a run makes many objects that live to its end: looking for garbage finds none

from collections.abc import Iterator  # noqa: E402 what these import is a part of it

from flyte_build import doit_commands, graph, interrupts  # noqa: E402

__all__ = [
    "DOIT_CONFIG",
    "task_bundle",
    "task_cache",
    "task_check",
    "task_deploy",
    "task_discover",
    "task_images",
    "task_plan",
    "task_serialize",
    "task_serve",
    "task_upload",
]

gc.freeze()  # what is imported by now stays

DOIT_CONFIG = graph.configuration()
doit_commands.install()
interrupts.handle(graph.interrupt)


def task_discover() -> Iterator[graph.Task]:
    return graph.step_tasks("discover")


def task_bundle() -> Iterator[graph.Task]:
    return graph.step_tasks("bundle")


def task_images() -> Iterator[graph.Task]:
    return graph.step_tasks("images")


def task_upload() -> Iterator[graph.Task]:
    return graph.step_tasks("upload")


def task_serialize() -> Iterator[graph.Task]:
    return graph.step_tasks("serialize")


def task_deploy() -> Iterator[graph.Task]:
    return graph.step_tasks("deploy")


def task_plan() -> Iterator[graph.Task]:
    return graph.plan_tasks()


def task_check() -> Iterator[graph.Task]:
    return graph.check_tasks()


def task_serve() -> graph.Task:
    return graph.serve_task()


def task_cache() -> graph.Task:
    return graph.cache_task()
