"""The recorder: sees what the user's code reads while it loads.

Seen: files opened, source files imported (the very bytes that ran), folders listed, files looked for, import
lookups, environment variables, processes started and connections made. Python's audit events tell most of it;
`os.stat` and `os.environ` have none and are wrapped; source files are compiled by us, which also never trusts a
`.pyc`, since that is matched by a timestamp that can be put back.

Not seen: what C code reads by itself (a database driver, `mmap` of an inherited descriptor), times of files, whether a
path is a link, the clock, random numbers.
What lies in an installed distribution or in Python itself is not recorded: the versions of those are part of the key.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import pathlib
import site
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.machinery import SOURCE_SUFFIXES, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from flyte_build import sdk
from flyte_build.state import digest
from flyte_build.state.files import FileIndex, encodable, kind
from flyte_build.state.folder import NAME as STATE_FOLDER
from flyte_build.state.trace import EXTENSION_SUFFIXES, Trace, find_module, listing_digest, variable_digest

_VOLATILE = ("/proc/", "/sys/", "/dev/")
"""The kernel's own files: never the same twice, and nothing that a build depends on."""
_UNASKED = ("PYTHONPATH",)
"""Environment variables that Python itself goes by: where imports are looked for."""
_MACHINERY = "<frozen importlib"
_SDK = os.path.join(sdk.FOLDER, "")
_OPAQUE = {
    "subprocess.Popen": "started `{0}`",
    "os.system": "started `{0}`",
    "os.exec": "started `{0}`",
    "os.fork": "started a process",
    "os.forkpty": "started a process",
    "os.posix_spawn": "started `{0}`",
    "os.spawn": "started `{1}`",
    "socket.connect": "made a network connection",
    "socket.getaddrinfo": "looked up host `{0}`",
}
_MODULE_SUFFIXES = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)
_KIND_ONLY = {
    *("_isdir", "_joinrealpath", "_lexists", "exists", "is_block_device", "is_char_device", "is_dir", "is_fifo"),
    *("is_file", "is_mount", "is_socket", "is_symlink", "isdir", "isfile", "islink", "ismount", "lexists", "resolve"),
}
"""Functions of Python's own that ask `stat` only what there is, and tell nothing of the content."""


@functools.cache
def installed_folders() -> tuple[str, ...]:
    """Folders of Python itself and of installed distributions, each with a trailing separator."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    paths = {sysconfig.get_path(name) for name in names} | set(site.getsitepackages()) | {site.getusersitepackages()}
    paths |= {path for path in sys.path if path.endswith(".zip") and path.startswith(sys.base_prefix)}
    own = str(Path(__file__).resolve().parents[1])
    return tuple(sorted(os.path.join(os.path.realpath(path), "") for path in {*paths, own} if path))


def is_users(path: str) -> bool:
    """Whether a source file is the user's: not Python's, not an installed distribution's, not ours."""
    return os.path.isabs(path) and not path.startswith((*installed_folders(), _SDK))


