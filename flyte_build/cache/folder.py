"""A folder as a shared cache."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flyte_build.cache import FORMAT, PARTS, Item, Trouble
from flyte_build.state.folder import CACHEDIR_TAG


@dataclass(frozen=True)
class Folder:
    root: str

    def mark(self) -> None:
        """Say that this is a cache, where that can be written: a checkout that it is in leaves it out of its bundles.

        From then on nothing comes or goes directly in it, which whoever leaves it out has looked at.
        """
        with contextlib.suppress(OSError):
            for name in (FORMAT, PARTS):
                os.makedirs(self._path(name), exist_ok=True)
            with open(self._path("CACHEDIR.TAG"), "xb") as file:
                file.write(CACHEDIR_TAG)

    def items(self, prefix: str) -> list[Item]:
        """See `Bucket.items`."""
        with _told():
            return list(self._walk(prefix))

    def get(self, name: str) -> bytes | None:
        """See `Bucket.get`."""
        with _told():
            try:
                with open(self._path(name), "rb") as file:
                    return file.read()
            except FileNotFoundError:
                return None

    def create(self, name: str, data: bytes) -> None:
        """See `Bucket.create`."""
        path, part = self._path(name), self._path(f"{PARTS}/{secrets.token_hex(8)}")
        with _told():
            for each in (path, part):
                os.makedirs(os.path.dirname(each), exist_ok=True)
            try:
                with open(part, "xb") as file:
                    file.write(data)
                _put_in_place(part, path)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(part)

    def delete(self, name: str) -> None:
        """See `Bucket.delete`."""
        with _told(), contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(name))

    def _path(self, name: str) -> str:
        return os.path.join(self.root, name)

    def _walk(self, prefix: str) -> Iterator[Item]:
        try:
            entries = list(os.scandir(self._path(prefix)))
        except FileNotFoundError:
            return
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(f"{prefix}{entry.name}/")
            else:
                with contextlib.suppress(FileNotFoundError):  # removed by another meanwhile
                    found = entry.stat()
                    yield Item(name=f"{prefix}{entry.name}", size=found.st_size, modified=found.st_mtime)


def _put_in_place(part: str, path: str) -> None:
    try:
        os.link(part, path)  # unlike a rename, never in the place of another
    except FileExistsError:
        pass
    except OSError:  # such as on a file system without hard links, where one whole object may replace another
        if not os.path.exists(path):
            os.rename(part, path)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Trouble((error.strerror or type(error).__name__).lower()) from error
