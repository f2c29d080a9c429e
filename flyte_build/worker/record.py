"""The recorder: sees what the user's code reads while it loads.

Seen: files opened, source files imported (the very bytes that ran), folders listed, files looked for, import
lookups, environment variables, processes started and connections made. Python's audit events tell most of it;
`os.stat` and `os.environ` have none and are wrapped; source files go through a loader of ours, which also never
trusts a `.pyc`, since that is matched by a timestamp that can be put back.

Not seen: what C code reads by itself (a database driver, `mmap` of an inherited descriptor), the clock, random numbers.
What lies in an installed distribution or in Python itself is not recorded: the versions of those are part of the key.
"""

from __future__ import annotations

import importlib.machinery
import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from importlib.machinery import FileFinder, ModuleSpec
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from flyte_build import sdk
from flyte_build.state import digest
from flyte_build.state.files import FileIndex, kind
from flyte_build.state.trace import EXTENSION_SUFFIXES, Trace, find_module, listing_digest, variable_digest

_VOLATILE = ("/proc/", "/sys/", "/dev/")
"""The kernel's own files: never the same twice, and nothing that a build depends on."""
_MACHINERY = "<frozen importlib"
_SDK = os.path.join(sdk.FOLDER, "")
_OPAQUE = {
    "subprocess.Popen": "started `{0}`",
    "os.system": "started `{0}`",
    "os.exec": "started `{0}`",
    "os.posix_spawn": "started `{0}`",
    "os.spawn": "started `{1}`",
    "socket.connect": "made a network connection",
    "socket.getaddrinfo": "looked up host `{0}`",
}


def installed_folders() -> tuple[str, ...]:
    """Folders of Python itself and of installed distributions, each with a trailing separator."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    paths = {sysconfig.get_path(name) for name in names} | set(site.getsitepackages()) | {site.getusersitepackages()}
    paths |= {path for path in sys.path if path.endswith(".zip") and path.startswith(sys.base_prefix)}
    own = str(Path(__file__).resolve().parents[1])
    return tuple(sorted(os.path.join(os.path.realpath(path), "") for path in {*paths, own} if path))


class Recorder:
    """Collects a `Trace` between `start` and `finish`."""

    def __init__(self, folder: Path, progress: int) -> None:
        self._folder = os.path.join(str(folder), "")
        self._installed = installed_folders()
        self._progress = progress
        self._active = False
        self._sources: dict[str, None] = {}
        self._files: dict[str, str] = {}
        self._folders: set[str] = set()
        self._exists: dict[str, str] = {}
        self._lookups: dict[str, set[str]] = {}
        self._written: set[str] = set()
        self._opaque: dict[str, None] = {}
        self.environment = RecordedVariables(self)

    def start(self) -> None:
        sys.addaudithook(self._audit)
        sys.meta_path.insert(0, self)
        sys.path_hooks.insert(0, self._finder)
        sys.path_importer_cache.clear()
        os.environ._data = os.environb._data = self.environment  # type: ignore[attr-defined]
        _wrap_stat(self)
        self._active = True

    def finish(self) -> Trace:
        self._active = False
        for path in self.extensions():
            self._files.setdefault(path, _content(path))
        index = FileIndex()
        return Trace(
            files={self._name(path): content for path, content in sorted(self._files.items())},
            folders={self._name(path): listing_digest(index.listing(path)) for path in sorted(self._folders)},
            exists={self._name(path): kind for path, kind in sorted(self._exists.items()) if path not in self._files},
            imports={
                self._name(folder): {
                    name: find_module(name, folder, index.listing(folder), index) for name in sorted(names)
                }
                for folder, names in sorted(self._lookups.items())
            },
            environment=self.environment.seen(),
            opaque=tuple(self._opaque),
        )

    def sources(self) -> tuple[str, ...]:
        """Every source file of the user's that was imported, in order."""
        return tuple(self._sources)

    def extensions(self) -> tuple[str, ...]:
        """Every compiled module of the user's that was imported."""
        files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        return tuple(sorted({path for path in files if isinstance(path, str) and self._is_extension(path)}))

    def _is_extension(self, path: str) -> bool:
        return path.endswith(EXTENSION_SUFFIXES) and self._watched(path) is not None

    # --- files

    def read_source(self, path: str) -> bytes:
        """Read a source file that is about to run, and record the very bytes."""
        os.pwrite(self._progress, path.encode().ljust(4096, b"\0"), 0)
        active, self._active = self._active, False
        try:
            with open(path, "rb") as file:
                data = file.read()
        finally:
            self._active = active
        self._sources[path] = None
        self._files[path] = digest.of_bytes(data)
        return data

    def record_existence(self, path: Any) -> None:
        watched = self._watched(path) if self._active else None
        if watched is not None and watched not in self._exists and not self._folder.startswith(f"{watched}{os.sep}"):
            self._active = False
            self._exists[watched] = kind(watched)
            self._active = True

    def _record_open(self, path: Any, mode: Any, flags: Any) -> None:
        watched = self._watched(path)
        if watched is None or watched in self._files:
            return
        if _writes(mode, flags):
            self._written.add(watched)
        elif watched not in self._written:
            self._active = False
            self._files[watched] = _content(watched)
            self._active = True

    def _record_listing(self, path: Any) -> None:
        watched = self._watched("." if path is None else path)
        if watched is not None and not _from_machinery(sys._getframe(2)):
            self._folders.add(watched)

    def _watched(self, path: Any) -> str | None:
        """The absolute path, if it is one whose content may change the result."""
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        absolute = os.path.abspath(os.fsdecode(path))
        if f"{absolute}/".startswith((*self._installed, *_VOLATILE)) or f"{os.sep}__pycache__{os.sep}" in absolute:
            return None
        return absolute

    def _name(self, path: str) -> str:
        inside = os.path.join(path, "").startswith(self._folder)
        return path[len(self._folder) :] if inside else path

    # --- events

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._active:
            return
        if event == "open":
            self._record_open(*arguments)
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
            if self._is_users(path):
                return frame
            frame = frame.f_back
        return None

    def _is_users(self, path: str) -> bool:
        return os.path.isabs(path) and not path.startswith(self._installed)

    # --- imports

    def find_spec(self, name: str, path: Any = None, _target: Any = None) -> ModuleSpec | None:
        """Notes where a module is looked for, and leaves the finding to others."""
        if self._active:
            for entry in _strings(sys.path if path is None else path):
                watched = self._watched(entry or ".")
                if watched is not None:
                    self._lookups.setdefault(watched, set()).add(name.rpartition(".")[2])
        return None

    def _finder(self, path: str) -> FileFinder:
        """Path hook: folders of the user's get a loader that compiles and records the source it reads."""
        if self._watched(path) is None or not os.path.isdir(path):
            raise ImportError(path)
        recorder = self

        class Loader(importlib.machinery.SourceFileLoader):
            def get_code(self, fullname: str) -> CodeType:
                filename = self.get_filename(fullname)
                code: CodeType = self.source_to_code(recorder.read_source(filename), filename)
                return code

        extensions = (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES)
        return FileFinder(path, extensions, (Loader, importlib.machinery.SOURCE_SUFFIXES))


