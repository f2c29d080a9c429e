"""Which line of a TOML file each key is on: what a TOML reader does not tell."""

from __future__ import annotations

import re

import tomli

KeyPath = tuple[str | int, ...]
"""Keys from the top of the document; an integer is an index into an array."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING = r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:\\.|[^"\\])*"' r"|'[^']*'"
_KEY = re.compile(rf"[A-Za-z0-9_-]+|{_STRING}", re.DOTALL)
_SCALAR = re.compile(rf"{_STRING}|[^,\]}}#\n]+", re.DOTALL)


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line, from 1, on which each key, table and array element of valid TOML first appears."""
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


class _Scanner:
    """Walks a document that is known to be valid, so it need not check what it skips."""

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._position = 0
        self._last: dict[KeyPath, int] = {}
        """Array of tables -> index of its latest element."""

    def document(self) -> None:
        table: KeyPath = ()
        while self._skip_blank() < len(self._text):
            if self._take("["):
                table = self._header(array=self._take("["))
            else:
                self._pair(table)

    def _header(self, *, array: bool) -> KeyPath:
        line = self._line()
        key = self._key()
        path: KeyPath = ()
        for depth, part in enumerate(key, start=1):
            path = (*path, part)
            self.lines.setdefault(path, line)
            if array and depth == len(key):
                self._last[path] = self._last.get(path, -1) + 1
            if path in self._last:
                path = (*path, self._last[path])
                self.lines.setdefault(path, line)
        self._take("]]" if array else "]")
        return path

    def _pair(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for part in self._key():
            path = (*path, part)
            self.lines.setdefault(path, line)
        self._take("=")
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        self._skip_blank()
        if self._take("["):
            index = 0
            while not self._closes("]"):
                self.lines[(*path, index)] = self._line()
                self._value((*path, index))
                index += 1
        elif self._take("{"):
            while not self._closes("}"):
                self._pair(path)
        else:
            self._match(_SCALAR)

    def _closes(self, bracket: str) -> bool:
        self._skip_blank()
        if self._take(","):
            self._skip_blank()
        return self._take(bracket)

    def _key(self) -> tuple[str, ...]:
        parts: list[str] = []
        while not parts or self._take("."):
            self._skip_blank()
            parts.append(_plain(self._match(_KEY)))
            self._skip_blank()
        return tuple(parts)

    def _skip_blank(self) -> int:
        self._match(_BLANK)
        return self._position

    def _take(self, token: str) -> bool:
        found = self._text.startswith(token, self._position)
        self._position += len(token) if found else 0
        return found

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._position)
        if match is None:
            raise ValueError(f"not valid TOML at character {self._position}")
        self._position = match.end()
        return match.group()

    def _line(self) -> int:
        return self._text.count("\n", 0, self._position) + 1


def _plain(key: str) -> str:
    """A key without its quotes and escapes."""
    return str(tomli.loads(f"key = {key}")["key"]) if key[0] in "\"'" else key
