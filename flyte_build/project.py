"""One run over one repository: its manifest, its state folder, and what this run has looked at."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flyte_build.model import Target, Value
from flyte_build.state import receipts
from flyte_build.state.files import FileIndex
from flyte_build.state.folder import NAME, StateFolder
from flyte_build.state.receipts import Lost, Receipt, World

if TYPE_CHECKING:
    from flyte_build.backend import Backend
    from flyte_build.manifest import Manifest
    from flyte_build.store import Store

_T = TypeVar("_T", bound=Value)
_O = TypeVar("_O")

BASE_VARIABLES = (
    *("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "PYTHONPATH", "REQUESTS_CA_BUNDLE"),
    *("SSL_CERT_FILE", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV"),
)
"""Environment variables that code sees while it loads, besides `pass_env`: what Python itself needs."""
FIXED_VARIABLES = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}
"""Set in the discovery process, so that the order of a set is the same in every run."""


class Project:
    """What steps work on. Holds no results: those are in receipts."""

    def __init__(self, manifest: Manifest, environ: Mapping[str, str], variables: Mapping[str, str]) -> None:
        self.manifest = manifest
        self.folder = Path(manifest.folder)
        self.state = StateFolder(self.folder / NAME)
        self.index = FileIndex(self.state.index)
        self.environ = environ
        self.variables = variables
        self._open: dict[tuple[int, str], Any] = {}
        self._receipts: dict[Path, tuple[tuple[int, int], Receipt | Lost]] = {}

    def world(self, target: Target) -> World:
        return World(self.folder, self.state.root, self.index, self.visible_environ(target))

    def visible_environ(self, target: Target) -> dict[str, str]:
        """The environment variables that a target's code sees while it loads."""
        names = (*BASE_VARIABLES, *target.pass_env)
        passed = {name: self.environ[name] for name in names if name in self.environ}
        return {**passed, **FIXED_VARIABLES}

    def root(self, target: Target) -> Path:
        """The target's root folder, absolute and without links."""
        return (self.folder / target.root_dir).resolve()

    def receipt(self, target: str, step: str) -> Receipt | Lost:
        """The receipt of a step, read again only when it was written again."""
        path = self.state.receipt(target, step)
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return receipts.load(path)
        signature = (found.st_ino, found.st_mtime_ns)
        known = self._receipts.get(path)
        if known is None or known[0] != signature:
            known = self._receipts[path] = (signature, receipts.load(path))
        return known[1]

    def result(self, target: str, step: str, kind: type[_T]) -> _T:
        """What a step gave. It must have run: doit sees to the order."""
        receipt = self.receipt(target, step)
        assert isinstance(receipt, Receipt), f"step {step} of {target} has no receipt: {receipt.reason}"
        return receipt.read(kind)

    def backend(self) -> Backend:
        """The control plane, opened at the first use and shared by all targets of this process."""
        return self._opened("backend", self._open_backend)

    def store(self) -> Store:
        """Where bundles go, likewise."""
        return self._opened("store", self._open_store)

    def _open_backend(self) -> Backend:
        from flyte_build.backend import open_backend

        opened = open_backend(self.manifest.backend, self.state.root)
        atexit.register(opened.close)
        return opened

    def _open_store(self) -> Store:
        from flyte_build.store import open_store

        settings = self.manifest.store
        return open_store(settings, self.backend() if settings.url == "backend" else None)

    def _opened(self, name: str, open_: Callable[[], _O]) -> _O:
        # A forked doit worker must not share its parent's connections.
        key = (os.getpid(), name)
        if key not in self._open:
            self._open[key] = open_()
        opened: _O = self._open[key]
        return opened
