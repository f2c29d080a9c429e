"""Registered tasks, run as a cluster would: the container's own command, in a folder that holds nothing else."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.task.common_pb2 import Inputs, Outputs
from flyteidl2.task.task_definition_pb2 import TaskSpec

from flyte_build.backend.database import FILE
from tests.repository import SCRIPTS

Start = Callable[[list[str], Path, dict[str, str]], "subprocess.CompletedProcess[str]"]
"""Starts a command in a folder with these variables: in a process of this machine, or in a container."""


class Registered(NamedTuple):
    version: str
    spec: TaskSpec


def registered_in(folder: Path) -> dict[str, list[Registered]]:
    """Task -> what the embedded control plane of a repository has of it."""
    found: dict[str, list[Registered]] = {}
    with closing(sqlite3.connect(folder / ".flyte-build" / "backend" / FILE)) as database:
        for name, version, spec in database.execute("SELECT name, version, spec FROM tasks"):
            found.setdefault(name, []).append(Registered(version, TaskSpec.FromString(spec)))
    return found


def literal(value: Any) -> Literal:
    """A value as a cluster hands it to a task."""
    made = Literal()
    primitive = made.scalar.primitive
    if isinstance(value, list):
        made.collection.literals.extend(map(literal, value))
    elif isinstance(value, dict):
        made.scalar.binary.value, made.scalar.binary.tag = msgspec.msgpack.encode(value), "msgpack"
    elif isinstance(value, datetime):
        primitive.datetime.FromDatetime(value)
    elif isinstance(value, str):
        primitive.string_value = value
    elif isinstance(value, float):
        primitive.float_value = value
    else:
        primitive.integer = value
    return made


def plain(value: Literal) -> Any:
    """What a literal says."""
    match value.WhichOneof("value"):
        case "collection":
            return [plain(item) for item in value.collection.literals]
        case "map":
            return {key: plain(item) for key, item in value.map.literals.items()}
    scalar = value.scalar
    match scalar.WhichOneof("value"):
        case "binary":
            return msgspec.msgpack.decode(scalar.binary.value)
        case "union":
            return plain(scalar.union.value)
        case "none_type":
            return None
    return getattr(scalar.primitive, scalar.primitive.WhichOneof("value"))


def as_process(command: list[str], work: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Start a command of this virtual environment on this machine."""
    program, *arguments = command
    environ = {"PATH": os.environ["PATH"], "HOME": str(work.parent), **environ}
    return subprocess.run(
        [str(SCRIPTS / program), *arguments], cwd=work, env=environ, capture_output=True, text=True, check=False
    )


def run(spec: TaskSpec, folder: Path, given: Mapping[str, Any], start: Start = as_process) -> dict[str, Any]:
    """Start the container's own command in an empty folder, where its bundle is all that there is."""
    work = folder / "work"
    work.mkdir(parents=True)
    (folder / "outputs").mkdir()
    (folder / "inputs.pb").write_bytes(_inputs(spec, given).SerializeToString())
    container, task = spec.task_template.container, spec.task_template.id
    filled = {
        "{{.input}}": str(folder / "inputs.pb"),
        "{{.outputPrefix}}": str(folder / "outputs"),
        "{{.rawOutputDataPrefix}}": str(folder / "raw"),
        "{{.checkpointOutputPrefix}}": str(folder / "checkpoint"),
        "{{.prevCheckpointPrefix}}": "",
        "{{.runName}}": "run",
        "{{.actionName}}": "a0",
        "{{.runStartTime}}": "2024-02-29T00:00:00Z",
    }
    program, *arguments = [filled.get(argument, argument) for argument in container.args]
    where = {"run-base-dir": str(folder / "base"), "project": task.project, "domain": task.domain, "org": "acme"}
    named = [word for name, value in where.items() for word in (f"--{name}", value)]
    done = start([program, *named, *arguments], work, {pair.key: pair.value for pair in container.env})
    assert done.returncode == 0, done.stderr
    failed = [path.read_bytes() for path in (folder / "outputs").glob("error*")]
    assert not failed, failed
    outputs = Outputs.FromString((folder / "outputs" / "outputs.pb").read_bytes())
    return {each.name: plain(each.value) for each in outputs.literals}


def _inputs(spec: TaskSpec, given: Mapping[str, Any]) -> Inputs:
    inputs = Inputs()
    values = {each.name: each.parameter.default for each in spec.default_inputs}
    values |= {name: literal(value) for name, value in given.items()}
    for name, value in values.items():
        inputs.literals.add(name=name, value=value)
    return inputs
