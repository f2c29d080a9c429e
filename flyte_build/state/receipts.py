"""Receipts: the record that a step has succeeded. Forgotten before its effect starts, written when it has succeeded.

A `kill -9` anywhere leaves "not done", never a false "done".
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from flyte_build.model import Cause, Fresh, Stale, Value, Verdict
from flyte_build.state import digest
from flyte_build.state import trace as tracing
from flyte_build.state.files import FileIndex
from flyte_build.state.folder import unwritable, write_atomically
from flyte_build.state.trace import Trace

FORMAT = 2
_CHUNK = 1 << 16
_T = TypeVar("_T", bound=Value)


class Made(Value, frozen=True):
    """Where a receipt comes from. For people: no key and no verdict depends on it."""

    time: str = ""
    """UTC, ISO 8601."""
    commit: str = ""
    """What git had checked out; empty: no git."""
    machine: str = ""
    """Its host name."""
    shared: bool = False
    """Whether it came from the shared cache."""


class Receipt(Value, frozen=True):
    format: int
    key: msgspec.Raw
    """Canonical JSON of the step's key."""
    result: msgspec.Raw
    """JSON of the step's result, of a type that the step knows."""
    trace: Trace = Trace()
    outputs: dict[str, str] = {}
    """Files that the result stands on: path below the state folder -> digest of the content."""
    reason: str = ""
    """Why the step ran."""
    cause: Cause = Cause(kind="asked")
    """The same as data."""
    made: Made = Made()

    def read(self, kind: type[_T]) -> _T:
        """The result, as the type that the step wrote."""
        return msgspec.json.decode(self.result, type=kind)

    def read_if_known(self, kind: type[_T]) -> _T | None:
        """The same for a receipt that was not judged; None when another version of the step wrote it."""
        try:
            return self.read(kind)
        except msgspec.ValidationError:
            return None


class Standing(msgspec.Struct):
    """The part of a receipt that tells what it stands on, which takes a tenth of the time to read."""

    format: int
    key: msgspec.Raw
    result: msgspec.Raw
    outputs: dict[str, str] = {}


class World:
    """What receipts are compared with: the files, folders and environment variables of this run."""

    def __init__(self, folder: Path, state: Path, index: FileIndex, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.state = state
        self.index = index
        self.environ = environ


class Lost(Value, frozen=True):
    """There is no usable receipt."""

    reason: str


NEVER_DONE = Lost(reason="not done here yet")


class _Sealed(Value, frozen=True):
    """A receipt's file. Damage that leaves valid JSON is told by the seal."""

    seal: str
    """Digest of the receipt's bytes."""
    receipt: msgspec.Raw


_SEALED = msgspec.json.Decoder(_Sealed)
_RECEIPT = msgspec.json.Decoder(Receipt)
_STANDING = msgspec.json.Decoder(Standing)
_R = TypeVar("_R", Receipt, Standing)


def load(path: Path | str) -> Receipt | Lost:
    """A receipt, or why there is none. Damage and other formats mean "start over", never a crash."""
    try:
        return _opened(content(path), _RECEIPT)
    except FileNotFoundError:
        return NEVER_DONE
    except OSError as error:
        return Lost(reason=f"its receipt cannot be read: {error.strerror}; starting over")


def standing(data: bytes) -> Standing | None:
    """What the receipt in a file's content stands on; None where `load` would give none."""
    opened = _opened(data, _STANDING)
    return None if isinstance(opened, Lost) else opened


def _opened(data: bytes, decoder: msgspec.json.Decoder[_R]) -> _R | Lost:
    try:
        sealed = _SEALED.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Lost(reason="its receipt was damaged; starting over")
    if digest.of_bytes(bytes(sealed.receipt)) != sealed.seal:
        return Lost(reason="its receipt was damaged; starting over")
    try:
        receipt = decoder.decode(sealed.receipt)
    except msgspec.ValidationError:
        receipt = None
    if receipt is None or receipt.format != FORMAT:
        return Lost(reason="its receipt is of another version of flyte_build; starting over")
    return receipt


def content(path: Path | str) -> bytes:
    """Of a small file, with fewer calls of the system than `open` takes: there are hundreds.

    Raises:
        OSError
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = [os.read(handle, _CHUNK)]
        while len(parts[-1]) == _CHUNK:
            parts.append(os.read(handle, _CHUNK))
        return b"".join(parts)
    finally:
        os.close(handle)


def save(path: Path, receipt: Receipt) -> None:
    text = msgspec.json.encode(receipt)
    write_atomically(path, _Sealed(seal=digest.of_bytes(text), receipt=msgspec.Raw(text)).json())


def forget(path: Path) -> None:
    """From here on: not done.

    Raises:
        StateUnwritable: the folder may not be written.
    """
    with unwritable(path):
        path.unlink(missing_ok=True)


def set_aside(path: Path, before: Path) -> None:
    """The same, keeping what the receipt said at `before`, to tell why the step is to run should it not finish.

    Raises:
        StateUnwritable: the folder may not be written.
    """
    with unwritable(path), contextlib.suppress(FileNotFoundError):
        os.replace(path, before)


def judge(key: Value, receipt: Receipt | Lost, world: World) -> Verdict:
    """Whether a step has to run, and why."""
    if isinstance(receipt, Lost):
        return lost(receipt)
    now = key.json()
    if bytes(receipt.key) != now:
        return _key_difference(bytes(receipt.key), now)
    for path, content in receipt.outputs.items():
        found = world.index.digest(os.path.join(world.state, path))
        if found != content:
            cause = Cause(kind="output", name=path, old=content, new=found)
            return Stale(reason=f"its result {path} {'was changed' if found else 'is gone'}", cause=cause)
    return tracing.changed(receipt.trace, str(world.folder), world.index, world.environ) or Fresh()


def lost(receipt: Lost) -> Stale:
    """What follows when there is no usable receipt."""
    return Stale(reason=receipt.reason, cause=Cause(kind="missing" if receipt == NEVER_DONE else "receipt"))


def _key_difference(recorded: bytes, now: bytes) -> Stale:
    """Names the first field of a key that differs."""
    old: dict[str, object] = msgspec.json.decode(recorded)
    new: dict[str, object] = msgspec.json.decode(now)
    for name, value in new.items():
        before = old.get(name)
        if before == value:
            continue
        if not (isinstance(before, dict) and isinstance(value, dict)):
            return _setting(f"{_words(name)} changed", name, before, value)
        inner = next(inner for inner in {**before, **value} if before.get(inner) != value.get(inner))
        words = f"`{inner}` of {_words(name)} changed"
        return _setting(words, f"{name}.{inner}", before.get(inner), value.get(inner))
    return Stale(reason="its key has other fields", cause=Cause(kind="setting"))


def _setting(reason: str, name: str, old: object, new: object) -> Stale:
    return Stale(reason=reason, cause=Cause(kind="setting", name=name, old=_digest(old), new=_digest(new)))


def _digest(value: object) -> str:
    """Of a value of a key, which may hold what is not to be shown; itself where that is what it is."""
    if value is None or (isinstance(value, str) and digest.is_one(value)):
        return value or ""
    return digest.of_bytes(msgspec.json.encode(value, order="deterministic"))


def _words(field: str) -> str:
    return field.replace("_", " ")
