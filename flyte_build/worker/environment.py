"""The environment variables that code asks for while it loads."""

from __future__ import annotations

import os
import posix
import sys
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, ValuesView
from types import FrameType
from typing import Any

from flyte_build.state.files import encodable
from flyte_build.state.trace import variable_digest

_UNASKED = ("PYTHONPATH",)
"""Variables that Python itself goes by: where imports are looked for."""


class RecordedVariables(dict[bytes, bytes]):
    """The dictionary behind `os.environ`, noting each variable that is asked for."""

    def __init__(self, passed: Iterable[str], line_of: Callable[[FrameType], str]) -> None:
        """`line_of`: the user's line behind a call; empty when there is none."""
        self._line_of = line_of
        self._passed = tuple(map(os.fsencode, passed))
        self._original: dict[bytes, bytes] = dict(os.environ._data)  # type: ignore[attr-defined]
        self._asked = dict.fromkeys(_UNASKED, "")
        super().__init__(self._original)

    def install(self) -> None:
        """Take the place of what Python asks."""
        os.environ._data = os.environb._data = self  # type: ignore[attr-defined]
        posix.environ = self

    def seen(self) -> dict[str, str]:
        """Variable -> digest of the value that it had when loading began."""
        return {encodable(name): variable_digest(name, self._value(name)) for name in sorted(self._asked)}

    def asked_by_user(self) -> dict[str, str]:
        """Variable -> the user's line that asked first, for those that the user's own code asked for."""
        return {name: line for name, line in self._asked.items() if line}

    def _value(self, name: str) -> str | None:
        value = self._original.get(os.fsencode(name))
        return None if value is None else os.fsdecode(value)

    def _note(self, key: object) -> None:
        name = os.fsdecode(key) if isinstance(key, bytes) else ""
        if name and name not in self._asked:
            line = self._line_of(sys._getframe(2))
            if line or name != "PATH":  # libraries look for programs; what they find is of the machine, not of the code
                self._asked[name] = line

    def __getitem__(self, key: bytes) -> bytes:
        self._note(key)
        return super().__getitem__(key)

    def __delitem__(self, key: bytes) -> None:
        self._note(key)
        super().__delitem__(key)

    def __contains__(self, key: object) -> bool:
        self._note(key)
        return super().__contains__(key)

    def __iter__(self) -> Iterator[bytes]:
        self._note_all()
        return super().__iter__()

    def __len__(self) -> int:
        self._note_all()
        return super().__len__()

    def keys(self) -> KeysView[bytes]:  # type: ignore[override]
        return KeysView(self)

    def values(self) -> ValuesView[bytes]:  # type: ignore[override]
        return ValuesView(self)

    def items(self) -> ItemsView[bytes, bytes]:  # type: ignore[override]
        return ItemsView(self)

    def get(self, key: bytes, default: Any = None) -> Any:
        self._note(key)
        return super().get(key, default)

    def copy(self) -> dict[bytes, bytes]:
        return dict(self.items())

    def _note_all(self) -> None:
        """Who looks at all of them would also see one that is set next time."""
        for key in (*self._original, *self._passed):
            self._note(key)