class Recorder:
    """Collects a `Trace` between `start` and `finish`."""

    def __init__(self, folder: Path, progress: int, passed: Iterable[str] = ()) -> None:
        """`passed`: names of the environment variables that code may be given, set or not."""
        self._folder = os.path.join(str(folder), "")
        self._state = os.path.join(str(folder), STATE_FOLDER, "")
        self._installed = installed_folders()
        self._progress = progress
        self._active = False
        self._own = threading.local()
        self._sources: dict[str, None] = {}
        self._files: dict[str, str] = {}
        self._folders: dict[str, str] = {}
        self._exists: dict[str, str] = {}
        self._lookups: dict[str, dict[str, str]] = {}
        self._index = FileIndex()
        self._made: set[str] = set()
        self._opaque: dict[str, None] = {}
        self.environment = RecordedVariables(self, passed)

    def start(self) -> None:
        sys.addaudithook(self._audit)
        sys.meta_path.insert(0, self)
        importlib.invalidate_caches()  # a folder may have come since the parent looked
        _wrap_loader(self)
        os.environ._data = os.environb._data = self.environment  # type: ignore[attr-defined]
        _wrap_stat(self)
        self._active = True

    def finish(self) -> Trace:
        self._active = False
        for path in self.other_modules():
            self._files.setdefault(path, _content(path))
        return Trace(
            files={self._name(path): content for path, content in sorted(self._files.items())},
            folders={self._name(path): entries for path, entries in sorted(self._folders.items())},
            exists={self._name(path): kind for path, kind in self._existence()},
            imports={
                self._name(folder): {encodable(name): what for name, what in sorted(found.items())}
                for folder, found in sorted(self._lookups.items())
            },
            environment=self.environment.seen(),
            opaque=tuple(map(encodable, self._opaque)),
        )

    def _existence(self) -> Iterator[tuple[str, str]]:
        """What was looked for, but for what the files that were read imply: themselves and the folders above them."""
        implied = {str(above) for path, content in self._files.items() if content for above in Path(path).parents}
        for path, what in sorted(self._exists.items()):
            if path not in self._files and not (what == "folder" and path in implied):
                yield path, what

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
    def _is_recording(self) -> bool:
        return self._active and not self._is_paused

    def add(self, files: Mapping[str, str], folders: Mapping[str, str], missing: Iterable[str]) -> None:
        """Record what was read on the code's behalf while recording was paused, as a trace has it."""
        for path, state in files.items():
            known = self._files.get(path, "")
            if not known or state.startswith(known):  # else it has changed since: what the code saw counts
                self._files[path] = state
        self._folders = {**folders, **self._folders}
        self._exists = {**dict.fromkeys(missing, ""), **self._exists}

    def sources(self) -> tuple[str, ...]:
        """Every source file of the user's that was imported, in order."""
        return tuple(self._sources)

    def other_modules(self) -> tuple[str, ...]:
        """Every other file of the user's that a module came from: compiled, or read by a loader of the user's own."""
        named = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        with self.paused():
            paths = {self._watched(path) for path in named if isinstance(path, str) and path.endswith(_MODULE_SUFFIXES)}
            return tuple(sorted(path for path in paths if path and path not in self._sources and os.path.isfile(path)))

    # --- files

    def read_source(self, path: str) -> bytes:
        """Read a source file that is about to run, and record the very bytes."""
        path = os.path.abspath(path)
        os.pwrite(self._progress, os.fsencode(path).ljust(4096, b"\0"), 0)
        with self.paused(), open(path, "rb") as file:
            data = file.read()
        self._sources[path] = None
        self._files[path] = digest.of_bytes(data)
        return data

    def record_stat(self, path: Any, *, content: bool) -> None:
        """Record what there is. With `content`, a file counts as read, since `stat` tells its size."""
        watched = self._watched(path) if self._is_recording else None
        if watched is None or watched in self._files or self._is_made(watched) or self._is_above(watched):
            return
        if content or watched not in self._exists:
            with self.paused():
                self._exists[watched] = kind(watched)
                if content and self._exists[watched] == "file":
                    self._files[watched] = _content(watched)

    def record_link(self, path: Any) -> None:
        """Record the folder's entries, which tell where links lead."""
        watched = self._watched(path) if self._is_recording else None
        if watched is not None and not self._is_above(watched):
            self._record_entries(os.path.dirname(watched))

    def _record_open(self, path: Any, mode: Any, flags: Any) -> None:
        watched = self._watched(path)
        if watched is None or watched in self._files or self._is_made(watched):
            return
        if _creates(mode, flags):
            self._record_making(watched)
        elif _overwrites(mode, flags):
            self._made.add(watched)
        elif not _appends(mode, flags):  # what is appended to is not seen by that, and a log must not be stale for ever
            with self.paused():
                self._files[watched] = _content(watched)

    def _record_making(self, path: Any) -> None:
        """What the code makes itself does not count, nor what it puts in there; it fails where something is."""
        watched = self._watched(path)
        if watched is None or self._is_made(watched):
            return
        with self.paused():
            is_new = not os.path.lexists(watched)
        if is_new:
            self._made.add(watched)
        else:
            self.record_stat(watched, content=False)

    def _record_database(self, name: Any) -> None:
        path = os.fsdecode(name).removeprefix("file:").partition("?")[0]
        if path not in ("", ":memory:"):
            self._record_open(path, "r", 0)

    def _record_listing(self, path: Any) -> None:
        watched = self._watched("." if path is None else path)
        if watched is not None and not _from_machinery(sys._getframe(2)):
            self._record_entries(watched)

    def _record_entries(self, folder: str) -> None:
        if folder not in self._folders and not self._is_made(folder):
            with self.paused():
                self._folders[folder] = listing_digest(FileIndex().listing(folder))

    def _is_made(self, path: str) -> bool:
        """Whether the code made it, or a folder above it."""
        return bool(self._made) and any(each in self._made for each in (path, *map(str, Path(path).parents)))

    def _is_above(self, path: str) -> bool:
        return self._folder.startswith(f"{path}{os.sep}")

    def _watched(self, path: Any) -> str | None:
        """The absolute path, if it is one whose content may change the result."""
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        absolute = os.path.abspath(os.fsdecode(path))
        if (
            f"{absolute}/".startswith((*self._installed, *_VOLATILE, self._state))
            or f"{os.sep}__pycache__{os.sep}" in absolute
        ):
            return None
        return absolute

    def _name(self, path: str) -> str:
        inside = os.path.join(path, "").startswith(self._folder)
        return encodable(path[len(self._folder) :] if inside else path)

    # --- events

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_recording:
            return
        if event == "open":
            self._record_open(*arguments)
        elif event == "sqlite3.connect":
            self._record_database(arguments[0])
        elif event == "os.mkdir":
            self._record_making(arguments[0])
        elif event in ("os.listdir", "os.scandir"):
            self._record_listing(arguments[0])
        elif event in _OPAQUE:
            self._record_opaque(event, arguments)

    def _record_opaque(self, event: str, arguments: tuple[Any, ...]) -> None:
        line = self.users_line(sys._getframe(2))
        if line:
            what = _OPAQUE[event].format(*map(_first_word, arguments))
            self._opaque[f"{line} {what}"] = None

    def users_line(self, frame: FrameType | None) -> str:
        """`FILE:LINE` of the user's code that is behind a call; empty when there is none."""
        caller = self._user_frame(frame)
        return f"{self._name(caller.f_code.co_filename)}:{caller.f_lineno}" if caller else ""

    def _user_frame(self, frame: FrameType | None) -> FrameType | None:
        """The user's line that did it. None for the SDK's doing, and for what a library does while it is imported."""
        while frame is not None:
            path = frame.f_code.co_filename
            if path.startswith((_MACHINERY, _SDK)):
                return None
            if is_users(path):
                return frame
            frame = frame.f_back
        return None

    # --- imports

    def find_spec(self, name: str, path: Any = None, _target: Any = None) -> ModuleSpec | None:
        """Notes where a module is looked for, and leaves the finding to others."""
        if self._is_recording:
            for entry in _strings(sys.path if path is None else path):
                watched = self._watched(entry or ".")
                if watched is not None:
                    self._record_lookup(watched, name.rpartition(".")[2])
        return None

    def _record_lookup(self, folder: str, name: str) -> None:
        found = self._lookups.setdefault(folder, {})
        if name not in found:
            with self.paused():
                found[name] = find_module(name, folder, self._index.listing(folder), self._index)


