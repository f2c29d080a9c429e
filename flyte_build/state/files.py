"""The file index: content digests remembered by `stat` signature, so that a file is read only when it may differ.

A signature holds size, mtime, ctime, inode and mode. ctime cannot be set by a user, so an edit whose mtime was put
back is seen. A file is remembered only if it was last changed before the time that the clock of its own file system
showed when it was read: within one step of that clock it could change again without a new signature.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import AnyStr, NamedTuple

import msgspec

from flyte_build.errors import StateUnwritable
from flyte_build.state import digest
from flyte_build.state.folder import write_atomically

FORMAT = 3
_COARSEST = 2_000_000_000
"""Nanoseconds; the coarsest timestamps of a common file system (FAT) have this step. Counts where no clock is known."""


class Signature(NamedTuple):
    size: int
    mtime: int
    ctime: int
    inode: int
    mode: int


class _Clock(NamedTuple):
    """What time it was for a file system: with the steps of its timestamps, and maybe on another machine."""

    device: int
    now: int


class Importable(NamedTuple):
    """Names in a folder, as imports ask for them. Links count as files and as folders."""

    folders: set[str]
    files: set[str]
    extensions: set[str]
    """Of files with compiled modules, the part before the first dot."""


class _Saved(msgspec.Struct):
    format: int
    files: dict[str, tuple[Signature, str]]
    folders: dict[str, tuple[Signature, tuple[str, ...]]]


class FileIndex:
    """Digests of files and listings of folders, each looked at once per run, by whichever thread.

    Paths are absolute. `save` keeps what was learnt for the next run; losing it costs time, never correctness.
    Without a path of its own it remembers nothing.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._saved = _load(path)
        self._next = _Saved(FORMAT, {}, {})
        self._digests: dict[str, str] = {}
        self._listings: dict[str, tuple[str, ...] | None] = {}
        self._modes: dict[str, int] = {}
        self._states: dict[str, str] = {}
        self._kinds: dict[str, str] = {}
        self._written: set[str] = set()
        self._made: list[str] = []
        self._clock: _Clock | None = None
        """Of the file system that holds the index, before any file was read that may be remembered."""
        self._removed: set[str] = set()
        self.modules: dict[tuple[str, str], str] = {}
        """Folder and name -> what `find_module` found: each target asks again."""
        self.importable: dict[str, Importable] = {}
        """Folder -> its entries, as `find_module` asks for them."""
        self._learnt = False

    def digest(self, path: str) -> str:
        """Digest of a file's content; empty when there is no such file."""
        known = self._digests.get(path)
        if known is None or path in self._written:
            known = self._digests[path] = self._look(path)
        return known

    def state(self, path: str) -> str:
        """Digest and executable bit, `DIGEST:x` or `DIGEST:-`; empty when there is no such file."""
        known = self._states.get(path)
        if known is None or path in self._written:
            content = self.digest(path)
            known = content and f"{content}:{'x' if self._modes[path] & stat.S_IXUSR else '-'}"
            self._states[path] = known
        return known

    def listing(self, folder: str) -> tuple[str, ...] | None:
        """Sorted entries of a folder, as `entry_text` spells them; None when there is no such folder."""
        if folder not in self._listings:
            self._listings[folder] = self._list(folder)
        return self._listings[folder]

    def kind(self, path: str) -> str:
        """What there is, as the function `kind` names it."""
        known = self._kinds.get(path)
        if known is None or path in self._written:
            known = self._kinds[path] = kind(path)
        return known

    def forget(self, path: str) -> None:
        """Look at a file again whenever it is asked for: this run writes it, maybe while another thread looks."""
        self._written.add(path)

    def made(self, path: str) -> None:
        """A file that this run has made: looked at when the index is saved, so that the next run need not read it."""
        self._made.append(path)

    def drop(self, paths: Iterable[str]) -> None:
        """Forget files for good, also in what is saved: this run has removed them."""
        known = [path for path in paths if path in self._saved.files or path in self._digests]
        self._written.update(known)
        self._removed.update(known)
        self._learnt = self._learnt or bool(known)

    def save(self) -> None:
        """Keep what was learnt, where it can be written. Entries that this run did not look at stay."""
        self._clock = None  # by now what was made is older
        while self._made:
            self._look(self._made.pop())
        if not self._learnt or self._path is None:
            return
        merged = _load(self._path)
        merged.files.update(self._next.files)
        merged.folders.update(self._next.folders)
        for path in self._removed:
            merged.files.pop(path, None)
        with contextlib.suppress(StateUnwritable):
            text = msgspec.json.encode(merged)
            write_atomically(self._path, digest.of_bytes(text).encode() + b"\n" + text)
        self._learnt = False

    def _look(self, path: str) -> str:
        try:
            found = os.stat(path)
            if not stat.S_ISREG(found.st_mode):
                return ""
            self._modes[path] = found.st_mode
            signature = _signature(found)
            saved = self._saved.files.get(path)
            if saved is not None and saved[0] == signature:
                return saved[1]
            settled = self._is_settled(found)
            content = digest.of_file(Path(path))
        except OSError:
            return ""
        if settled:
            self._next.files[path] = (signature, content)
            self._learnt = True
        return content

    def _list(self, folder: str) -> tuple[str, ...] | None:
        try:
            found = os.stat(folder)
            signature = _signature(found)
            saved = self._saved.folders.get(folder)
            if saved is not None and saved[0] == signature:
                return saved[1]
            settled = self._is_settled(found)
            with os.scandir(folder) as found_there:
                entries = tuple(sorted(map(entry_text, found_there)))
        except OSError:
            return None
        if settled:
            self._next.folders[folder] = (signature, entries)
            self._learnt = True
        return entries

    def _is_settled(self, found: os.stat_result) -> bool:
        """Whether what changes from now on gets another signature. To be asked before the content is read."""
        if self._path is None:
            return False
        clock = self._clock = self._clock or _clock_of(self._path.parent)
        changed = max(found.st_mtime_ns, found.st_ctime_ns)
        if clock is not None and found.st_dev == clock.device:
            return changed < clock.now
        return changed < time.time_ns() - _COARSEST


