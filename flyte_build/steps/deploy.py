"""Deploy: register what was serialized, dependencies first. The only step that changes the backend."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flyte_build import versions
from flyte_build.errors import BuildError, TasksNotRegistered, VersionTaken
from flyte_build.model import Registration, Target, Value
from flyte_build.state import digest
from flyte_build.state.folder import unwritable, write_atomically
from flyte_build.state.lock import exclusive
from flyte_build.state.receipts import Receipt
from flyte_build.state.trace import Trace
from flyte_build.steps import Outcome, latest, serialize

if TYPE_CHECKING:
    from flyteidl2.task.task_definition_pb2 import TaskIdentifier, TaskSpec
    from flyteidl2.task.task_service_pb2 import DeployTaskRequest

    from flyte_build.backend import Backend
    from flyte_build.project import Project

NAME = "deploy"
FORMAT = 3
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
    project: str
    domain: str
    org: str
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
    settings = project.manifest.backend
    registrations = serialize.load(project, target)
    backend = _backend(project)
    trace = _trace(project, backend)
    explicit = versions.is_explicit(target.version) and project.variables.get("force") != "true"
    failures: dict[str, BuildError] = {}
    # Between the look and the registration nobody else may register: targets of one run are deployed side by side.
    alone = exclusive(project.state.versions_lock) if explicit else contextlib.nullcontext()
    with alone, Journal(project.state.journal(target.name, NAME), now.json() + trace.json()) as journal:
        done = _still_there(project, backend, registrations, journal.done)
        waves = [[r for r in wave if r.name not in done] for wave in registrations.waves]
        if explicit:
            where = now.endpoint or "the embedded control plane"
            waves = [_not_there(wave, backend, lambda new: _taken(new, where, project, target)) for wave in waves]
        for wave in waves:
            failures |= backend.register([request(r) for r in wave], lambda done: journal.add(done.task_id.name))
    sent = sum(map(len, waves))
    names = tuple(r.name for wave in registrations.waves for r in wave)
    if failures:
        raise TasksNotRegistered(
            place=target.place(),
            registered=len(names) - len(failures),
            failures=tuple(failures[name] for name in sorted(failures)),
        )
    result = Result(
        endpoint=now.endpoint,
        project=settings.project,
        domain=settings.domain,
        org=settings.org,
        version=now.version,
        tasks=names,
    )
    return Outcome(
        result=result,
        trace=trace,
        notes=(*_damage_note(project, backend), *latest_note(project, target, result, trace)),
        summary=f"version {now.version}, registered {sent} task{'s' if sent != 1 else ''}",
    )


def latest_note(project: Project, target: Target, result: Result, trace: Trace) -> tuple[str, ...]:
    """What is to be said of a version that is deployed now, here or by another machine."""
    parts = (result.endpoint, result.project, result.domain, result.org, trace.json())
    return latest.note(project, target, result.version, digest.of_parts("place", parts))


def _still_there(
    project: Project, backend: Backend, registrations: serialize.Registrations, journal: Collection[str]
) -> set[str]:
    """Of what an interrupted run has registered, what is there: a crash may have cut off a file."""
    done = [r for wave in registrations.waves for r in wave if r.name in journal]
    if not project.manifest.backend.embedded:
        return {r.name for r in done}
    found = backend.find_tasks([request(r).task_id for r in done])
    return {r.name for r, there in zip(done, found, strict=True) if there is not None}


def _backend(project: Project) -> Backend:
    if project.manifest.backend.embedded:
        from flyte_build.backend.database import IDENTITY

        project.index.forget(str(project.state.backend / IDENTITY))  # opening it may make another one
    return project.backend()


def _trace(project: Project, backend: Backend) -> Trace:
    """What the registrations stand on: deleted and made again, the embedded control plane has none of them."""
    if not project.manifest.backend.embedded:
        return Trace()
    from flyte_build.backend.database import FILE, IDENTITY
    from flyte_build.backend.embedded import EmbeddedBackend

    assert isinstance(backend, EmbeddedBackend)
    folder = os.path.relpath(project.state.backend, project.folder)
    files = {f"{folder}/{IDENTITY}": digest.of_bytes(backend.identity)}
    return Trace(files=files, databases=(f"{folder}/{FILE}",))


def _damage_note(project: Project, backend: Backend) -> tuple[str, ...]:
    """Told with the first target that meets it."""
    if not project.manifest.backend.embedded:
        return ()
    from flyte_build.backend.embedded import EmbeddedBackend

    assert isinstance(backend, EmbeddedBackend)
    kept = backend.set_aside
    if not kept or not project.is_news(f"damaged {kept}"):
        return ()
    return (f"the embedded control plane was damaged; starting over, and keeping what is left as {kept}",)


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


def _not_there(
    registrations: list[Registration], backend: Backend, taken: Callable[[DeployTaskRequest], VersionTaken]
) -> list[Registration]:
    """Those to send: the backend has none of this version, or they have triggers, which it does not show."""
    wanted = [request(r) for r in registrations]
    found = backend.find_tasks([w.task_id for w in wanted])
    for new, old in zip(wanted, found, strict=True):
        differences = [] if old is None else list(spec_differences(old.spec, new.spec))
        if differences:
            raise _with_differences(taken(new), differences)
    return [r for r, old in zip(registrations, found, strict=True) if old is None or r.triggers]


def _taken(new: DeployTaskRequest, where: str, project: Project, target: Target) -> VersionTaken:
    task = new.task_id
    receipts = {name: project.receipt(name, NAME) for name in project.manifest.targets if name != target.name}
    known = {n: r.read_if_known(Result) for n, r in receipts.items() if isinstance(r, Receipt)}
    others = [n for n, done in known.items() if done and task.name in done.tasks and done.version == task.version]
    return VersionTaken(task=task.name, version=task.version, where=where, differences=(), others=tuple(others))


def _with_differences(error: VersionTaken, differences: list[str]) -> VersionTaken:
    shown = differences[:_SHOWN_DIFFERENCES]
    if len(differences) > len(shown):
        shown.append(f"and {len(differences) - len(shown)} more")
    error.differences = tuple(shown)
    return error


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
    """Names of the tasks that were registered under one heading, each written when it was. A torn line is no name.

    Raises:
        StateUnwritable: the disk is full, or the folder may not be written.
    """

    def __init__(self, path: Path, heading: bytes) -> None:
        self._path = path
        self._head = digest.of_bytes(heading)
        self.done = self._read()

    def __enter__(self) -> Journal:
        write_atomically(self._path, "".join(f"{line}\n" for line in (self._head, *sorted(self.done))).encode())
        self._file = self._path.open("ab", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, name: str) -> None:
        line = f"{name}\n".encode()
        with unwritable(self._path):
            if self._file.write(line) != len(line):
                self._file.truncate(self._size)  # else the next name would be taken for the rest of this one
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += len(line)
        self.done.add(name)

    def _read(self) -> set[str]:
        try:
            text = self._path.read_text(errors="replace")
        except OSError:
            return set()
        head, *names = text.split("\n")
        return set(names[:-1]) if head == self._head else set()