class RecordedVariables(dict[bytes, bytes]):
    """The dictionary behind `os.environ`, noting each variable that is asked for."""

    def __init__(self, recorder: Recorder, passed: Iterable[str]) -> None:
        self._recorder = recorder
        self._passed = tuple(map(os.fsencode, passed))
        self._original: dict[bytes, bytes] = dict(os.environ._data)  # type: ignore[attr-defined]
        self._asked = dict.fromkeys(_UNASKED, "")
        super().__init__(self._original)

    def seen(self) -> dict[str, str]:
        """Variable -> digest of the value that it had when loading began."""
        return {encodable(name): variable_digest(name, self._value(name)) for name in sorted(self._asked)}

    def asked_by_user(self) -> dict[str, str]:
        """Variable -> the user's line that asked first, for those that the user's own code asked for."""
        return {name: line for name, line in self._asked.items() if line}

    def _value(self, name: str) -> str | None:
        value = self._original.get(os.fsencode(name))
        return None if value is None else os.fsdecode(value)

    def _note(self, key: object) -> None:
        name = os.fsdecode(key) if isinstance(key, bytes) else ""
        if name and name not in self._asked:
            line = self._recorder.users_line(sys._getframe(2))
            if line or name != "PATH":  # libraries look for programs; what they find is of the machine, not of the code
                self._asked[name] = line

    def __getitem__(self, key: bytes) -> bytes:
        self._note(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self._note(key)
        return super().__contains__(key)

    def __iter__(self) -> Iterator[bytes]:
        # who looks at all of them would also see one that is set next time
        for key in (*self._original, *self._passed):
            self._note(key)
        return super().__iter__()


def _wrap_loader(recorder: Recorder) -> None:
    """Have each source file of the user's compiled from what is recorded, whoever finds it."""
    original = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        if recorder._watched(path) is None:
            return original(self, fullname)
        data = recorder.read_source(path)
        if type(self).get_data is not SourceFileLoader.get_data:  # a loader that rewrites what it reads
            data = self.get_data(path)
        code: CodeType = self.source_to_code(data, path)
        return code

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]


