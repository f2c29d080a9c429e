"""`doit cache`: what the shared cache holds and gave, and pruning what no recent deploy used."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from flyte_build.cache import FORMAT, PARTS, Item
from flyte_build.cache.client import Client
from flyte_build.errors import CacheNotNamed, CacheReadOnly
from flyte_build.model import Value
from flyte_build.sharing import history
from flyte_build.sharing.entries import KINDS, USED

if TYPE_CHECKING:
    from flyte_build.project import Project

AGE = re.compile(r"(\d{1,6})([dh])")
"""`30d` or `12h`."""
_LIMIT = 120.0
"""Seconds. The user waits for the answer, and a cache of many months has as many pages of names."""
_SECONDS = {"d": 86_400, "h": 3_600}


class Holding(Value, frozen=True):
    """Objects of one kind."""

    objects: int
    size: int
    """Bytes."""


class Usage(Value, frozen=True):
    """What `doit cache` tells."""

    url: str
    read_only: bool
    holds: dict[str, Holding]
    """Kind -> how much."""
    runs: tuple[history.Run, ...]
    """The last ones of this checkout, the newest first."""
    pruned: Holding | None = None
    """What was removed, when that was asked for."""


def usage(project: Project, prune: str = "") -> Usage:
    """Look at the cache; with an age such as `30d`, first remove what no deploy has used for as long.

    Raises:
        CacheNotNamed: there is none.
        CacheReadOnly: pruning was asked for, and it may only be read.
        CacheUnavailable
    """
    settings, file = project.manifest.cache, project.manifest.file
    if not settings.url:
        raise CacheNotNamed(file=file)
    if prune and settings.read_only:
        raise CacheReadOnly(file=file)
    client = Client(settings, project.environ, limit=_LIMIT)
    try:
        items = client.items(f"{FORMAT}/")
        old = _unused(client, items, seconds(prune)) if prune else []
        client.delete(item.name for item in old)
        if client.trouble:
            raise client.trouble
    finally:
        client.close()
    removed = {item.name for item in old}
    left = [item for item in items if item.name not in removed]
    return Usage(
        url=settings.url,
        read_only=settings.read_only,
        holds={kind: _holding([i for i in left if i.name.startswith(f"{FORMAT}/{kind}/")]) for kind in KINDS},
        runs=history.runs(project),
        pruned=_holding(old) if prune else None,
    )


def seconds(age: str) -> int:
    """What an age such as `30d` means."""
    found = AGE.fullmatch(age)
    assert found, f"{age} is no age"
    return int(found[1]) * _SECONDS[found[2]]


def _unused(client: Client, items: tuple[Item, ...], age: int) -> list[Item]:
    """Objects that were neither written nor used for so many seconds, and what was not written to its end."""
    parts = client.items(f"{PARTS}/")
    if not age:  # all of it, whatever the clocks of stores say
        return [*parts, *items]
    since = time.time() - age
    torn = [item for item in parts if item.modified < since]
    # A day's first note stands for all that are like it, so it counts to the end of its day, not from its own time.
    day = time.strftime("%Y-%m-%d", time.gmtime(since))
    notes = [item.name for item in items if item.name.startswith(f"{USED}/")]
    recent = [name for name in notes if name.removeprefix(f"{USED}/") >= day]
    used = {name for note in client.get(recent).values() for name in note.decode(errors="replace").split("\n")}
    kept = {*recent, *used}
    return [*torn, *(item for item in items if item.modified < since and item.name not in kept)]


def _holding(items: list[Item]) -> Holding:
    return Holding(objects=len(items), size=sum(item.size for item in items))
