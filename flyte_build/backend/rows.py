"""A digest in each row of the embedded control plane: SQLite notices a broken page, and not another byte in a value."""

from __future__ import annotations

import sqlite3

from flyte_build.state import digest


def _of(columns: str) -> str:
    """As bytes: text that was damaged may be none."""
    return f"row_digest({', '.join(f'CAST({name} AS BLOB)' for name in columns.split())})"


TASK = _of("org project domain name version environment short_name short_description spec")
TRIGGER = _of("org project domain task_name name task_version spec automation_spec")
_BROKEN = f"""
SELECT EXISTS (SELECT 1 FROM tasks WHERE digest <> {TASK}) OR EXISTS (SELECT 1 FROM triggers WHERE digest <> {TRIGGER})
"""  # noqa: S608

_ELSEWHERE = ("locked", "readonly", "disk I/O", "disk is full", "unable to open", "out of memory", "interrupted")
"""SQLite's words for what is no damage."""


def prepare(connection: sqlite3.Connection) -> None:
    """Teach a connection `row_digest`, which makes a digest of the given columns."""
    connection.create_function("row_digest", -1, _digest, deterministic=True)


def is_sound(connection: sqlite3.Connection) -> bool:
    """Whether every page and every row is as it was written.

    Raises:
        sqlite3.Error: that cannot be told now.
    """
    try:
        (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        return said == "ok" and not connection.execute(_BROKEN).fetchone()[0]
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return False


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is to blame, and not the disk, another process, or a version that is too new."""
    elsewhere = any(words in str(error) for words in _ELSEWHERE)
    return type(error) in (sqlite3.DatabaseError, sqlite3.OperationalError) and not elsewhere


def _digest(*columns: str | bytes) -> str:
    return digest.of_parts("row", columns)
