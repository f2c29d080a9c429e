"""Git's ignore patterns: the lines of one ignore file, as a value that says yes, no or nothing of one path.

Pruning a walk needs an answer for a folder by itself; pathspec answers for whole paths, and calls `a/` ignored under
`*`, `!*/`. So git's patterns are translated here, over bytes as in git. The tests compare with git itself.
"""

from __future__ import annotations

import re
import string
from typing import NamedTuple


class Patterns(NamedTuple):
    """The lines of one ignore file, strongest first. Paths are relative to the file's folder; a folder ends in `/`."""

    runs: tuple[tuple[bool, re.Pattern[bytes] | None, re.Pattern[bytes] | None], ...]
    """Verdict, then what a name and what a path must match. Order within a run of one sign does not matter."""

    def verdict(self, path: bytes) -> bool | None:
        """Whether `path` itself is ignored; None: these lines say nothing about it. Parents are not asked."""
        name = path[path.rfind(b"/", 0, -1) + 1 :]
        for ignored, names, paths in self.runs:
            if (names and names.fullmatch(name)) or (paths and paths.fullmatch(path)):
                return ignored
        return None


NOTHING = Patterns(())


def parse(text: bytes, *, any_case: bool = False) -> Patterns:
    """The rules of an ignore file."""
    flags = re.DOTALL | (re.IGNORECASE if any_case else 0)
    runs: list[tuple[bool, list[bytes], list[bytes]]] = []  # sign, regexes of names, regexes of paths
    for line in text.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        rule = _rule(line.removesuffix(b"\r"))
        if rule is None:
            continue
        ignored, by_name, regex = rule
        if not runs or runs[-1][0] != ignored:
            runs.append((ignored, [], []))
        _, names, paths = runs[-1]
        (names if by_name else paths).append(regex)
    return Patterns(
        tuple((ignored, _any(names, flags), _any(paths, flags)) for ignored, names, paths in reversed(runs))
    )


def _any(regexes: list[bytes], flags: int) -> re.Pattern[bytes] | None:
    return re.compile(b"|".join(regexes), flags) if regexes else None


def _rule(line: bytes) -> tuple[bool, bool, bytes] | None:
    """One line as (ignores, matches names rather than paths, regex), or None when it can match nothing."""
    if line.startswith(b"#"):
        return None
    kept = re.fullmatch(rb"((?:\\.|[^\\])*?) *", line, re.DOTALL)
    pattern = kept[1] if kept else line
    ignores = not pattern.startswith(b"!")
    pattern = pattern if ignores else pattern[1:]
    folder = pattern.endswith(b"/")
    pattern = pattern[:-1] if folder else pattern
    by_name = b"/" not in pattern
    regex = wildmatch(pattern.removeprefix(b"/"))
    return (ignores, by_name, regex + (b"/" if folder else b"/?")) if regex else None


def wildmatch(pattern: bytes) -> bytes | None:
    """A git glob as a regular expression; None when it is malformed, which in git matches nothing."""
    out, at = b"", 0
    while at < len(pattern):
        char = pattern[at : at + 1]
        if char == b"*":
            piece, at = _stars(pattern, at)
        elif char == b"?":
            piece, at = b"[^/]", at + 1
        elif char == b"[":
            members, at = _bracket(pattern, at + 1)
            if members is None:
                return None
            piece = b"[%s]" % b"".join(b"\\x%02x" % member for member in sorted(members)) if members else b"(?!)"
        else:
            at += char == b"\\"
            if at == len(pattern):
                return None
            piece, at = re.escape(pattern[at : at + 1]), at + 1
        out += piece
    return out


def _stars(pattern: bytes, at: int) -> tuple[bytes, int]:
    end = at
    while pattern[end : end + 1] == b"*":
        end += 1
    whole_part = (at == 0 or pattern[at - 1 : at] == b"/") and pattern[end : end + 1] in (b"", b"/")
    if not whole_part:
        return b"[^/]*", end
    if end - at == 1:
        return b"[^/]+", end
    return (b"(?:.+/)?", end + 1) if end < len(pattern) else (b".+", end)


_CLASSES = {
    b"alnum": string.ascii_letters + string.digits,
    b"alpha": string.ascii_letters,
    b"blank": " \t",
    b"cntrl": "".join(map(chr, (*range(1, 32), 127))),
    b"digit": string.digits,
    b"graph": "".join(map(chr, range(33, 127))),
    b"lower": string.ascii_lowercase,
    b"print": "".join(map(chr, range(32, 127))),
    b"punct": string.punctuation,
    b"space": string.whitespace,
    b"upper": string.ascii_uppercase,
    b"xdigit": string.hexdigits,
}


def _bracket(pattern: bytes, at: int) -> tuple[set[int] | None, int]:
    """The bytes that `[...]` matches (None when malformed) and where it ends; `at` is just behind the bracket."""
    negated = pattern[at : at + 1] in (b"!", b"^")
    at += negated
    members: set[int] = set()
    first, low = at, 0
    while at == first or pattern[at : at + 1] != b"]":
        named = re.compile(rb"\[:([^\]]*):\]").match(pattern, at)
        ranged = low and pattern[at : at + 1] == b"-" and pattern[at + 1 : at + 2] not in (b"", b"]")
        if named:
            if named[1] not in _CLASSES:
                return None, at
            members.update(_CLASSES[named[1]].encode())
            at, low = named.end(), 0
            continue
        at += ranged
        at += pattern[at : at + 1] == b"\\"
        if at >= len(pattern):
            return None, at
        members.update(range(low, pattern[at] + 1) if ranged else (pattern[at],))
        low = 0 if ranged else pattern[at]
        at += 1
    members = set(range(1, 256)) - members if negated else members
    return members - {ord("/")}, at + 1
