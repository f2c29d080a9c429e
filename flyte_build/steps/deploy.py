"""Deploy: register what was serialized, dependencies first. The only step that changes the backend."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flyte_build import versions
from flyte_build.errors import BuildError, TasksNotRegistered, VersionTaken
from flyte_build.model import Registration, Target, Value
from flyte_build.state import digest
from flyte_build.state.trace import Trace
from flyte_build.steps import Outcome, serialize

if TYPE_CHECKING:
    from flyteidl2.task.task_definition_pb2 import TaskDetails, TaskIdentifier, TaskSpec
    from flyteidl2.task.task_service_pb2 import DeployTaskRequest

    from flyte_build.backend import Backend
    from flyte_build.project import Project

NAME = "deploy"
FORMAT = 1
_SHOWN_DIFFERENCES = 5


class Key(Value, frozen=True):
    format: int
    endpoint: str
    """Empty: the embedded control plane."""
    content: str
    """Digest of the specs and triggers, links to the source apart."""
    version: str


class Result(Value, frozen=True):
    endpoint: str
    version: str
    tasks: tuple[str, ...]


def key(project: Project, target: Target) -> Key:
    serialized = project.result(target.name, serialize.NAME, serialize.Result)
    return Key(
        format=FORMAT,
        endpoint=project.manifest.backend.endpoint,
        version=serialized.version,
        content=serialized.content,
    )


def run(project: Project, target: Target) -> Outcome:
    """Register the target's tasks. What an interrupted run has registered already is not sent again.

    Raises:
        VersionTaken: an explicit version exists with other content.
        TasksNotRegistered: the backend refused some; the rest are registered.
    """
    now = key(project, target)
    registrations = serialize.load(project, target)
    journal = Journal(project.state.journal(target.name, NAME), now)
    backend = project.backend()
    explicit = versions.is_explicit(target.version) and project.variables.get("force") != "true"
    failures: dict[str, BuildError] = {}
    sent = 0
    for wave in registrations.waves:
        missing = [r for r in wave if r.name not in journal.done]
        if explicit:
            missing = _not_there(missing, backend, now.endpoint or "the embedded control plane")
        failures |= backend.register([request(r) for r in missing], lambda done: journal.add(done.task_id.name))
        sent += len(missing)
    journal.close()
    names = tuple(r.name for wave in registrations.waves for r in wave)
    if failures:
        raise TasksNotRegistered(
            target=target.name,
            registered=len(names) - len(failures),
            failures=tuple(failures[name].message for name in sorted(failures)),
        )
    return Outcome(
        result=Result(endpoint=now.endpoint, version=now.version, tasks=names),
        trace=_embedded_trace(project),
        summary=f"registered {sent} task{'s' if sent != 1 else ''}",
    )


def _embedded_trace(project: Project) -> Trace:
    """The embedded control plane can be deleted with a folder: then nothing is registered."""
    if not project.manifest.backend.embedded:
        return Trace()
    return Trace(exists={os.path.relpath(project.state.backend, project.folder): "folder"})


def request(registration: Registration) -> DeployTaskRequest:
    """The message that registers one task."""
    from flyteidl2.task import task_definition_pb2, task_service_pb2

    spec = task_definition_pb2.TaskSpec.FromString(registration.spec)
    return task_service_pb2.DeployTaskRequest(
        task_id=_identifier(spec),
        spec=spec,
        triggers=[task_definition_pb2.TaskTrigger.FromString(data) for data in registration.triggers],
    )


def _identifier(spec: TaskSpec) -> TaskIdentifier:
    from flyteidl2.task import task_definition_pb2

    named = spec.task_template.id
    return task_definition_pb2.TaskIdentifier(
        org=named.org, project=named.project, domain=named.domain, name=named.name, version=named.version
    )


# --- an existing version is never silently overwritten


def _not_there(registrations: list[Registration], backend: Backend, where: str) -> list[Registration]:
    """Those to send: the backend has none of this version, or they have triggers, which it does not show."""
    wanted = [request(r) for r in registrations]
    found = backend.find_tasks([w.task_id for w in wanted])
    for new, old in zip(wanted, found, strict=True):
        _refuse_other_content(new, old, where)
    return [r for r, old in zip(registrations, found, strict=True) if old is None or r.triggers]


def _refuse_other_content(new: DeployTaskRequest, old: TaskDetails | None, where: str) -> None:
    differences = [] if old is None else list(spec_differences(old.spec, new.spec))
    if differences:
        shown = differences[:_SHOWN_DIFFERENCES]
        if len(differences) > len(shown):
            shown.append(f"and {len(differences) - len(shown)} more")
        raise VersionTaken(task=new.task_id.name, version=new.task_id.version, where=where, differences=tuple(shown))


def spec_differences(old: TaskSpec, new: TaskSpec) -> Iterator[str]:
    """`FIELD: OLD -> NEW` for each field that differs, the link to the source apart: it names a commit."""
    before, after = dict(_leaves(_plain(old))), dict(_leaves(_plain(new)))
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            yield f"{path}: {_short(before.get(path))} -> {_short(after.get(path))}"


def _plain(spec: TaskSpec) -> object:
    from google.protobuf.json_format import MessageToDict

    copy = type(spec)()
    copy.CopyFrom(spec)
    copy.documentation.ClearField("source_code")
    fields: object = MessageToDict(copy, preserving_proto_field_name=True)
    return fields


def _leaves(value: object, path: str = "") -> Iterable[tuple[str, object]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, value


def _short(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# --- what an interrupted run has done


class Journal:
    """Names of the tasks that were registered under one key, each written when it was. A torn last line is no name."""

    def __init__(self, path: Path, now: Key) -> None:
        self._path = path
        self._head = digest.of_bytes(now.json())
        self.done = self._read()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab" if self.done else "wb", buffering=0)
        if not self.done:
            self._file.write(f"{self._head}\n".encode())

    def add(self, name: str) -> None:
        self._file.write(f"{name}\n".encode())
        self.done.add(name)

    def close(self) -> None:
        self._file.close()

    def _read(self) -> set[str]:
        try:
            text = self._path.read_text(errors="replace")
        except FileNotFoundError:
            return set()
        head, *names = text.split("\n")
        return set(names[:-1]) if head == self._head else set()
