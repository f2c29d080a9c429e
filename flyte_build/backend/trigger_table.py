"""The triggers of the embedded control plane. Each function runs in the caller's transaction.

As in Flyte's own backend: every deploy of a trigger is a new revision and sets whether it is active, and a deploy with
at least one trigger removes the task's others, while a deploy with none leaves them all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from flyteidl2.common.identifier_pb2 import TriggerIdentifier, TriggerName
from flyteidl2.task.common_pb2 import TriggerAutomationSpec
from flyteidl2.task.task_definition_pb2 import TaskIdentifier, TaskTrigger, TaskTriggersSummary
from flyteidl2.trigger.trigger_definition_pb2 import Trigger, TriggerDetails, TriggerSpec, TriggerStatus
from flyteidl2.trigger.trigger_service_pb2 import ListTriggersRequest, ListTriggersResponse
from google.protobuf.timestamp_pb2 import Timestamp

from flyte_build.backend.listing import Clause, filters_of, page_of, scope_of, where

_COLUMNS = {
    "name": "name",
    "task_name": "task_name",
    "task_version": "task_version",
    "active": "active",
    "created_at": "deployed_at",
    "deployed_at": "deployed_at",
    "updated_at": "updated_at",
}
_THIS = "org = ? AND project = ? AND domain = ? AND task_name = ? AND name = ? AND deleted_at IS NULL"
_UPSERT = """
INSERT INTO triggers (org, project, domain, task_name, name, task_version, revision, active, spec, automation_spec,
                      deployed_at, updated_at, digest)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8, ?9, ?10, ?11, row_digest(?1, ?2, ?3, ?4, ?5, ?6, ?8, ?9))
ON CONFLICT (org, project, domain, task_name, name) DO UPDATE SET
    task_version = excluded.task_version, revision = revision + 1, spec = excluded.spec,
    automation_spec = excluded.automation_spec, digest = excluded.digest, deployed_at = excluded.deployed_at,
    deleted_at = NULL,
    updated_at = CASE WHEN active <> excluded.active THEN excluded.updated_at ELSE updated_at END,
    active = excluded.active
