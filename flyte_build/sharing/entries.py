"""Objects of the shared cache: their names, the keys that they are sealed with, and what is in them."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec.structs import replace

from flyte_build import versions
from flyte_build.cache import FORMAT
from flyte_build.cache.sealed import derived, unseal
from flyte_build.model import Target, Value
from flyte_build.sharing.surroundings import machine_of
from flyte_build.state import trace as tracing
from flyte_build.state.receipts import Made, World
from flyte_build.state.trace import Trace
from flyte_build.steps import discover

if TYPE_CHECKING:
    from flyte_build.project import Project

_T = TypeVar("_T", bound=Value)

QUESTIONS, LOCAL, DEPLOYED, USED = (f"{FORMAT}/{kind}" for kind in ("questions", "local", "deployed", "used"))
KINDS = ("questions", "local", "deployed", "used")
TRACED = ("discover", "bundle")
"""Steps that look at the world."""
_OUTPUT = re.compile(r"(objects/[0-9a-f]{32}|bundles/[0-9a-f]{32}\.tar\.gz)")


class Traces(Value, frozen=True):
    """What a target's results were made from; or, without answers, what to look at."""

    discover: Trace
    bundle: Trace

    def questions(self) -> Traces:
        return Traces(discover=tracing.questions(self.discover), bundle=tracing.questions(self.bundle))

    def answered(self, world: World) -> Traces:
        folder = str(world.folder)
        return Traces(
            discover=tracing.answered(self.discover, folder, world.index, world.environ),
            bundle=tracing.answered(self.bundle, folder, world.index, world.environ),
        )

    def of(self, step: str) -> Trace:
        return {"discover": self.discover, "bundle": self.bundle}.get(step, Trace())


class SharedReceipt(Value, frozen=True):
    """A receipt without its trace, which the world answers again where it arrives."""

    key: bytes
    """Canonical JSON, and so the result."""
    result: bytes
    outputs: dict[str, str]
    made: Made


class Entry(Value, frozen=True):
    """Results of one target."""

    receipts: dict[str, SharedReceipt]
    files: dict[str, bytes]
    """Path below the state folder -> content. A large archive is missing: packing it again takes less time."""
    made: float
    """Seconds since the epoch."""
    commit: str
    """What was checked out; empty: unknown."""
    machine: str

    @property
    def origin(self) -> str:
        """When, where and of what it was made, in words."""
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.made))
        commit = f", commit {self.commit[:12]}" if self.commit else ""
        return f"made {when} on {self.machine}{commit}"


class Sealed(Value, frozen=True):
    """An object's name, and the key that it is sealed with."""

    name: str
    key: bytes


def static_key(project: Project, target: Target, surroundings: str) -> bytes:
    """What is known of a target before anything is read.

    Raises:
        StepError: the discovery's key cannot be made.
    """
    portable = replace(discover.key(project, target), python="", installed_distributions="")
    table = replace(target, name="", version="", load_timeout=300)
    images = project.manifest.images
    return derived("static", surroundings.encode(), portable.json(), table.json(), images.json())


def place_key(project: Project, target: Target) -> bytes:
    """Where a target is deployed to, and its version as far as that is known before the content.

    Raises:
        StepError: the version cannot be filled in.
    """
    store, backend = project.manifest.store, project.manifest.backend
    version = versions.fill(target, project.folder, project.environ)
    redirected = project.place_of_store
    machine = machine_of(backend.endpoint, store.endpoint_url, *redirected.values())
    named = [part for pair in redirected.items() for part in pair]
    parts = (backend.endpoint, backend.project, backend.domain, backend.org, version, machine, *named)
    return derived("place", store.json(), *(part.encode() for part in parts))


def questions_folder(surroundings: str, static: bytes) -> str:
    return f"{QUESTIONS}/{surroundings}/{static.hex()[:32]}"


def questions_object(surroundings: str, static: bytes, questions: Traces) -> Sealed:
    name = derived("questions", static, questions.json()).hex()[:32]
    return Sealed(name=f"{questions_folder(surroundings, static)}/{name}", key=questions_key(static))


def questions_key(static: bytes) -> bytes:
    return derived("questions key", static)


def local_object(static: bytes, answers: Traces) -> Sealed:
    return _sealed(LOCAL, static, answers.json())


def deployed_object(static: bytes, answers: Traces, place: bytes) -> Sealed:
    return _sealed(DEPLOYED, static, answers.json(), place)


def _sealed(folder: str, *parts: bytes) -> Sealed:
    return Sealed(name=f"{folder}/{derived('name', *parts).hex()}", key=derived("key", *parts))


def opened(sealed: Sealed, data: bytes, kind: type[_T]) -> _T | None:
    """What is in an object; None when it is not what was written under its name, or written by another version."""
    content = unseal(sealed.key, data)
    if content is None:
        return None
    try:
        return msgspec.msgpack.decode(content, type=kind)
    except msgspec.DecodeError:
        return None


def is_output(path: str) -> bool:
    """Whether an entry may bring this file: what comes from elsewhere is written nowhere but there."""
    return _OUTPUT.fullmatch(path) is not None


def may_stand_on(path: str, content: str) -> bool:
    """Whether a receipt from elsewhere may name this file, of which this is the digest, as its output.

    One of the user's, or another result of this checkout, must not: an output that changed is removed. A file outside,
    such as a bundle in a store, is watched alone.
    """
    if path.startswith("objects/"):
        return path == f"objects/{content}"
    return is_output(path) or (os.path.isabs(path) and os.path.normpath(path) == path)
