"""A small store of named bytes that many machines share: a folder, S3, Google or Azure.

Objects are written once (`create`) and never changed. All calls are made in a helper process (`helper`), which
`client` starts, bounds in time, and ends: so a store that hangs, or a runtime that does not outlive a fork, never
reaches a deploy.
"""

from __future__ import annotations

from typing import Protocol

from flyte_build.model import CacheSettings, Value

LIMIT = 3.0
"""Seconds that one call may take, and a run wait for the cache in all, beyond what many calls and bytes take."""

FORMAT = "v1"
"""What the names of all objects start with."""
PARTS = "parts"
"""Where a folder keeps what is being written, and so what was when a process was killed. Other stores have none."""


class Item(Value, frozen=True):
    """One object, as it is listed."""

    name: str
    size: int
    modified: float
    """Seconds since the epoch, by the store's clock."""


class Trouble(Exception):
    """The store cannot be used. The text says why, with nothing secret in it."""


class Bucket(Protocol):
    """Names are relative, with slashes. Every method raises `Trouble`."""

    def items(self, prefix: str) -> list[Item]:
        """The objects whose names start with a prefix, which is empty or ends with a slash."""
        ...

    def get(self, name: str) -> bytes | None:
        """An object's bytes; None when there is none."""
        ...

    def create(self, name: str, data: bytes) -> None:
        """Write an object, whole or not at all, unless there is one."""
        ...

    def delete(self, name: str) -> None:
        """Remove an object, if there is one."""
        ...


def import_libraries(settings: CacheSettings) -> None:
    """Import what `open_bucket` needs, which takes its time on a slow disk, and asks nobody."""
    if not settings.url.startswith("file://"):
        from flyte_build.cache.objects import import_libraries

        import_libraries(settings)


def open_bucket(settings: CacheSettings) -> Bucket:
    """The store that `settings.url` names.

    Raises:
        Trouble: it cannot be opened.
    """
    if settings.url.startswith("file://"):
        from flyte_build.cache.folder import Folder

        folder = Folder(settings.url.removeprefix("file://"))
        if not settings.read_only:
            folder.mark()
        return folder
    from flyte_build.cache.objects import Objects

    return Objects(settings)
