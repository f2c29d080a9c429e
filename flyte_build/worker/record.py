"""The recorder: sees what the user's code reads while it loads.

Seen: files opened, source files imported (the very bytes that ran), archives on the import path, folders listed, files
looked for, import lookups, environment variables, processes started and connections made. Python's audit events tell
most of it; what has none is wrapped (`hooks`, `environment`); source files are compiled by us, which also never trusts
a `.pyc`, since that is matched by a timestamp that can be put back.

Not seen: what C code reads by itself (a database driver, `mmap` of an inherited descriptor, `stat` of an entry that
`os.scandir` gave), times, owners and link counts of files, of their modes all but the executable bit, what is reached
through `/proc`, the clock, random numbers.
What lies in an installed distribution or in Python itself is not recorded: the versions of those are part of the key.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import SOURCE_SUFFIXES, ModuleSpec
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from flyte_build.state import digest
from flyte_build.state.files import FileIndex, absent, encodable, kind
from flyte_build.state.folder import NAME as STATE_FOLDER
from flyte_build.state.trace import EXTENSION_SUFFIXES, Trace, find_module, listing_digest
from flyte_build.worker import hooks, inherited
from flyte_build.worker.environment import RecordedVariables
from flyte_build.worker.events import HEARD, OPAQUE, first_word
from flyte_build.worker.frames import from_machinery, nearest_user, user_frame
from flyte_build.worker.opens import appends, content_of, creates, is_executable, overwrites
from flyte_build.worker.places import MEMORY, VOLATILE, absolute_path, installed_folders, texts

_MODULE_SUFFIXES = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)


class Forbidden(Exception):
    """Raised in the user's code where it does what `hermetic` forbids."""


