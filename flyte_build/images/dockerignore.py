""".dockerignore with Docker's own meaning: the last line that matches counts, `!` takes back, `**` is any depth.

Unlike the SDK's reader it minds case, and a line also says yes or no to everything below a folder that it matches.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """The lines of one file. Paths are relative to the context's root, without a slash at either end."""

    lines: tuple[tuple[bool, str, re.Pattern[str]], ...] = ()
    """Whether it leaves out, the cleaned pattern, and what a path must match."""

    def leaves_out(self, path: str) -> bool:
        """Whether a file or folder is not part of the context."""
        left_out = False
        for leaves_out, _, pattern in self.lines:
            if leaves_out != left_out and pattern.fullmatch(path):
                left_out = leaves_out
        return left_out

    def may_take_back(self, folder: str) -> bool:
        """Whether something below a folder that is left out could still be part of the context."""
        parts = folder.split("/")
        return any(not leaves_out and _may_match_below(text.split("/"), parts) for leaves_out, text, _ in self.lines)


def parse(text: str) -> Rules:
    """The rules of a file. A line with a malformed bracket matches nothing.

    A byte order mark, comments and empty lines do not count.
    """
    found = []
    for line in text.removeprefix("\N{BYTE ORDER MARK}").splitlines():
        if line.startswith("#"):
            continue
        pattern = line.strip()
        leaves_out = not pattern.startswith("!")
        pattern = pattern if leaves_out else pattern[1:].strip()
        cleaned = posixpath.normpath(pattern).lstrip("/") if pattern else ""
        regex = _compiled(cleaned) if cleaned not in ("", ".") else None
        if regex is not None:
            found.append((leaves_out, cleaned, regex))
    return Rules(tuple(found))


def _compiled(pattern: str) -> re.Pattern[str] | None:
    """What the pattern matches, and everything below it."""
    try:
        return re.compile(f"(?:{_regex(pattern)})(?:/.*)?", re.DOTALL)
    except re.error:
        return None


def _regex(pattern: str) -> str:
    out, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("**", at):
            at += 3 if pattern.startswith("**/", at) else 2
            out += "(?:.*/)?" if at < len(pattern) else ".*"
            continue
        if char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "\\" and at + 1 < len(pattern):
            at += 1
            out += re.escape(pattern[at])
        else:
            out += char if char in "[]^-" else re.escape(char)
        at += 1
    return out


def _may_match_below(pattern: list[str], folder: list[str]) -> bool:
    for wanted, name in zip(pattern, folder, strict=False):
        if "**" in wanted:
            return True
        if wanted != name and not set(wanted) & set("*?[\\"):
            return False
    return True
