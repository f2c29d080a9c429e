"""What this checkout's last runs had of the shared cache."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec

from flyte_build.errors import StateUnwritable
from flyte_build.model import Value
from flyte_build.state.folder import write_atomically

if TYPE_CHECKING:
    from flyte_build.project import Project

FILE = "cache.json"
_KEPT = 10


class Run(Value, frozen=True):
    """One run that asked the shared cache."""

    started: float
    """Seconds since the epoch."""
    looked_up: int
    """Targets that were stale here."""
    whole: int
    """Those of which everything was there, as far as it is true elsewhere."""
    part: int
    """Those whose discovery was there."""
    written: int
    """Objects that were sent, the note of use among them. One that is there already stays as it is."""
    received: int
    sent: int
    """Bytes."""
    trouble: str = ""

    @property
    def missed(self) -> int:
        return self.looked_up - self.whole - self.part


def runs(project: Project) -> tuple[Run, ...]:
    """The last runs, the newest first."""
    try:
        return msgspec.json.decode((project.state.root / FILE).read_bytes(), type=tuple[Run, ...])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return ()


def add(project: Project, run: Run) -> None:
    """Keep a run, where that can be written."""
    kept = (run, *runs(project))[:_KEPT]
    with contextlib.suppress(StateUnwritable):
        write_atomically(project.state.root / FILE, msgspec.json.encode(kept))
