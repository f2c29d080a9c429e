"""What every error is made of.

An error is data: keyword-only fields, and a `message` that says where, what, and what to do. Lower case, values in
backticks, no full stop. Families say whose fault it is:

- `ManifestError`: deploy.toml or the command line is wrong; nothing was started (exit code 3).
- `StepError`: a step failed, because of the project or of what the step called (exit code 1).

Anything else that escapes is a bug of ours (exit code 2, with a traceback).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_options: Any) -> Callable[[Any], Any]:
        """As in `typing` from Python 3.11 on."""
        return lambda kind: kind


@dataclass_transform(kw_only_default=True, eq_default=False)
class BuildError(Exception):
    """Base of all: a dataclass to the type checker. A hundred real ones would cost a no-op 30 ms at import."""

    _elsewhere: Mapping[str, str] = MappingProxyType({})
    """As `written` takes it."""

    def __init__(self, **fields: object) -> None:
        kind = type(self)
        names = {name for each in kind.__mro__ for name in getattr(each, "__annotations__", ())}
        missing = {name for name in names if not hasattr(kind, name)} - fields.keys()
        if missing or fields.keys() - names:
            raise TypeError(f"{kind.__name__}: missing {sorted(missing)}, unknown {sorted(fields.keys() - names)}")
        super().__init__()
        vars(self).update(fields)

    @property
    def message(self) -> str:
        raise TypeError(f"{type(self).__name__} has no wording")

    @property
    def parts(self) -> tuple[BuildError, ...]:
        """The errors whose messages are part of this one's."""
        return ()

    def tell_of(self, elsewhere: Mapping[str, str]) -> None:
        """Word it for a manifest some of whose settings are written elsewhere than in the tables at the top."""
        self._elsewhere = elsewhere
        for part in self.parts:
            part.tell_of(elsewhere)

    def written(self, table: str, *keys: str) -> str:
        """Where keys of a table at the top are written."""
        return written(self._elsewhere, table, *keys)

    def __str__(self) -> str:
        return self.message


class ManifestError(BuildError):
    """deploy.toml or the command line is wrong."""


class StepError(BuildError):
    """A step could not do its work."""


def written(elsewhere: Mapping[str, str], table: str, *keys: str) -> str:
    """Where keys of a table are written: `[store]`, or `[profiles.prod.store]`, or both.

    `elsewhere`: TABLE.KEY -> the place that counts instead of the table.
    """
    return " and ".join(dict.fromkeys(elsewhere.get(f"{table}.{key}", f"[{table}]") for key in keys))


def suggest(name: str, known: Iterable[str]) -> str:
    """`did you mean ...` when something close is known, else the list of what is known."""
    import difflib

    known = sorted(known)
    within = [each for each in known if name and each.endswith(f"/{name}")]
    close = within or difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known: {quoted(known)}" if known else "there are none"


def quoted(names: Iterable[str]) -> str:
    """`a`, `b` and `c`."""
    ticked = [f"`{name}`" for name in names]
    if len(ticked) < 2:
        return "".join(ticked)
    return f"{', '.join(ticked[:-1])} and {ticked[-1]}"


def perhaps(name: str, known: Iterable[str]) -> str:
    """A suggestion to put after a mend; nothing when nothing is known."""
    return f" ({suggest(name, known)})" if known else ""
