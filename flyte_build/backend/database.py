"""The embedded control plane's SQLite file: opening it, its tables, its transactions."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from flyte_build.backend import CONTROL_PLANE, rows
from flyte_build.errors import EmbeddedBackendUnusable, StateUnwritable
from flyte_build.state.folder import write_unless_there
from flyte_build.state.sqlite_file import begins_as_one, is_cut_off, is_sealed, is_whole, seal

FILE = CONTROL_PLANE
IDENTITY = "identity"
"""The file beside it that says which control plane it is: one made in its place has another identity."""
_SCHEMA_VERSION = 2
_BUSY_TIMEOUT = 30.0
"""Seconds to wait for another process's transaction."""

# Times are microseconds since the epoch. A task's `created_at` is its first registration: what "latest" goes by.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS tasks (
    id INTEGER PRIMARY KEY,
    org TEXT NOT NULL, project TEXT NOT NULL, domain TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL,
    environment TEXT NOT NULL, short_name TEXT NOT NULL, short_description TEXT NOT NULL, entrypoint INTEGER NOT NULL,
    spec BLOB NOT NULL, digest TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
    UNIQUE (org, project, domain, name, version)
);
CREATE TABLE IF NOT EXISTS triggers (
    id INTEGER PRIMARY KEY,
    org TEXT NOT NULL, project TEXT NOT NULL, domain TEXT NOT NULL, task_name TEXT NOT NULL, name TEXT NOT NULL,
    task_version TEXT NOT NULL, revision INTEGER NOT NULL, active INTEGER NOT NULL,
    spec BLOB NOT NULL, automation_spec BLOB NOT NULL, digest TEXT NOT NULL,
    deployed_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, deleted_at INTEGER,
    UNIQUE (org, project, domain, task_name, name)
);
CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL);
"""

_FROM_1 = f"""
ALTER TABLE tasks ADD COLUMN digest TEXT NOT NULL DEFAULT '';
UPDATE tasks SET digest = {rows.TASK};
ALTER TABLE triggers ADD COLUMN digest TEXT NOT NULL DEFAULT '';
UPDATE triggers SET digest = {rows.TRIGGER}
"""  # noqa: S608


def now() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


class Database:
    """One connection, shared by the threads of a process; processes share the file."""

    def __init__(self, folder: Path) -> None:
        """Open the control plane in `folder`, made if missing.

        Raises:
            EmbeddedBackendUnusable: the folder cannot be written, or the file is not one of ours.
            StateUnwritable: the disk is full.
        """
        self.folder = folder.absolute()
        self._lock = threading.Lock()
        with self._translated():
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / FILE
            as_left = is_sealed(str(path))
            self.set_aside = "" if as_left or _is_usable(path) else _set_aside(path)
            new = not is_whole(str(path))
            if new:  # whoever looks meanwhile must not take the new one for the old
                (self.folder / IDENTITY).unlink(missing_ok=True)
            self._connection = _open(path)
            self.secret = _secret(self._connection)
            self._known = as_left or new
            """Whether all that is in it got there through here."""
        self.identity = hashlib.sha256(b"identity" + self.secret).hexdigest().encode()
        write_unless_there(self.folder / IDENTITY, self.identity)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; waits for other writers.

        Raises:
            EmbeddedBackendUnusable: SQLite cannot read or write the file.
        """
        with self._lock, self._translated(), _immediate(self._connection):
            yield self._connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent view, that waits for nobody.

        Raises:
            EmbeddedBackendUnusable: SQLite cannot read the file.
        """
        with self._lock, self._translated():
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                self._connection.execute("COMMIT")

    def close(self) -> None:
        """Leave it so that the next run needs not look what is in it, unless this one would have had to."""
        self._connection.close()
        if self._known:
            with contextlib.suppress(StateUnwritable):  # the next run looks
                seal(str(self.folder / FILE))

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise EmbeddedBackendUnusable(path=str(self.folder), reason=str(error)) from error


def _is_usable(path: Path) -> bool:
    """Whether there is a whole control plane, or none. What never was one is left to `_open` to tell."""
    log = path.with_name(f"{FILE}-wal")
    if not log.exists() and is_cut_off(str(path)):  # with its log the file may be about to be written
        return False
    if not path.exists() and not log.exists():
        return True
    if not begins_as_one(str(path)) and not path.with_name(IDENTITY).exists():
        return True
    try:
        with contextlib.closing(_open(path)) as connection:
            return rows.is_sound(connection)
    except sqlite3.DatabaseError as error:
        if not rows.is_damage(error):
            raise
        return False


def _set_aside(path: Path) -> str:
    """Move a damaged file out of the way, with its log, as whatever did that took it. Gives where it is."""
    kept = path.with_name(f"{FILE}.damaged")
    path.with_name(f"{FILE}-shm").unlink(missing_ok=True)
    kept.with_name(f"{kept.name}-wal").unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.with_name(f"{FILE}-wal").replace(kept.with_name(f"{kept.name}-wal"))
    path.replace(kept)
    return str(kept)


def _open(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # it holds the secret that signs upload URLs
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    rows.prepare(connection)
    try:
        _use_write_ahead_log(connection)
        _bring_up_to_date(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > _SCHEMA_VERSION:
        known = f"schema {version}, this one knows {_SCHEMA_VERSION}"
        raise sqlite3.NotSupportedError(f"made by a newer flyte_build ({known})")
    if version == _SCHEMA_VERSION:
        return
    with _immediate(connection):
        (version,) = connection.execute("PRAGMA user_version").fetchone()  # another process may have been at it
        for statement in filter(str.strip, (_FROM_1 if version == 1 else _SCHEMA).split(";")):
            if version < _SCHEMA_VERSION:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Readers and one writer at a time. SQLite's own busy timeout does not cover this switch."""
    deadline = time.monotonic() + _BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@contextlib.contextmanager
def _immediate(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _secret(connection: sqlite3.Connection) -> bytes:
    """The key of the signed URLs, made once per file."""
    row = connection.execute("SELECT value FROM secrets WHERE name = 'uploads'").fetchone()
    if row is None:
        connection.execute("INSERT OR IGNORE INTO secrets VALUES ('uploads', ?)", (secrets.token_bytes(32),))
        row = connection.execute("SELECT value FROM secrets WHERE name = 'uploads'").fetchone()
    return bytes(row["value"])
