"""The file of the embedded control plane, damaged in every way: noticed, told once, and made good."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from flyte_build.backend.database import FILE, Database
from tests.checkout import Checkout
from tests.repository import Ran, Repository, environment

STARTS_OVER = "the embedded control plane was damaged; starting over, and keeping what is left as "
MORE = """

    @env.task
    async def another(amount: int) -> int:
        return amount + 2
"""
Damage = Callable[[Path], None]


def database(repository: Repository) -> Path:
    return repository.folder / ".flyte-build/backend" / FILE


def log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def deploys(repository: Repository) -> Ran:
    ran = repository.doit("deploy")
    assert ran.code == 0, ran.err
    assert "Traceback" not in ran.err
    return ran


def assert_made_good(repository: Repository, *, because: str) -> Ran:
    ran = deploys(repository)
    assert f"deploy    fraud  ({because})\n" in ran.err, ran.err
    checkout = Checkout(repository.folder)
    assert checkout.registered("fraud") == checkout.left("fraud").specs
    again = deploys(repository)
    assert "1 fresh" in again.err
    assert "damaged" not in again.err
    return ran


def flip(path: Path, *, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 0xFF]))


def in_a_spec(path: Path) -> None:
    flip(path, at=path.read_bytes().index(b"fraud.score") + 3)


def in_the_name_of_the_version(path: Path) -> None:
    data = path.read_bytes()
    flip(path, at=data.rindex(b"fraud.score"))


def in_the_root_of_a_table(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'tasks'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    flip(path, at=(page - 1) * size)


def in_the_schema(path: Path) -> None:
    flip(path, at=100)


@pytest.mark.parametrize("damage", [in_a_spec, in_the_name_of_the_version, in_the_root_of_a_table, in_the_schema])
def test_a_byte_that_changed_anywhere_in_the_file_is_noticed(repository: Repository, damage: Damage) -> None:
    deploys(repository)
    path = database(repository)
    damage(path)
    ran = assert_made_good(repository, because=f"{FILE} is damaged")
    assert f"{STARTS_OVER}{path}.damaged" in ran.err


@pytest.mark.parametrize("words", [(), ("-n", "0")], ids=["threads", "one-by-one"])
def test_damage_that_several_targets_meet_is_said_once(tmp_path: Path, words: tuple[str, ...]) -> None:
    names = [f"t{number}" for number in range(6)]
    tables = "".join(f'[targets.{name}]\npath = "{name}.py"\nall = true\n\n' for name in names)
    files = {f"{name}.py": environment(name) for name in names}
    repository = Repository(tmp_path, {"deploy.toml": tables, **files})
    deploys(repository)
    in_the_schema(database(repository))
    ran = repository.doit(*words, "deploy")
    assert ran.code == 0, ran.err
    assert ran.err.count(STARTS_OVER) == 1
    assert "6 targets: 6 done" in ran.err


def test_every_byte_of_the_file_counts(repository: Repository) -> None:
    """Each may be changed without a crash and without a registration that is missing afterwards."""
    deploys(repository)
    path, checkout = database(repository), Checkout(repository.folder)
    whole = path.read_bytes()
    for at in range(0, len(whole), len(whole) // 97):
        path.write_bytes(whole)
        flip(path, at=at)
        checkout.deploy()
        assert checkout.registered("fraud") == checkout.left("fraud").specs, at
        for left in path.parent.iterdir():
            left.unlink()
        checkout.deploy()
        whole = path.read_bytes()


def test_an_older_copy_of_the_file_lacks_what_came_later(repository: Repository, tmp_path: Path) -> None:
    deploys(repository)
    older = shutil.copy2(database(repository), tmp_path / "older")
    repository.write("fraud.py", repository.read("fraud.py") + MORE.replace("\n    ", "\n"))
    deploys(repository)
    os.replace(older, database(repository))
    ran = assert_made_good(repository, because=f"{FILE} lacks some of it")
    assert "registered 2 tasks" in ran.err


def test_a_copy_that_has_everything_is_looked_at_once_and_taken(repository: Repository, tmp_path: Path) -> None:
    deploys(repository)
    copy = shutil.copy2(database(repository), tmp_path / "copy")
    os.replace(copy, database(repository))
    assert "1 fresh" in deploys(repository).err
    assert Checkout(repository.folder).project().lost_registrations == {}


# --- the log, which a process that was killed leaves


@pytest.fixture
def killed(repository: Repository) -> Repository:
    """What a deploy leaves that is killed once it has succeeded: all that it registered is in the log."""
    holder = Database(database(repository).parent)
    with contextlib.closing(holder):  # whose connection keeps the log from being taken into the file
        deploys(repository)
        kept = {path: path.read_bytes() for path in (database(repository), log(database(repository)))}
    for path, data in kept.items():
        path.write_bytes(data)
    return repository


def cut_off(path: Path) -> None:
    os.truncate(log(path), log(path).stat().st_size * 2 // 3)


def removed(path: Path) -> None:
    log(path).unlink()


def changed(path: Path) -> None:
    flip(log(path), at=5000)


def test_a_log_that_was_left_is_read(killed: Repository) -> None:
    assert log(database(killed)).stat().st_size > 0
    assert "1 fresh" in deploys(killed).err


@pytest.mark.parametrize("damage", [cut_off, removed, changed])
def test_what_was_in_a_damaged_log_is_registered_again(killed: Repository, damage: Damage) -> None:
    damage(database(killed))
    ran = deploys(killed)
    assert "deploy    fraud  (" in ran.err, ran.err
    checkout = Checkout(killed.folder)
    assert checkout.registered("fraud") == checkout.left("fraud").specs
    assert "1 fresh" in deploys(killed).err


# --- what others do there


def test_a_file_that_others_wrote_to_is_looked_at_and_taken(repository: Repository) -> None:
    deploys(repository)
    os.utime(database(repository))  # as one does that was killed before it could say so
    ran = deploys(repository)
    assert "1 fresh" in ran.err
    assert "damaged" not in ran.err


def test_looking_writes_nothing_without_the_lock(repository: Repository) -> None:
    deploys(repository)
    os.utime(database(repository))
    before = {path: path.stat().st_mtime_ns for path in database(repository).parent.iterdir()}
    ran = repository.doit("why", "deploy:fraud")
    assert "deploy    fresh" in ran.out + ran.err
    assert {path: path.stat().st_mtime_ns for path in database(repository).parent.iterdir()} == before


def test_a_control_plane_of_an_earlier_version_is_brought_up_to_date(repository: Repository) -> None:
    deploys(repository)
    path = database(repository)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for table in ("tasks", "triggers"):
            connection.execute(f"ALTER TABLE {table} DROP COLUMN digest")
        connection.execute("PRAGMA user_version = 1")
    Database(path.parent).close()
    assert "1 fresh" in deploys(repository).err
    in_a_spec(path)
    assert_made_good(repository, because=f"{FILE} is damaged")
