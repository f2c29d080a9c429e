"""What goes between `client` and `helper`: frames of msgpack, each after its length in four bytes."""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from flyte_build.cache import Item
from flyte_build.model import Value

_T = TypeVar("_T")
HEAD = 4


class Ask(Value, frozen=True):
    """One call."""

    number: int
    call: Literal["list", "get", "create", "delete"]
    name: str
    data: bytes = b""


class Answer(Value, frozen=True):
    """What it gave. `trouble` is empty when the call was made."""

    number: int
    trouble: str = ""
    data: bytes | None = None
    items: tuple[Item, ...] = ()


def frame(value: object) -> bytes:
    data = msgspec.msgpack.encode(value)
    return len(data).to_bytes(HEAD, "big") + data


def parse(data: bytes, kind: type[_T]) -> _T:
    return msgspec.msgpack.decode(data, type=kind)