def kind(path: str) -> str:
    """`file`, `folder`, `other`, `link` for one that leads nowhere, or empty when there is nothing."""
    if not os.access(path, os.F_OK, follow_symlinks=False):  # that `stat` fails takes twice as long to find out
        return ""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return "link"
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


def absent(path: str) -> str:
    """`link` for a link that leads nowhere, else empty: what `kind` says of a path at which nothing was found."""
    return "link" if kind(path) == "link" else ""


def entry_text(entry: os.DirEntry[AnyStr]) -> str:
    """A folder's entry with its kind: `NAME/` is a folder, `NAME/@TARGET` a link, `NAME` anything else.

    Raises:
        OSError: the entry is gone.
    """
    name = encodable(os.fsdecode(entry.name))
    if entry.is_symlink():
        return f"{name}/@{encodable(os.fsdecode(os.readlink(entry.path)))}"
    return f"{name}/" if entry.is_dir() else name


def encodable(text: str) -> str:
    """Text that can be saved: bytes of a name that are not UTF-8 are spelt out, and so are other lone surrogates."""
    try:
        return os.fsencode(text).decode(errors="backslashreplace")
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()


def _signature(found: os.stat_result) -> Signature:
    return Signature(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_mode)


def _clock_of(folder: Path) -> _Clock | None:
    """The clock of the file system that a folder is in, as a file that is made there now has it; None: none can be."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            found = os.fstat(probe.fileno())
    except OSError:
        return None
    return _Clock(found.st_dev, found.st_ctime_ns)


def _load(path: Path | None) -> _Saved:
    if path is None:
        return _Saved(FORMAT, {}, {})
    try:
        seal, _, text = path.read_bytes().partition(b"\n")
        if digest.of_bytes(text).encode() != seal:
            return _Saved(FORMAT, {}, {})
        saved = msgspec.json.decode(text, type=_Saved)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return _Saved(FORMAT, {}, {})
    return saved if saved.format == FORMAT else _Saved(FORMAT, {}, {})
