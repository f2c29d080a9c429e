"""A folder as a store: `file:///folder`."""

from __future__ import annotations

import errno
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from flyte_build.errors import StepError, StoreDiskFull, StoreFolderIsAFile, StoreFolderNotWritable
from flyte_build.model import Bundle, Upload
from flyte_build.state import digest
from flyte_build.store import Progress, child

_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_IS_A_FILE = (errno.ENOTDIR, errno.EEXIST)


@dataclass(frozen=True)
class FileStore:
    url: str

    @property
    def folder(self) -> Path:
        return Path(self.url.removeprefix("file://"))

    def put(self, bundle: Bundle, archive: Path, progress: Progress | None = None) -> Upload:
        """See `Store.put`."""
        target = self.folder / bundle.filename
        uri = child(self.url, bundle.filename)
        size = archive.stat().st_size
        try:
            if target.is_file() and target.stat().st_size == size and digest.of_file(target) == digest.of_file(archive):
                return Upload(uri=uri, sent=False)
            self.folder.mkdir(parents=True, exist_ok=True)
            _copy(archive, target, progress)
        except OSError as error:
            raise _failure(error, self.folder, uri) from error
        return Upload(uri=uri, sent=True)


def _copy(archive: Path, target: Path, progress: Progress | None) -> None:
    """Atomic: `target` is as it was until all bytes are on the disk."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        with archive.open("rb") as source, temporary.open("xb") as copy:
            while chunk := source.read(_CHUNK):
                copy.write(chunk)
                if progress:
                    progress(len(chunk))
            copy.flush()
            os.fsync(copy.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """The new name too must outlive a power cut: a receipt will say that it is there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failure(error: OSError, folder: Path, uri: str) -> StepError:
    if error.errno in _FULL:
        return StoreDiskFull(uri=uri)
    if error.errno in _IS_A_FILE:
        return StoreFolderIsAFile(folder=str(folder))
    return StoreFolderNotWritable(folder=str(folder), reason=(error.strerror or type(error).__name__).lower())
