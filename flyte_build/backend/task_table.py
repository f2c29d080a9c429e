"""The tasks of the embedded control plane. Each function runs in the caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from flyteidl2.task.task_definition_pb2 import Task, TaskDetails, TaskIdentifier, TaskMetadata, TaskName, TaskSpec
from flyteidl2.task.task_service_pb2 import (
    DeployTaskRequest,
    ListTasksRequest,
    ListTasksResponse,
    ListVersionsRequest,
    ListVersionsResponse,
)
from google.protobuf.timestamp_pb2 import Timestamp

from flyte_build.backend import trigger_table
from flyte_build.backend.listing import Clause, filters_of, page_of, scope_of, where

_COLUMNS = {
    "name": "name",
    "version": "version",
    "project": "project",
    "domain": "domain",
    "environment": "environment",
    "environment_name": "environment",
    "short_name": "short_name",
    "function_name": "short_name",
    "created_at": "created_at",
    "deployed_at": "created_at",
    "updated_at": "updated_at",
}
_NEWEST_FIRST = "created_at DESC, id DESC"
_UPSERT = """
INSERT INTO tasks (org, project, domain, name, version, environment, short_name, short_description, entrypoint, spec,
                   created_at, updated_at, digest)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12,
        row_digest(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?10))
ON CONFLICT (org, project, domain, name, version) DO UPDATE SET
    environment = excluded.environment, short_name = excluded.short_name,
    short_description = excluded.short_description, entrypoint = excluded.entrypoint, spec = excluded.spec,
    updated_at = excluded.updated_at, digest = excluded.digest
"""


def deploy(connection: sqlite3.Connection, request: DeployTaskRequest, moment: int) -> None:
    """Register a task and its triggers. A version that is there gets the new spec and keeps its `created_at`."""
    task, spec = request.task_id, request.spec
    environment = spec.environment.name
    values = (
        *(task.org, task.project, task.domain, task.name, task.version),
        *(environment, _short_name(task.name, environment), spec.documentation.short_description),
        *(spec.task_template.metadata.is_entrypoint, spec.SerializeToString(deterministic=True), moment, moment),
    )
    connection.execute(_UPSERT, values)
    trigger_table.deploy(connection, task, request.triggers, moment)


def find(connection: sqlite3.Connection, task: TaskIdentifier) -> TaskDetails | None:
    """What is registered under exactly this identifier."""
    key = (task.org, task.project, task.domain, task.name, task.version)
    query = "SELECT * FROM tasks WHERE org = ? AND project = ? AND domain = ? AND name = ? AND version = ?"
    row = connection.execute(query, key).fetchone()
    if row is None:
        return None
    return TaskDetails(task_id=task, metadata=_metadata(connection, row), spec=TaskSpec.FromString(row["spec"]))


def list_latest(connection: sqlite3.Connection, request: ListTasksRequest) -> ListTasksResponse:
    """One page of tasks, each in its latest version.

    Raises:
        Refused: a filter, a sort or a token that makes no sense.
    """
    scope = scope_of(
        org=request.org or request.project_id.organization,
        project=request.project_id.name,
        domain=request.project_id.domain,
    )
    wanted = [*scope, *filters_of(request.request, _COLUMNS), *_known_filters(request)]
    page = page_of(request.request, columns=_COLUMNS, default=_NEWEST_FIRST)
    latest, every = _latest(wanted), _latest(scope)
    rows = connection.execute(f"SELECT * FROM ({latest.sql}) {page.sql}", latest.values).fetchall()  # noqa: S608
    return ListTasksResponse(
        tasks=[_task(connection, row) for row in rows[: page.limit]],
        token=page.next_token(len(rows)),
        metadata=ListTasksResponse.ListTasksMetadata(
            total=_count(connection, every), filtered_total=_count(connection, latest)
        ),
    )


def list_versions(connection: sqlite3.Connection, request: ListVersionsRequest) -> ListVersionsResponse:
    """One page of a task's versions, newest first unless asked otherwise.

    Raises:
        Refused: a filter, a sort or a token that makes no sense.
    """
    name: TaskName = request.task_name
    scope = scope_of(org=name.org, project=name.project, domain=name.domain, name=name.name)
    clause = where([*scope, *filters_of(request.request, _COLUMNS)])
    page = page_of(request.request, columns=_COLUMNS, default=_NEWEST_FIRST)
    query = f"SELECT version, created_at FROM tasks {clause.sql} {page.sql}"  # noqa: S608
    rows = connection.execute(query, clause.values).fetchall()
    return ListVersionsResponse(
        versions=[
            ListVersionsResponse.VersionResponse(version=row["version"], deployed_at=timestamp(row["created_at"]))
            for row in rows[: page.limit]
        ],
        token=page.next_token(len(rows)),
    )


def projects(connection: sqlite3.Connection) -> list[str]:
    """The projects that have tasks."""
    return [row["project"] for row in connection.execute("SELECT DISTINCT project FROM tasks ORDER BY project")]


def timestamp(microseconds: int) -> Timestamp:
    moment = Timestamp()
    moment.FromMicroseconds(microseconds)
    return moment


def _latest(clauses: Iterable[Clause]) -> Clause:
    condition = where(clauses)
    ranked = f"ROW_NUMBER() OVER (PARTITION BY org, project, domain, name ORDER BY {_NEWEST_FIRST}) AS rank"
    return Clause(f"SELECT * FROM (SELECT *, {ranked} FROM tasks {condition.sql}) WHERE rank = 1", condition.values)  # noqa: S608


def _count(connection: sqlite3.Connection, query: Clause) -> int:
    (count,) = connection.execute(f"SELECT COUNT(*) FROM ({query.sql})", query.values).fetchone()  # noqa: S608
    return int(count)


def _known_filters(request: ListTasksRequest) -> list[Clause]:
    """Entry points, as the CLI asks for them. It is not recorded who deployed: that filter matches nothing."""
    return [
        Clause("entrypoint = ?", (int(each.is_entrypoint),)) if each.HasField("is_entrypoint") else Clause("0")
        for each in request.known_filters
        if each.WhichOneof("filter_by")
    ]


def _task(connection: sqlite3.Connection, row: sqlite3.Row) -> Task:
    identifier = TaskIdentifier(**{part: row[part] for part in ("org", "project", "domain", "name", "version")})
    return Task(task_id=identifier, metadata=_metadata(connection, row))


def _metadata(connection: sqlite3.Connection, row: sqlite3.Row) -> TaskMetadata:
    return TaskMetadata(
        short_name=row["short_name"],
        environment_name=row["environment"],
        short_description=row["short_description"],
        deployed_at=timestamp(row["created_at"]),
        triggers_summary=trigger_table.summary(connection, row),
    )


def _short_name(name: str, environment: str) -> str:
    prefix = f"{environment}."
    return name[len(prefix) :] if environment and name.startswith(prefix) else name.rpartition(".")[2]
