"""Which Docker client and engine there are to build with."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping

from flyte_build import errors
from flyte_build.images.naming import NamedBuild
from flyte_build.model import Value

FIRST_WITHOUT_BUILDKIT = 23
"""The major version from which on the client leaves BuildKit to buildx."""


class Engine(Value, frozen=True):
    """What there is to build with."""

    command: str
    """Path of the `docker` command."""
    buildx: bool


class Engines:
    """Looks for an engine once, however many images are built with it. Threads may share it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._looking = threading.Lock()
        self._found: Engine | None = None

    def find(self, build: NamedBuild) -> Engine:
        """The engine that answers, and the first client on the PATH that can build.

        Raises:
            StepError: there is none, it does not answer, or nothing can build for these platforms.
        """
        with self._looking:
            self._found = self._found or _find(build.uri, self._environ)
        if len(build.platforms) > 1 and not self._found.buildx:
            reason = "there is no buildx, without which an image can be built for one platform only"
            raise errors.SeveralPlatforms(uri=build.uri, platforms=build.platforms, reason=reason)
        return self._found


def _find(uri: str, environ: Mapping[str, str]) -> Engine:
    clients = list(_clients(environ))
    if not clients:
        raise errors.DockerMissing(uri=uri)
    asked = _ask(environ, clients[0], "version", "--format={{.Server.Version}}")
    if asked.returncode:
        reason = asked.stderr.strip().splitlines()[-1] if asked.stderr.strip() else "it said nothing"
        kind = errors.EngineForbidden if "permission denied" in reason.lower() else errors.EngineUnreachable
        raise kind(uri=uri, reason=reason.rstrip("."))
    for client in clients:
        if _ask(environ, client, "buildx", "version").returncode == 0:
            return Engine(command=client, buildx=True)
    older = next((client for client in clients if _has_buildkit(client, environ)), None)
    if older is None:
        raise errors.BuildxMissing(uri=uri, command=clients[0])
    return Engine(command=older, buildx=False)


def remove(uri: str, environ: Mapping[str, str]) -> bool:
    """Remove an image from the engine. Gives whether it is not there now: an engine that does not answer keeps it."""
    client = next(_clients(environ), None)
    if client is None:
        return False
    asked = _ask(environ, client, "image", "rm", uri)
    return asked.returncode == 0 or "no such image" in asked.stderr.lower()


def _clients(environ: Mapping[str, str]) -> Iterator[str]:
    """Every `docker` on the PATH, in its order."""
    seen: set[str] = set()
    for folder in environ.get("PATH", "").split(os.pathsep):
        found = shutil.which("docker", path=folder) if folder else None
        if found is not None and (real := os.path.realpath(found)) not in seen:
            seen.add(real)
            yield found


def _has_buildkit(client: str, environ: Mapping[str, str]) -> bool:
    """Whether a client without buildx can build with BuildKit by itself."""
    major = _ask(environ, client, "version", "--format={{.Client.Version}}").stdout.partition(".")[0]
    return major.isdecimal() and int(major) < FIRST_WITHOUT_BUILDKIT


def _ask(environ: Mapping[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=dict(environ), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
