"""What goes into the discovery process and what comes out."""

from __future__ import annotations

from typing import TypeAlias

from flyte_build import errors
from flyte_build.model import Discovery, Target, Value
from flyte_build.state.files import encodable
from flyte_build.state.trace import Trace

BUG = 70
"""Exit status of a child in which our own code failed."""
UNWRITTEN = 71
"""Exit status of a child that could not write what it has to."""

_Field: TypeAlias = str | int | float | tuple[str, ...]


class LoadRequest(Value, frozen=True):
    """One target to load. Paths are absolute where not said otherwise."""

    folder: str
    """The manifest's folder."""
    target: Target
    files: tuple[str, ...]
    """Python files to import, relative to the root, in order."""
    environ: dict[str, bytes]
    """Environment variables that the code sees besides the base ones. Values need not be UTF-8."""
    hidden: tuple[str, ...]
    """Names of variables that are set outside and not passed."""
    result: str
    """Where the `LoadResult` is written."""
    output: str
    """Where what the code prints goes."""
    stacks: str
    """Where the interpreter writes its stack when it hangs or crashes."""
    progress: str
    """Where the file that is being imported is noted."""
    state: str
    """The state folder, where the contexts of images are kept."""
    moved_from: str = ""
    """The folder that this one is a copy of, to see whether the code declares the same in it. Folders are then listed
    backwards. Empty: it is the folder itself."""


class Failure(Value, frozen=True):
    """An error of `errors` as data, to cross the process border."""

    error: str
    fields: dict[str, _Field]

    @classmethod
    def of(cls, error: errors.StepError) -> Failure:
        return cls(error=type(error).__name__, fields={name: _encodable(value) for name, value in vars(error).items()})

    def revive(self) -> errors.StepError:
        kind: type[errors.StepError] = getattr(errors, self.error)
        return kind(**self.fields)


def _encodable(value: _Field) -> _Field:
    """The user's code may give any text, such as a lone surrogate."""
    if isinstance(value, str):
        return encodable(value)
    return tuple(map(encodable, value)) if isinstance(value, tuple) else value


class LoadResult(Value, frozen=True):
    discovery: Discovery | None
    trace: Trace
    failure: Failure | None = None
