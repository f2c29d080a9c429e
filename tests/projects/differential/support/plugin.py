"""A task plugin of the user's own."""

from dataclasses import dataclass

from flyte.extend import AsyncFunctionTaskTemplate, TaskPluginRegistry
from flyte.models import SerializationContext


@dataclass
class Queue:
    """What a user writes as `plugin_config`."""

    workers: int
    labels: dict[str, str]


@dataclass(kw_only=True)
class QueueTask(AsyncFunctionTaskTemplate):
    plugin_config: Queue
    task_type: str = "own-queue"
    task_type_version: int = 2

    def custom_config(self, sctx: SerializationContext) -> dict:
        return {"workers": self.plugin_config.workers, "labels": self.plugin_config.labels, "version": sctx.version}

    def config(self, sctx: SerializationContext) -> dict[str, str]:
        return {"queue-domain": sctx.domain or "", "queue-project": sctx.project or ""}


@dataclass
class Statement:
    """Runs a statement in a database: no container at all."""

    text: str


@dataclass(kw_only=True)
class StatementTask(AsyncFunctionTaskTemplate):
    plugin_config: Statement
    task_type: str = "own-sql"

    def sql(self, sctx: SerializationContext):
        from flyteidl2.core import tasks_pb2

        return tasks_pb2.Sql(statement=self.plugin_config.text, dialect=tasks_pb2.Sql.ANSI)


TaskPluginRegistry.register(Queue, QueueTask)
TaskPluginRegistry.register(Statement, StatementTask)
