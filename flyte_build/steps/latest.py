"""Which version a Flyte backend takes for the latest: the one that was made last, whatever was deployed last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from flyte_build.model import Target, Value
from flyte_build.state.folder import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from flyte_build.project import Project

_KEPT = 1000
"""Versions of a target that are kept, the newest."""


class _Made(Value, frozen=True):
    """A version that was deployed from here."""

    place: str
    """Stands for a backend, a project and a domain."""
    version: str


def note(project: Project, target: Target, version: str, place: str) -> tuple[str, ...]:
    """Keep which version is deployed to a place, and give what is to be said of it.

    It is said once in a run, when another version was made later: code was put back, and has its old version again.
    """
    path = project.state.versions(target.name)
    kept = _read(path)
    made = [each.version for each in kept if each.place == place]
    if version not in made:
        now = (*kept, _Made(place=place, version=version))
        write_atomically(path, msgspec.json.encode(now[-_KEPT:]))
        return ()
    if made[-1] == version or not project.is_news("going back"):
        return ()
    return (
        f"version {version} was made before {made[-1]}, which stays the latest: a Flyte backend goes by when a version "
        "was first made; ask for this one by its version, or put something of the moment into `version`, such as "
        "`{env:BUILD}-{content}`",
    )


def _read(path: Path) -> tuple[_Made, ...]:
    """Nothing where it was never written or is damaged: then there is less to say."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[_Made, ...])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return ()
