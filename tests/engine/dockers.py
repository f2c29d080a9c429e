"""Docker engines: the one that tests use, and an older one where the system has it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from tests.engine.daemons import Daemon
from tests.engine.folder import Folder, Programs
from tests.engine.network import Bridge
from tests.engine.shell import say, succeeds


class Docker:
    """An engine and the client settings to use it with."""

    def __init__(self, folder: Path, programs: Programs, path: str) -> None:
        """`path` is where it finds the programs that it runs."""
        self.daemon = Daemon(folder)
        self.programs = programs
        self.path = path
        self.bridge = Bridge(folder)
        self.config = folder / "client"

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to use it."""
        return {
            "DOCKER_HOST": f"unix://{self.daemon.folder / 'docker.sock'}",
            "DOCKER_CONFIG": str(self.config),
            "PATH": f"{self.programs.root / 'usr/bin'}:{os.environ['PATH']}",
        }

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.daemon.process:
            return
        say(f"starting {self.daemon.folder.name}")
        folder = self.daemon.folder
        folder.mkdir(exist_ok=True)
        self.bridge.make()
        settings = {
            "data-root": str(folder / "data"),
            "exec-root": str(folder / "exec"),
            "pidfile": str(folder / "dockerd.pid"),
            "hosts": [self.environment["DOCKER_HOST"]],
            "bridge": self.bridge.name,
            "iptables": False,
            "ip6tables": False,
            "ip-forward": False,
            "userland-proxy": False,
            # Only with images in containerd's store does the built-in builder take several platforms and cache exports.
            # Engines that are too old for it ignore this.
            "features": {"containerd-snapshotter": True, "buildkit": True},
        }
        config = folder / "daemon.json"
        config.write_bytes(msgspec.json.encode(settings))
        self._make_client_settings()
        environ = {**os.environ, "PATH": f"{self.path}:{os.environ['PATH']}"}
        if libraries := self.programs.libraries:
            environ["LD_LIBRARY_PATH"] = libraries
        # Of an engine that was killed; by now the id may be another process's.
        (folder / "dockerd.pid").unlink(missing_ok=True)
        client = {**os.environ, **self.environment}
        self.daemon.start(
            *(self.programs.dockerd, "--config-file", str(config)),
            environ=environ,
            ready=lambda: succeeds(self.programs.docker, "version", environ=client),
        )

    def stop(self) -> None:
        self.daemon.stop()
        self.bridge.remove()

    def _make_client_settings(self) -> None:
        self.config.mkdir(exist_ok=True)
        settings = {}
        if self.programs.buildx.exists():
            settings["cliPluginsExtraDirs"] = [str(self.programs.buildx.parent)]
        (self.config / "config.json").write_bytes(msgspec.json.encode(settings))


def newer(folder: Folder) -> Docker:
    """The engine that tests use."""
    return Docker(folder.root / "engine", folder.programs, folder.programs.path)


def older(folder: Folder) -> Docker | None:
    """One from before buildx, if the system has it. What it runs is the newer one's."""
    programs = folder.older_programs
    if not programs.done.exists():
        return None
    return Docker(folder.root / "older-engine", programs, f"{programs.path}:{folder.programs.path}")


def every(folder: Folder) -> list[Docker]:
    return [docker for docker in (newer(folder), older(folder)) if docker]
