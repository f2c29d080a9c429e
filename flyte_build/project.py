"""One run over one repository: its manifest, its state folder, and what this run has looked at."""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from flyte_build import git
from flyte_build.errors import BuildError, StateUnwritable
from flyte_build.model import Progress, Target, Value
from flyte_build.state import digest, receipts
from flyte_build.state.files import FileIndex
from flyte_build.state.folder import NAME, StateFolder
from flyte_build.state.lock import Holder, lock_of
from flyte_build.state.receipts import Lost, Receipt, World
from flyte_build.state.sqlite_file import is_sealed, seal
from flyte_build.state.variables import BASE_VARIABLES, FIXED_VARIABLES

if TYPE_CHECKING:
    from flyte_build.backend import Backend
    from flyte_build.manifest import Manifest
    from flyte_build.state.garbage import Removed
    from flyte_build.store import Store

_T = TypeVar("_T", bound=Value)
_O = TypeVar("_O")

MANIFEST = "deploy.toml"
WAYS = ("profile", "project", "domain")
"""Words of the command line that deploy the same targets to another place."""

PATH_FILES = (".pth", ".egg-link")
MODULES = (".py", ".so", ".pyd")
_DISTRIBUTION = (".dist-info", ".egg-info")


def folders_of_installed() -> list[str]:
    """Where distributions are installed, in the order of the import path."""
    return [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]


def _marks_of_installed() -> dict[str, tuple[int, int]]:
    """What no installer can put back: inodes of all that is installed, and when that was last changed.

    Also of the folder itself, unless Python is about to change it, since it has not cached a module there yet.
    """
    marks: dict[str, tuple[int, int]] = {}
    for folder in folders_of_installed():
        with contextlib.suppress(OSError), _opened(folder) as handle:  # each name is then looked up in there alone
            found = {name: os.stat(name, dir_fd=handle, follow_symlinks=False) for name in os.listdir(handle)}
            if found.pop("__pycache__", None):
                found[""] = os.fstat(handle)
            marks |= {f"{folder}/{name}": (s.st_ino, s.st_ctime_ns) for name, s in found.items()}
    return marks


@contextlib.contextmanager
def _opened(folder: str) -> Iterator[int]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def _variant(manifest: Manifest, variables: Mapping[str, str]) -> str:
    """What makes this run another way of deploying the same targets: each way has receipts of its own."""
    file = Path(manifest.file).name
    named = {"manifest": file if file != MANIFEST else "", **{name: variables.get(name, "") for name in WAYS}}
    return ",".join(f"{name}={value}" for name, value in named.items() if value)