def _wrap_stat(recorder: Recorder) -> None:
    def wrap(function: Any, record: Callable[[Any], None]) -> Any:
        def recorded(path: Any, *args: Any, **kwargs: Any) -> Any:
            record(path)
            return function(path, *args, **kwargs)

        return recorded

    def record_stat(path: Any) -> None:
        recorder.record_stat(path, content=not _asks_kind_only(sys._getframe(2)))

    wrapped = {name: wrap(getattr(os, name), record_stat) for name in ("stat", "lstat")}
    wrapped["access"] = wrap(os.access, lambda path: recorder.record_stat(path, content=False))
    wrapped["readlink"] = wrap(os.readlink, recorder.record_link)
    accessor = getattr(pathlib, "_normal_accessor", None)  # Python 3.10 has copies of its own
    for name, function in wrapped.items():
        setattr(os, name, function)
        if hasattr(accessor, name):
            setattr(accessor, name, function)


def _asks_kind_only(frame: FrameType) -> bool:
    caller: FrameType | None = frame
    while caller is not None and caller.f_code.co_name in ("stat", "lstat") and _is_pathlib(caller):
        caller = caller.f_back
    return caller is not None and caller.f_code.co_name in _KIND_ONLY and not is_users(caller.f_code.co_filename)


def _is_pathlib(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] == "pathlib"


def _content(path: str) -> str:
    try:
        return digest.of_file(Path(path)) if os.path.isfile(path) else ""
    except OSError:
        return ""


def _creates(mode: Any, flags: Any) -> bool:
    """Whether opening fails where there is a file."""
    return "x" in (mode or "") or bool(flags & os.O_EXCL)


def _overwrites(mode: Any, flags: Any) -> bool:
    """Whether a file is opened so that what it held is not seen, then or later."""
    if "w" in (mode or "") or flags & os.O_TRUNC:
        return True
    return not mode and flags & os.O_ACCMODE == os.O_WRONLY and not flags & os.O_APPEND


def _appends(mode: Any, flags: Any) -> bool:
    """Whether a file is opened to be written at its end, and not to be read."""
    if mode:
        return "a" in mode and "+" not in mode
    return bool(flags & os.O_APPEND) and flags & os.O_ACCMODE == os.O_WRONLY


def _from_machinery(frame: FrameType | None) -> bool:
    """Whether the import system itself asks: lookups are recorded more exactly by `find_spec`."""
    return frame is not None and frame.f_code.co_filename.startswith(_MACHINERY)


def _first_word(argument: Any) -> str:
    if isinstance(argument, list | tuple):
        argument = argument[0] if argument else ""
    return os.fsdecode(argument) if isinstance(argument, str | bytes | os.PathLike) else str(argument)


def _strings(entries: Any) -> list[str]:
    return [entry for entry in entries if isinstance(entry, str)]
