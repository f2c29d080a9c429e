"""A resolver of the user's own: finds a task by one word."""

from __future__ import annotations

import importlib
from pathlib import Path

from flyte.extend import TaskTemplate


class WordResolver:
    import_path = "support.resolver.WordResolver"

    def load_task(self, loader_args: list[str]) -> TaskTemplate:
        module, _, name = loader_args[0].partition(":")
        return getattr(importlib.import_module(module), name)

    def loader_args(self, task: TaskTemplate, root_dir: Path) -> list[str]:
        return [f"custom_resolver:{task.func.__name__}", task.name]
