"""Where the engine keeps everything, and what a test has to know of one that runs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec

VARIABLE = "FLYTE_BUILD_ENGINE"

USER, PASSWORD = "tester", "correct-horse"
"""Of the registry that needs a login."""


class Unavailable(Exception):
    """No engine can be had here; the message says why and what to do."""


class Record(msgspec.Struct, frozen=True):
    """Running engines and registries, as tests find them."""

    environment: dict[str, str]
    """What a process needs to use the engine, and nothing of the user's own: merge it into `os.environ`."""
    older_environment: dict[str, str]
    """The same for a client without buildx and an engine of its age, which has no images but what it pulls from the
    registry; empty where the system is too new to have them."""
    registry: str
    """`localhost:PORT`: takes everything, and holds the base images under `ghcr/` and `hub/`."""
    login_registry: str
    """The same content, for `USER` with `PASSWORD` only."""
    readonly_registry: str
    """The same content, but refuses every push."""

    @property
    def mirrors(self) -> dict[str, str]:
        """What `[images.mirrors]` has to say for a build that reaches nothing outside."""
        return {"docker.io": f"{self.registry}/hub", "ghcr.io": f"{self.registry}/ghcr"}


class Programs:
    """Unpacked packages."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.done = root / "done"
        self.path = f"{root / 'usr/sbin'}:{root / 'usr/bin'}"
        self.buildx = root / "usr/libexec/docker/cli-plugins/docker-buildx"

    @property
    def docker(self) -> str:
        """The client."""
        return str(self.root / "usr/bin/docker")

    @property
    def dockerd(self) -> str:
        return str(self.root / "usr/sbin/dockerd")

    @property
    def registry(self) -> str:
        return str(self.root / "usr/bin/docker-registry")

    @property
    def libraries(self) -> str:
        """Where the shared libraries are that came with them."""
        return ":".join(
            str(path) for pattern in ("lib/*-linux-*", "usr/lib/*-linux-*") for path in self.root.glob(pattern)
        )


class Folder:
    """Paths under the engine's folder, which holds all of it: programs, images, sockets, logs."""

    def __init__(self, root: Path | None = None) -> None:
        default = Path(tempfile.gettempdir()) / "flyte-build-engine"
        self.root = (root or Path(os.environ.get(VARIABLE) or default)).resolve()
        self.programs = Programs(self.root / "programs")
        self.older_programs = Programs(self.root / "older-programs")
        self.made = self.root / "made"
        self.images = self.root / "images.json"
        self.record = self.root / "engine.json"
        self.lock = self.root / "lock"

    def make(self) -> None:
        """Make the folder; one that somebody else made, where all may write, is not to be run programs from."""
        self.root.mkdir(parents=True, exist_ok=True)
        if self.root.stat().st_uid != os.geteuid():
            raise Unavailable(f"{self.root} belongs to somebody else; set {VARIABLE} to another folder")

    def read_record(self) -> Record | None:
        try:
            return msgspec.json.decode(self.record.read_bytes(), type=Record)
        except FileNotFoundError:
            return None