class RecordedVariables(dict[bytes, bytes]):
    """The dictionary behind `os.environ`, noting each variable that is asked for."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._original: dict[bytes, bytes] = dict(os.environ._data)  # type: ignore[attr-defined]
        self._asked: dict[str, str] = {}
        super().__init__(self._original)

    def seen(self) -> dict[str, str]:
        """Variable -> digest of the value that it had when loading began."""
        return {name: variable_digest(name, self._value(name)) for name in sorted(self._asked)}

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
        for key in self._original:
            self._note(key)
        return super().__iter__()


def _wrap_stat(recorder: Recorder) -> None:
    def wrap(function: Any) -> Any:
        def recorded(path: Any, *args: Any, **kwargs: Any) -> Any:
            recorder.record_existence(path)
            return function(path, *args, **kwargs)

        return recorded

    for name in ("stat", "lstat", "access"):
        setattr(os, name, wrap(getattr(os, name)))


def _content(path: str) -> str:
    try:
        return digest.of_file(Path(path)) if os.path.isfile(path) else ""
    except OSError:
        return ""


def _writes(mode: Any, flags: Any) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax") and "+" not in mode
    return isinstance(flags, int) and flags & os.O_ACCMODE == os.O_WRONLY


def _from_machinery(frame: FrameType | None) -> bool:
    """Whether the import system itself asks: lookups are recorded more exactly by `find_spec`."""
    return frame is not None and frame.f_code.co_filename.startswith(_MACHINERY)


def _first_word(argument: Any) -> str:
    if isinstance(argument, list | tuple):
        argument = argument[0] if argument else ""
    return os.fsdecode(argument) if isinstance(argument, str | bytes | os.PathLike) else str(argument)


def _strings(entries: Any) -> list[str]:
    return [entry for entry in entries if isinstance(entry, str)]