class Project:
    """What steps work on. Holds no results: those are in receipts."""

    def __init__(self, manifest: Manifest, environ: Mapping[str, str], variables: Mapping[str, str]) -> None:
        git.forget()
        self.manifest = manifest
        self.folder = Path(manifest.folder)
        self.state = StateFolder(self.folder / NAME, _variant(manifest, variables))
        self.index = FileIndex(self.state.index)
        self.environ = environ
        self.variables = variables
        self.show: Callable[[Progress], None] = lambda _: None
        """Told what a running step has to say of its progress. Called in any thread."""
        self.one_by_one = False
        """Whether nothing is to be done at the same time as something else."""
        self.worked = False
        """Whether this run has done something, and may have left behind what an earlier one made."""
        self.lock = lock_of(self.state.lock)
        self._resolved: dict[str, Path] = {}
        self._open: dict[tuple[int, str], Any] = {}
        self._finding = threading.RLock()
        self._opening: dict[str, threading.RLock] = {}
        self._installed: tuple[tuple[tuple[str, str], ...], str] | None = None
        self._worlds: dict[tuple[str, ...], World] = {}
        self._places: dict[str, str] = {}
        self._said: set[str] = set()
        self._marks: dict[str, tuple[int, int]] = {}
        self._receipts: dict[str, tuple[tuple[int, int], Receipt | Lost]] = {}

    @contextlib.contextmanager
    def working_alone(self, waiting: Callable[[Holder], None]) -> Iterator[None]:
        """Keep other runs out of the state folder; threads of this one share it.

        What was seen before waiting for another run is looked at again.

        Raises:
            StateBusy: another run is at work, and the command line says `wait=false`.
        """

        def look_again(holder: Holder) -> None:
            waiting(holder)
            self.index.save()
            self.index = FileIndex(self.state.index)
            for known in (self._worlds, self._resolved, self._places):
                known.clear()
            self._installed = None
            self._marks = {}
            for name in ("place_of_store", "lost_registrations"):
                self.__dict__.pop(name, None)

        with contextlib.suppress(StateUnwritable):  # the first step that writes there tells it
            self.state.create()
        self.lock.acquire(wait=self.variables.get("wait") != "false", waiting=look_again)
        try:
            yield
        finally:
            self.lock.release()

    def world(self, target: Target) -> World:
        known = self._worlds.get(target.pass_env)
        if known is None:
            known = World(self.folder, self.state.root, self.index, self.visible_environ(target))
            self._worlds[target.pass_env] = known
        return known

    def visible_environ(self, target: Target) -> dict[str, str]:
        """The environment variables that a target's code sees while it loads."""
        names = (*BASE_VARIABLES, *target.pass_env)
        passed = {name: self.environ[name] for name in names if name in self.environ}
        return {**passed, **FIXED_VARIABLES}

    def root(self, target: Target) -> Path:
        """The target's root folder, absolute and without links."""
        return self.resolved(target.root_dir)

    def resolved(self, path: str) -> Path:
        """A path of the manifest, absolute and without links."""
        if path not in self._resolved:
            self._resolved[path] = self._resolve(path)
        return self._resolved[path]

    def _resolve(self, path: str) -> Path:
        """Follows links; those of the folders above, which targets share, once."""
        above, name = os.path.split(path)
        if name not in ("", ".", "..") and not os.path.isabs(path):
            place = self.resolved(above or ".") / name
            if not os.path.islink(place):
                return place
        return (self.folder / path).resolve()

    def place(self, path: str) -> str:
        """Where a path of the manifest leads: relative to the manifest's folder if it is in there."""
        known = self._places.get(path)
        if known is None:
            place, folder = str(self.resolved(path)), str(self.resolved("."))
            known = place.removeprefix(os.path.join(folder, "")) if place != folder else "."
            self._places[path] = known
        return known

    @contextlib.contextmanager
    def naming_tables(self) -> Iterator[None]:
        """Errors of the block name the table that a setting is written in, be it that of a profile.

        Raises:
            BuildError: the same.
        """
        try:
            yield
        except BuildError as error:
            error.tell_of(self.manifest.elsewhere)
            raise

    def is_news(self, matter: str) -> bool:
        """Whether nobody has asked so in this run: for what is said once, with the first target that meets it."""
        with self._finding:
            news = matter not in self._said
            self._said.add(matter)
        return news

    @functools.cached_property
    def place_of_store(self) -> dict[str, str]:
        """What leads the store's client elsewhere under the same URL: setting -> value."""
        if self.manifest.store.url.startswith(("file://", "backend")):
            return {}  # a no-op spares the import
        from flyte_build.store.place import redirections

        return redirections(self.manifest.store, self.environ)

    @property
    def installed_distributions(self) -> str:
        """Digest of what `installed` tells."""
        return self._looked_up[1]

    @property
    def installed(self) -> tuple[tuple[str, str], ...]:
        """Entries of the folders of distributions, and digests of what lists their files, or of modules themselves."""
        return self._looked_up[0]

    @property
    def _looked_up(self) -> tuple[tuple[tuple[str, str], ...], str]:
        """Both, found once, though threads of the run ask at the same time."""
        with self._finding:
            if self._installed is None:
                self.mark_installed()
                pairs = tuple(pair for folder in folders_of_installed() for pair in self._installed_in(folder))
                self._installed = pairs, digest.of_parts("distributions", [part for pair in pairs for part in pair])
            return self._installed

    def mark_installed(self) -> None:
        """From here on `is_as_installed` says whether something was installed. To be called before any import of it."""
        self._marks = self._marks or _marks_of_installed()

    @property
    def is_as_installed(self) -> bool:
        """Whether nothing was installed or removed since `mark_installed`, not even to and fro."""
        return self._marks.items() <= _marks_of_installed().items()

    def _installed_in(self, folder: str) -> Iterator[tuple[str, str]]:
        for entry in self.index.listing(folder) or ():
            name = entry.partition("/")[0]
            if name.endswith(_DISTRIBUTION):
                yield entry, self.index.digest(f"{folder}/{name}/RECORD")
            elif name.endswith((*PATH_FILES, *MODULES)):  # a module there may belong to no distribution
                yield entry, self.index.digest(f"{folder}/{name}")
            elif name != "__pycache__":
                yield entry, ""

    @functools.cached_property
    def lost_registrations(self) -> dict[str, str]:
        """Receipt's path -> why, for those whose tasks the embedded control plane has no longer.

        Looked at when that is not as a run has left it. Found in order by a run that works alone, it counts as left so.
        """
        from flyte_build.backend import CONTROL_PLANE

        database = self.state.backend / CONTROL_PLANE
        if is_sealed(str(database)):
            return {}
        from flyte_build.backend.standing import Registered, missing

        wanted = {}
        for path in self.state.root.glob("targets/*/deploy.json"):
            receipt = receipts.load(path)
            if isinstance(receipt, Receipt) and receipt.trace.databases:
                with contextlib.suppress(msgspec.ValidationError):  # another version's, which is stale as it is
                    wanted[str(path)] = msgspec.json.decode(receipt.result, type=Registered)
        lost = missing(database, wanted)
        if not lost and self.lock.is_held:
            with contextlib.suppress(StateUnwritable):
                seal(str(database))
        return lost

    def registered_again(self, target: str) -> None:
        """Take back that a target's tasks are lost."""
        self.__dict__.get("lost_registrations", {}).pop(self.state.receipt_path(target, "deploy"), None)

    def receipt(self, target: str, step: str) -> Receipt | Lost:
        """The receipt of a step, read again only when it was written again."""
        path = self.state.receipt_path(target, step)
        known = self._receipts.get(path)
        try:
            found = os.stat(path)
        except OSError:
            return receipts.load(path)
        signature = (found.st_ino, found.st_mtime_ns)
        if known is None or known[0] != signature:
            known = self._receipts[path] = (signature, receipts.load(path))
        return known[1]

    def result(self, target: str, step: str, kind: type[_T]) -> _T:
        """What a step gave. It must have run: doit sees to the order.

        Raises:
            FileNotFoundError: another run, beside which this one plans, or `doit forget` has taken it away.
        """
        receipt = self.receipt(target, step)
        if isinstance(receipt, Lost):
            raise FileNotFoundError(errno.ENOENT, receipt.reason, self.state.receipt_path(target, step))
        return receipt.read(kind)

    def collect(self) -> Removed:
        """Remove what no receipt names any more, unless somebody else may be at work in the folder.

        What cannot be removed stays; so does everything where a receipt cannot be read.
        """
        from flyte_build.state import garbage  # a no-op spares the import

        removed = garbage.Removed()
        with self.lock.alone() as alone, contextlib.suppress(OSError):
            if alone:
                removed = garbage.remove(garbage.unnamed(self.state))
        self.index.drop(removed.paths)
        self.index.save()
        return removed

    def backend(self) -> Backend:
        """The control plane, opened at the first use and shared by all targets of this process."""
        return self.opened("backend", self._open_backend)

    def store(self) -> Store:
        """Where bundles go, likewise."""
        return self.opened("store", self._open_store)

    def close(self) -> None:
        """Let go of connections. They are opened again when they are needed."""
        self._open.pop((os.getpid(), "store"), None)
        workshop = self._open.pop((os.getpid(), "workshop"), None)
        if workshop is not None:
            workshop.close()
        backend = self._open.pop((os.getpid(), "backend"), None)
        if backend is not None:
            atexit.unregister(backend.close)
            backend.close()

    def _open_backend(self) -> Backend:
        from flyte_build.backend import open_backend

        opened = open_backend(self.manifest.backend, self.state.root)
        atexit.register(opened.close)
        return opened

    def _open_store(self) -> Store:
        from flyte_build.store import open_store

        settings = self.manifest.store
        return open_store(settings, self.backend() if settings.url == "backend" else None)

    def opened(self, name: str, open_: Callable[[], _O]) -> _O:
        """What is made at the first use and shared by all targets of this process."""
        # A forked doit worker must not share its parent's connections; threads do.
        key = (os.getpid(), name)
        with self._finding:
            opening = self._opening.setdefault(name, threading.RLock())
        with opening:  # a login that waits for somebody keeps only those waiting who need it
            if key not in self._open:
                self._open[key] = open_()
            opened: _O = self._open[key]
        return opened
