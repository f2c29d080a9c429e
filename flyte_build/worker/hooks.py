"""What has no audit event, wrapped so that the recorder hears of it."""

from __future__ import annotations

import _posixsubprocess
import fcntl
import glob
import importlib
import os
import pathlib
import posix
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from flyte_build.worker import codes
from flyte_build.worker.places import is_users

if TYPE_CHECKING:
    from flyte_build.worker.record import Recorder

_F_GETPATH = 50
"""macOS: the path of a descriptor."""
_STARTED_BY = "_flyte_build_started_by"
_KIND_ONLY = {
    *("_isdir", "_joinrealpath", "_lexists", "exists", "is_block_device", "is_char_device", "is_dir", "is_fifo"),
    *("is_file", "is_mount", "is_socket", "is_symlink", "isdir", "isfile", "islink", "ismount", "lexists", "realpath"),
    *("resolve", "select_exists"),
}
"""Functions of Python's own that ask `stat` only what there is, and tell nothing of the content."""
_LINK_ONLY = {"is_symlink", "islink"}
"""Of those, the ones that ask whether it is a link."""
_COPYING = (getattr(pathlib, "_normal_accessor", None), getattr(glob, "_StringGlobber", None))
"""What has copies of functions of `os`: `pathlib` of Python 3.10, and what its globs go by in 3.13."""
_INTERPRETERS = importlib.import_module("_interpreters") if sys.version_info >= (3, 13) else None
"""What makes interpreters where there is no audit event for it."""


def wrap_loader(recorder: Recorder) -> None:
    """Have each source file of the user's compiled from what is recorded, whoever finds it."""
    original = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        watched = recorder.watched(path)
        if watched is None:
            return original(self, fullname)
        data, content = recorder.read_source(watched, fullname)
        if type(self).get_data is not SourceFileLoader.get_data:  # a loader that rewrites what it reads
            data = self.get_data(path)
        return codes.code_of(self, path, content, data)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]


def wrap_files(recorder: Recorder) -> None:
    def wrap(function: Any, record: Callable[..., None]) -> Any:
        def recorded(path: Any, *args: Any, dir_fd: int | None = None, **kwargs: Any) -> Any:
            if dir_fd is None:
                record(path, *args, **kwargs)
                return function(path, *args, **kwargs)
            record(_below(dir_fd, path), *args, **kwargs)
            return function(path, *args, dir_fd=dir_fd, **kwargs)

        return recorded

    def record_stat(path: Any, **_: Any) -> None:
        if not recorder.is_recording:
            return
        asker = _asker(sys._getframe(2))
        recorder.record_stat(path, content=asker not in _KIND_ONLY)
        if asker in _LINK_ONLY:
            recorder.record_link(path)

    wrapped = {name: wrap(getattr(os, name), record_stat) for name in ("stat", "lstat")}
    wrapped["access"] = wrap(os.access, recorder.record_access)
    wrapped["readlink"] = wrap(os.readlink, recorder.record_link)
    wrapped["open"] = _open_below(recorder, os.open)
    for name, function in wrapped.items():
        for supporting in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks, os.supports_effective_ids):
            if getattr(os, name) in supporting:
                supporting.add(function)
        _replace(name, function)


def _replace(name: str, function: Any) -> None:
    """Have a function stand for that of `os`, also where Python keeps a copy of it."""
    original = getattr(os, name)
    setattr(os, name, function)
    for holder in _COPYING:
        if getattr(holder, name, None) is original:  # of that name there may be another function
            setattr(holder, name, staticmethod(function))


def _open_below(recorder: Recorder, original: Any) -> Any:
    """The audit event of a file that is opened below an open folder has half of its path."""

    def opened(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is None:
            return int(original(path, flags, mode))
        recorder.record_open(_below(dir_fd, path), None, flags)
        with recorder.paused():
            return int(original(path, flags, mode, dir_fd=dir_fd))

    return opened


def _below(folder: int, path: Any) -> Any:
    return os.path.join(path_of_descriptor(folder), os.fsdecode(path))


def path_of_descriptor(descriptor: int) -> str:
    """Where an open file or folder is; empty when the system does not tell."""
    try:
        if sys.platform == "darwin":
            return fcntl.fcntl(descriptor, _F_GETPATH, bytes(1024)).rstrip(b"\0").decode()
        return posix.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


def wrap_processes(recorder: Recorder) -> None:
    """What starts a process without an audit event, and which line started a thread."""
    start, fork_exec = threading.Thread.start, _posixsubprocess.fork_exec

    def started(self: threading.Thread) -> None:
        setattr(self, _STARTED_BY, recorder.users_line(sys._getframe(1)))
        start(self)

    def executed(*args: Any) -> int:
        recorder.record_opaque("started a process", sys._getframe(1))
        return fork_exec(*args)

    threading.Thread.start = started  # type: ignore[method-assign]
    _posixsubprocess.fork_exec = executed
    if _INTERPRETERS is not None:
        _wrap_interpreters(_INTERPRETERS, recorder)


def _wrap_interpreters(module: Any, recorder: Recorder) -> None:
    create = module.create

    def created(*args: Any, **kwargs: Any) -> Any:
        recorder.record_opaque("started an interpreter", sys._getframe(1))
        return create(*args, **kwargs)

    module.create = created


def starting_line(thread: threading.Thread) -> str:
    """The user's line that started a thread in which no code of the user's may be at work; empty: none did."""
    return str(getattr(thread, _STARTED_BY, ""))


def list_backwards() -> None:
    """Have folders listed in the opposite order, which a file system may do as well."""
    listdir, scandir = os.listdir, os.scandir

    def listed(path: Any = None) -> list[Any]:
        return listdir(path)[::-1]

    def scanned(path: Any = None) -> _Entries:
        with scandir(path) as entries:
            return _Entries(list(entries)[::-1])

    _replace("listdir", listed)
    _replace("scandir", scanned)


class _Entries:
    """What `os.scandir` gives, in an order of our own."""

    def __init__(self, entries: list[os.DirEntry[Any]]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[os.DirEntry[Any]]:
        return self._entries

    def __next__(self) -> os.DirEntry[Any]:
        return next(self._entries)

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries = iter(())


def _asker(frame: FrameType) -> str:
    """The function of Python's own that asks `stat`; empty when that is the user's code, or a library's."""
    caller: FrameType | None = frame
    while caller is not None and caller.f_code.co_name in ("stat", "lstat") and _is_pathlib(caller):
        caller = caller.f_back
    if caller is None or is_users(caller.f_code.co_filename):
        return ""
    return caller.f_code.co_name


def _is_pathlib(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] == "pathlib"
