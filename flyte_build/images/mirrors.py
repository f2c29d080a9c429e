"""A Dockerfile with each image that it pulls taken from a mirror.

Pulled are: the base of each stage, what `COPY --from` and `RUN --mount=from=` name, and the frontend that `# syntax=`
names. Names of stages and numbers are no images. The rules are those of the Dockerfile reference.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping

from flyte_build.images.references import mirrored

_SYNTAX = re.compile(r"^(#\s*syntax\s*=\s*)(\S+)", re.IGNORECASE)
_DIRECTIVE = re.compile(r"^#\s*\w+\s*=", re.IGNORECASE)
_FROM = re.compile(r"^(\s*FROM\s+(?:--\S+\s+)*)(\S+)(\s+AS\s+(\S+))?", re.IGNORECASE)
_ARGUMENT = re.compile(r"^\s*ARG\s+(\w+)(?:=(\S*))?", re.IGNORECASE)
_COPY_FROM = re.compile(r"(?<=\s)(--from=)([^\s\\]+)")
_MOUNT = re.compile(r"(?<=\s)--mount=\S+")
_MOUNT_FROM = re.compile(r"((?:^--mount=|,)from=)([^,\s]+)")
_HEREDOC = re.compile(r"(?<=\s)\d*<<-?([\"']?)([A-Za-z_]\w*)\1(?=\s)")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::-([^}]*))?\})")


def redirected(dockerfile: str, mirrors: Mapping[str, str], build_args: Mapping[str, str]) -> str:
    """The Dockerfile with every image that it pulls taken from its mirror. Without mirrors: as it is."""
    return _Renaming(build_args, lambda image: mirrored(image, mirrors)).of(dockerfile) if mirrors else dockerfile


class _Renaming:
    """One pass over a Dockerfile that gives new names to the images in it."""

    def __init__(self, build_args: Mapping[str, str], rename: Callable[[str], str]) -> None:
        self._build_args = build_args
        self._rename = rename
        self._arguments: dict[str, str] = {}
        """Those before the first stage, which alone count in `FROM`."""
        self._stages: set[str] = set()

    def of(self, dockerfile: str) -> str:
        pieces = list(_instructions(dockerfile))
        head = len(list(itertools.takewhile(_DIRECTIVE.match, pieces)))
        directives = [_SYNTAX.sub(lambda line: f"{line[1]}{self._image(line[2])}", piece) for piece in pieces[:head]]
        return "".join([*directives, *map(self._instruction, pieces[head:])])

    def _instruction(self, text: str) -> str:
        word = text.split(None, 1)[0].upper() if text.strip() else ""
        match word:
            case "ARG" if not self._stages:
                self._note_argument(text)
            case "FROM":
                return _FROM.sub(self._base, text, count=1)
            case "COPY" | "ADD":
                return _COPY_FROM.sub(lambda found: f"{found[1]}{self._image(found[2])}", text)
            case "RUN":
                return _MOUNT.sub(lambda mount: _MOUNT_FROM.sub(self._mounted, mount[0]), text)
        return text

    def _note_argument(self, text: str) -> None:
        if argument := _ARGUMENT.match(text):
            default = (argument[2] or "").strip("\"'")
            self._arguments[argument[1]] = self._build_args.get(argument[1], default)

    def _base(self, found: re.Match[str]) -> str:
        base = self._image(found[2])
        self._stages.update({(found[4] or "").lower(), str(len(self._stages))})
        return f"{found[1]}{base}{found[3] or ''}"

    def _mounted(self, found: re.Match[str]) -> str:
        return f"{found[1]}{self._image(found[2])}"

    def _image(self, text: str) -> str:
        """The new name of what an instruction refers to."""
        name = _VARIABLE.sub(lambda found: self._arguments.get(found[1] or found[2], "") or found[3] or "", text)
        if not name or name == "scratch" or name.isdecimal() or name.lower() in self._stages:
            return text
        renamed = self._rename(name)
        return text if renamed == name else renamed


def _instructions(dockerfile: str) -> Iterator[str]:
    """The text in pieces: an instruction with its further lines and here-documents, or a comment, or an empty line."""
    lines = deque(dockerfile.splitlines(keepends=True))
    while lines:
        piece = [lines.popleft()]
        if not _between(piece[0]):
            while lines and _goes_on(piece):
                piece.append(lines.popleft())
            for _, end in _HEREDOC.findall("".join(piece)):
                while lines and piece[-1].strip() != end:
                    piece.append(lines.popleft())
        yield "".join(piece)


def _goes_on(piece: list[str]) -> bool:
    """Whether an instruction has another line: comments and empty lines may stand between."""
    said = [line for line in piece if not _between(line)]
    return said[-1].rstrip().endswith("\\")


def _between(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")
