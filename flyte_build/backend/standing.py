"""Whether the embedded control plane still has what was registered. Asked when it is not as the last run left it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec

from flyte_build.backend.rows import is_sound, prepare
from flyte_build.state.sqlite_file import has_log


class Registered(msgspec.Struct, frozen=True):
    """What the result of a deploy says of what was registered."""

    org: str
    project: str
    domain: str
    version: str
    tasks: tuple[str, ...]

    @property
    def keys(self) -> set[tuple[str, ...]]:
        return {(self.org, self.project, self.domain, name, self.version) for name in self.tasks}


def missing(database: Path, wanted: Mapping[str, Registered]) -> dict[str, str]:
    """Name -> why, for those of which something is not there. Nothing is written; what cannot be read is damaged."""
    # Without a log to be read, SQLite need not make the files by which it works with other processes.
    alone = not has_log(str(database))
    address = f"file:{quote(str(database))}?mode=ro{'&immutable=1' if alone else ''}"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
            prepare(connection)
            if not is_sound(connection):
                return dict.fromkeys(wanted, f"{database.name} is damaged")
            found = set(connection.execute("SELECT org, project, domain, name, version FROM tasks"))
    except sqlite3.Error:
        return dict.fromkeys(wanted, f"{database.name} is damaged")
    return {name: f"{database.name} lacks some of it" for name, each in wanted.items() if each.keys - found}