class Recorder:
    """Collects a `Trace` between `start` and `finish`."""

    def __init__(self, folder: Path, progress: int, passed: Iterable[str] = (), *, hermetic: bool = False) -> None:
        """`passed`: names of the environment variables that code may be given, set or not."""
        self._hermetic = hermetic
        self._folder = os.path.join(str(folder), "")
        self._state = os.path.join(str(folder), STATE_FOLDER, "")
        self._unwatched = (*installed_folders(), self._state)
        self._progress = progress
        self._active = False
        self._own = threading.local()
        self._sources: dict[str, None] = {}
        self._imported: dict[str, None] = {}
        self._files: dict[str, str] = {}
        self._executable: dict[str, str] = {}
        self._folders: dict[str, str] = {}
        self._exists: dict[str, str] = {}
        self._lookups: dict[str, dict[str, str]] = {}
        self._readers: dict[str, str] = {}
        self._seekers: dict[tuple[str, str], str] = {}
        self._index = FileIndex()
        self._made: set[str] = set()
        self._opaque: dict[str, None] = {}
        self.environment = RecordedVariables(passed, self.users_line)

    def start(self) -> None:
        sys.addaudithook(self._audit)
        sys.meta_path.insert(0, self)
        inherited.forget_folders()
        hooks.wrap_loader(self)
        hooks.wrap_files(self)
        hooks.wrap_processes(self)
        self.environment.install()
        self._active = True

    def finish(self) -> Trace:
        self._active = False
        for path in self.other_modules():
            self._files.setdefault(path, content_of(path))
        return Trace(
            files={self._name(path): self._with_bit(path, content) for path, content in sorted(self._files.items())},
            folders={self._name(path): entries for path, entries in sorted(self._folders.items())},
            exists={self._name(path): kind for path, kind in self._existence()},
            imports={
                self._name(folder): {encodable(name): what for name, what in sorted(found.items())}
                for folder, found in sorted(self._lookups.items())
            },
            environment=self.environment.seen(),
            opaque=self.opaque,
        )

    def _with_bit(self, path: str, content: str) -> str:
        """As a trace has it: with the executable bit, where the code could see that."""
        bit = self._executable.get(path)
        return f"{content}:{bit}" if content and bit and ":" not in content else content

    def _existence(self) -> Iterator[tuple[str, str]]:
        """What was looked for, but for what the files that were read imply: themselves and the folders above them."""
        implied: set[str] = set()
        for path in {os.path.dirname(path) for path, content in self._files.items() if content}:
            while path not in implied:
                implied.add(path)
                path = os.path.dirname(path)  # noqa: PLW2901 up to the root, which is above itself
        for path, what in sorted(self._exists.items()):
            if path not in self._files and not (what == "folder" and path in implied):
                yield path, what

    @property
    def opaque(self) -> tuple[str, ...]:
        """What was done whose inputs cannot be seen, each with the user's line that did it."""
        return tuple(map(encodable, self._opaque))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """While this thread reads something for ourselves, which the code does not depend on."""
        before = self._is_paused
        self._own.paused = True
        try:
            yield
        finally:
            self._own.paused = before

    @property
    def _is_paused(self) -> bool:
        return getattr(self._own, "paused", False)

    @property
    def is_recording(self) -> bool:
        return self._active and not self._is_paused

    def add(self, files: Mapping[str, str], folders: Mapping[str, str], missing: Iterable[str]) -> None:
        """Record what was read on the code's behalf while recording was paused, as a trace has it."""
        for path, state in files.items():
            known = self._files.get(path)
            if known is None or (known and state.startswith(known)):  # else it has changed: what the code saw counts
                self._files[path] = state
        self._folders = {**folders, **self._folders}
        with self.paused():
            self._exists = {**{path: absent(path) for path in missing}, **self._exists}

    def sources(self) -> tuple[str, ...]:
        """Every source file of the user's that was imported, in order."""
        return tuple(self._sources)

    def readers(self) -> dict[str, str]:
        """`Discovery.readers`: what was looked at so far -> the file of the user's whose code did so first.

        Of what lies in the manifest's folder alone, so that a discovery is the same in every checkout.
        """
        asked = {f"${name}": line.rpartition(":")[0] for name, line in self.environment.asked_by_user().items()}
        looked = {self._name(path) or ".": self._name(reader) for path, reader in self._readers.items()}
        sought = {
            f"import {os.path.join(self._name(folder), name)}": self._name(reader)
            for (folder, name), reader in self._seekers.items()
            if not os.path.isabs(self._name(folder))
        }
        return {
            encodable(name): reader
            for name, reader in sorted((asked | looked | sought).items())
            if not (os.path.isabs(name) or os.path.isabs(reader))
        }

    def _note_reader(self, path: str) -> None:
        if path not in self._readers:
            self._readers[path] = nearest_user(sys._getframe(2))

    def modules(self) -> list[tuple[str, ModuleType | None]]:
        """The loaded modules that may be of the user's."""
        if any(path.endswith(_MODULE_SUFFIXES) and path not in self._sources for path in tuple(self._files)):
            return list(sys.modules.items())  # of code that is not imported as usual, any may be made
        named = {name: sys.modules.get(name) for name in tuple(self._imported)}  # which may have taken another's place
        return list({**inherited.modules_since(), **named}.items())

    def other_modules(self) -> tuple[str, ...]:
        """Every other file of the user's that a module came from: compiled, or read by a loader of the user's own."""
        named = [getattr(module, "__file__", None) for _, module in self.modules()]
        with self.paused():
            paths = {self.watched(path) for path in named if isinstance(path, str) and path.endswith(_MODULE_SUFFIXES)}
            return tuple(sorted(path for path in paths if path and path not in self._sources and os.path.isfile(path)))

    def _note_name(self, path: str) -> None:
        """A trace is text; under a name that is none the next run could not look."""
        if encodable(path) != path:
            line = self.users_line(sys._getframe(2)) or "the code"
            self._opaque[f"{line} looked at `{self._name(path)}`, a name that is not UTF-8"] = None

    # --- files

    def read_source(self, path: str, name: str) -> tuple[bytes, str]:
        """Read a source file that is `watched` and about to run, and record the very bytes, given with their digest.

        `name`: of the module.
        """
        self._imported[name] = None
        with contextlib.suppress(OSError):  # it is for a message, and the disk may be full
            os.pwrite(self._progress, os.fsencode(path).ljust(4096, b"\0"), 0)
        with self.paused(), open(path, "rb") as file:
            data = file.read()
        self._sources[path] = None
        self._note_reader(path)
        content = self._files[path] = digest.of_bytes(data)
        return data, content

    def record_stat(self, path: Any, *, content: bool) -> None:
        """Record what there is. With `content`, a file counts as read, since `stat` tells its size and its mode."""
        watched = self.watched(path) if self.is_recording else None
        if watched is None or self._is_made(watched) or self._is_above(watched):
            return
        if content and watched not in self._executable:
            self._executable[watched] = "x" if is_executable(watched) else "-"
        if watched in self._files:
            return
        self._note_name(watched)
        self._note_reader(watched)
        if content or watched not in self._exists:
            with self.paused():
                self._exists[watched] = kind(watched)
                if content and self._exists[watched] == "file":
                    self._files[watched] = content_of(watched)

    def record_access(self, path: Any, mode: int, **_: Any) -> None:
        """Record what there is, and whether it can be executed; that of other folders' programs is the machine's."""
        watched = (self.watched(path) if self.is_recording else None) or ""
        self.record_stat(path, content=bool(mode & os.X_OK) and watched.startswith(self._folder))

    def record_link(self, path: Any) -> None:
        """Record the folder's entries, which tell where links lead."""
        watched = self.watched(path) if self.is_recording else None
        if watched is not None and not self._is_above(watched):
            self._record_entries(os.path.dirname(watched))

    def record_open(self, path: Any, mode: Any, flags: Any) -> None:
        watched = self.watched(path) if self.is_recording else None
        if watched is None or watched in self._files or self._is_made(watched):
            return
        if creates(mode, flags):
            self._record_making(watched)
        elif overwrites(mode, flags):
            self._note_made(watched)
        elif not appends(mode, flags):  # what is appended to is not seen by that, and a log must not be stale for ever
            self._note_name(watched)
            self._note_reader(watched)
            with self.paused():
                self._files[watched] = content_of(watched)

    def _record_making(self, path: Any) -> None:
        """What the code makes itself does not count, nor what it puts in there; it fails where something is."""
        watched = self.watched(path)
        if watched is None or self._is_made(watched):
            return
        with self.paused():
            is_new = not os.path.lexists(watched)
        if is_new:
            self._note_made(watched)
        else:
            self.record_stat(watched, content=False)

    def _record_moving(self, source: Any, target: Any, *folders: int) -> None:
        """A file that is moved is read, and what is made by that is what it was."""
        self.record_stat(source, content=True)
        moved, made = self.watched(source), self.watched(target)
        if made is not None and max(folders, default=-1) < 0:
            with self.paused():
                is_known = os.path.isfile(source) or self._is_made(moved or "")
            if is_known:
                self._note_made(made)

    def _note_made(self, path: str) -> None:
        with self.paused():
            self._made |= {path, os.path.realpath(path)}

    def _record_database(self, name: Any) -> None:
        path = os.fsdecode(name)
        if path.startswith("file:"):
            path = urllib.parse.unquote(urllib.parse.urlsplit(path).path)
        if path not in ("", ":memory:"):
            self.record_open(path, "r", 0)
            self.record_open(f"{path}-wal", "r", 0)  # what was committed and is not in the file yet

    def _record_listing(self, path: Any) -> None:
        path = hooks.path_of_descriptor(path) if isinstance(path, int) else path
        watched = self.watched("." if path is None else path)
        if watched is not None and not from_machinery(sys._getframe(2)):
            self._record_entries(watched)

    def _record_entries(self, folder: str) -> None:
        if folder not in self._folders and not self._is_made(folder):
            self._note_name(folder)
            self._note_reader(folder)
            with self.paused():
                self._folders[folder] = listing_digest(FileIndex().listing(folder))

    def _is_made(self, path: str) -> bool:
        """Whether the code made it, or a folder above it."""
        return bool(self._made) and any(each in self._made for each in (path, *map(str, Path(path).parents)))

    def _is_above(self, path: str) -> bool:
        return self._folder.startswith(f"{path}{os.sep}")

    def watched(self, path: Any) -> str | None:
        """The absolute path, if it is one whose content may change the result."""
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        absolute, links = absolute_path(os.fsdecode(path))
        for link in links:
            self.record_link(link)
        if self._is_made(absolute):
            with self.paused():  # a link that the code made may lead to what it has not made
                absolute = os.path.realpath(absolute)
        folder = f"{absolute}/"
        if folder.startswith(self._unwatched) or (folder.startswith(VOLATILE) and not folder.startswith(MEMORY)):
            return None
        return None if f"{os.sep}__pycache__{os.sep}" in absolute else absolute

    def _name(self, path: str) -> str:
        inside = f"{path}/".startswith(self._folder)
        return encodable(path[len(self._folder) :] if inside else path)

    # --- events

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in HEARD or not self.is_recording:
            return
        if event == "open":
            self.record_open(*arguments)
        elif event == "sqlite3.connect":
            self._record_database(arguments[0])
        elif event == "os.mkdir":
            self._record_making(arguments[0])
        elif event in ("os.link", "os.symlink"):
            if event == "os.link":
                self.record_open(arguments[0], "r", 0)
            self._record_making(arguments[1])
        elif event == "os.rename":
            self._record_moving(*arguments)
        elif event in ("os.listdir", "os.scandir"):
            self._record_listing(arguments[0])
        elif event == "ctypes.dlopen" and os.sep in str(arguments[0]):
            self.record_open(arguments[0], "r", 0)
        elif event == "import" and any(arguments[1:2]):  # the file of a compiled module
            self.record_open(arguments[1], "r", 0)
        elif event in OPAQUE:
            self.record_opaque(OPAQUE[event].format(*map(first_word, arguments)), sys._getframe(1))

    def record_opaque(self, what: str, frame: FrameType) -> None:
        """Record something whose inputs cannot be seen.

        Raises:
            Forbidden: the load is to be hermetic.
        """
        line = self.users_line(frame) or hooks.starting_line(threading.current_thread())
        if line:
            self._opaque[f"{line} {what}"] = None
            if self._hermetic:
                raise Forbidden(f"{what}, which `hermetic = true` forbids")

    def users_line(self, frame: FrameType | None) -> str:
        """`FILE:LINE` of the user's code that is behind a call; empty when there is none."""
        caller = user_frame(frame)
        return f"{self._name(caller.f_code.co_filename)}:{caller.f_lineno}" if caller else ""

    # --- imports

    def find_spec(self, name: str, path: Any = None, _target: Any = None) -> ModuleSpec | None:
        """Notes where a module is looked for, and leaves the finding to others."""
        if self.is_recording:
            for entry in texts(sys.path if path is None else path):
                watched = self.watched(entry or ".")
                if watched is not None:
                    self._record_lookup(watched, name.rpartition(".")[2])
        return None

    def _record_lookup(self, folder: str, name: str) -> None:
        if folder not in self._lookups:
            self._record_archive(folder)
        found = self._lookups.setdefault(folder, {})
        if name not in found:
            self._seekers[folder, name] = nearest_user(sys._getframe(2))
            with self.paused():
                found[name] = find_module(name, folder, self._index.listing(folder), self._index)

    def _record_archive(self, place: str) -> None:
        """Of a place on the import path that is no folder: the file that it is in, or that there is none."""
        with self.paused():
            if os.path.isdir(place):
                return
            while not (os.path.lexists(place) or os.path.isdir(os.path.dirname(place))):
                place = os.path.dirname(place)
        self.record_stat(place, content=True)