"""


def deploy(connection: sqlite3.Connection, task: TaskIdentifier, triggers: Iterable[TaskTrigger], moment: int) -> None:
    """Register the triggers that came with a task."""
    triggers = list(triggers)
    for trigger in triggers:
        save(connection, _name(task, trigger), _spec(task, trigger), trigger.automation_spec, moment)
    if triggers:
        keep = [trigger.name for trigger in triggers]
        others = f"name NOT IN ({', '.join('?' * len(keep))})"
        _delete(connection, Clause(others, tuple(keep)), _name(task, triggers[0]), moment)


def save(
    connection: sqlite3.Connection, name: TriggerName, spec: TriggerSpec, automation: TriggerAutomationSpec, moment: int
) -> None:
    """Register one trigger, as a new revision."""
    values = (*_key(name), spec.task_version, spec.active, spec.SerializeToString(), automation.SerializeToString())
    connection.execute(_UPSERT, (*values, moment, moment))


def find(connection: sqlite3.Connection, name: TriggerName) -> TriggerDetails | None:
    row = connection.execute(f"SELECT * FROM triggers WHERE {_THIS}", _key(name)).fetchone()  # noqa: S608
    return None if row is None else _details(row)


def list_page(connection: sqlite3.Connection, request: ListTriggersRequest) -> ListTriggersResponse:
    """One page of the triggers of a project, a task, or one version of it.

    Raises:
        Refused: a filter, a sort or a token that makes no sense.
    """
    page = page_of(request.request, columns=_COLUMNS, default="active DESC, updated_at DESC, id DESC")
    clause = where([Clause("deleted_at IS NULL"), *_scope(request), *filters_of(request.request, _COLUMNS)])
    rows = connection.execute(f"SELECT * FROM triggers {clause.sql} {page.sql}", clause.values).fetchall()  # noqa: S608
    return ListTriggersResponse(
        triggers=[_trigger(row) for row in rows[: page.limit]], token=page.next_token(len(rows))
    )


def set_active(connection: sqlite3.Connection, names: Iterable[TriggerName], active: bool, moment: int) -> None:
    """Pause triggers or let them fire again; those that are so already stay as they are."""
    change = "UPDATE triggers SET active = ?, updated_at = ?, revision = revision + 1"
    for name in names:
        connection.execute(f"{change} WHERE active <> ? AND {_THIS}", (active, moment, active, *_key(name)))


def delete(connection: sqlite3.Connection, names: Iterable[TriggerName], moment: int) -> None:
    """Remove triggers; those that are not there are passed over."""
    for name in names:
        _delete(connection, Clause("name = ?", (name.name,)), name, moment)


def summary(connection: sqlite3.Connection, task: sqlite3.Row) -> TaskTriggersSummary | None:
    """The triggers of one version of a task: the one, or how many."""
    query = """SELECT name, active, automation_spec FROM triggers WHERE org = ? AND project = ? AND domain = ?
               AND task_name = ? AND task_version = ? AND deleted_at IS NULL"""
    key = [task[part] for part in ("org", "project", "domain", "name", "version")]
    rows = connection.execute(query, key).fetchall()
    if not rows:
        return None
    if len(rows) > 1:
        active = sum(row["active"] for row in rows)
        return TaskTriggersSummary(stats=TaskTriggersSummary.TriggerStats(total=len(rows), active=active))
    automation = TriggerAutomationSpec.FromString(rows[0]["automation_spec"])
    one = TaskTriggersSummary.TriggerDetails(
        name=rows[0]["name"], active=bool(rows[0]["active"]), automation_spec=automation
    )
    return TaskTriggersSummary(details=one)


def _delete(connection: sqlite3.Connection, which: Clause, of: TriggerName, moment: int) -> None:
    connection.execute(
        f"""UPDATE triggers SET deleted_at = ?, active = 0, revision = revision + 1
            WHERE org = ? AND project = ? AND domain = ? AND task_name = ? AND deleted_at IS NULL AND {which.sql}""",  # noqa: S608
        (moment, of.org, of.project, of.domain, of.task_name, *which.values),
    )


def _scope(request: ListTriggersRequest) -> list[Clause]:
    kind = request.WhichOneof("scope_by")
    if kind == "org":
        return scope_of(org=request.org)
    if kind == "project_id":
        project = request.project_id
        return scope_of(org=project.organization, project=project.name, domain=project.domain)
    if kind == "task_id":
        task = request.task_id
        scope = scope_of(org=task.org, project=task.project, domain=task.domain, task_name=task.name)
        return [*scope, *scope_of(task_version=task.version)]
    name = request.task_name
    return scope_of(org=name.org, project=name.project, domain=name.domain, task_name=name.name)


def _name(task: TaskIdentifier, trigger: TaskTrigger) -> TriggerName:
    return TriggerName(org=task.org, project=task.project, domain=task.domain, task_name=task.name, name=trigger.name)


def _spec(task: TaskIdentifier, trigger: TaskTrigger) -> TriggerSpec:
    given = trigger.spec
    spec = TriggerSpec(
        active=given.active, task_version=task.version, description=given.description, run_spec=given.run_spec
    )
    if given.HasField("offloaded_input_data"):
        spec.offloaded_input_data.CopyFrom(given.offloaded_input_data)
    else:
        spec.inputs.CopyFrom(given.inputs)
    return spec


def _key(name: TriggerName) -> tuple[str, str, str, str, str]:
    return (name.org, name.project, name.domain, name.task_name, name.name)


def _identifier(row: sqlite3.Row) -> TriggerIdentifier:
    name = TriggerName(**{part: row[part] for part in ("org", "project", "domain", "task_name", "name")})
    return TriggerIdentifier(name=name, revision=row["revision"])


def _details(row: sqlite3.Row) -> TriggerDetails:
    spec = TriggerSpec.FromString(row["spec"])
    spec.active = bool(row["active"])
    return TriggerDetails(
        id=_identifier(row),
        spec=spec,
        status=_status(row),
        automation_spec=TriggerAutomationSpec.FromString(row["automation_spec"]),
        description=spec.description,
    )


def _trigger(row: sqlite3.Row) -> Trigger:
    return Trigger(
        id=_identifier(row),
        status=_status(row),
        active=bool(row["active"]),
        automation_spec=TriggerAutomationSpec.FromString(row["automation_spec"]),
    )


def _status(row: sqlite3.Row) -> TriggerStatus:
    deployed, updated = Timestamp(), Timestamp()
    deployed.FromMicroseconds(row["deployed_at"])
    updated.FromMicroseconds(row["updated_at"])
    return TriggerStatus(deployed_at=deployed, updated_at=updated)
