"""The local builder: BuildKit through buildx, or through `docker build` where there is no buildx.

The context goes over standard input as one tar, with the Dockerfile in front; so nothing is unpacked here, and what is
sent is what was hashed. A secret's value goes from this process's environment or its file to BuildKit and nowhere else.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tarfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from flyte_build import errors
from flyte_build.builders.engine import Engine
from flyte_build.builders.failures import Doing, failure
from flyte_build.children import Children
from flyte_build.images.naming import DOCKERFILE, NamedBuild
from flyte_build.model import BuildSecret, Value

SECRETS_FOLDER = "/etc/secrets"
"""Where the SDK's builder looks for secrets that are not in the environment."""

_BLOCK = 512
Show = Callable[[str], None]
"""Told each line of a build as it comes."""


class Request(Value, frozen=True):
    """One build, complete."""

    build: NamedBuild
    context: str
    """Path of the context's tar; empty: there are no files."""
    log: str
    """Path of the log, for messages and for people."""
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()


# --- decisions


def build_command(engine: Engine, request: Request, secrets: tuple[str, ...]) -> list[str]:
    """The command that builds, and with buildx also pushes. The context is its standard input."""
    build = request.build
    options = [f"--file={DOCKERFILE}", f"--tag={build.uri}", "--progress=plain"]
    options += [f"--secret={secret}" for secret in secrets]
    options += [f"--build-arg={name}={build.build_args[name]}" for name in sorted(build.build_args)]
    options += [f"--cache-from={place}" for place in request.cache_from]
    if engine.buildx:
        options += [f"--cache-to={place}" for place in request.cache_to]
        options += [f"--platform={','.join(build.platforms)}", "--push"]
        return [engine.command, "buildx", "build", *options, "-"]
    return [engine.command, "build", *options, f"--platform={build.platforms[0]}", "-"]


def secret_options(build: NamedBuild, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Where BuildKit finds each secret of a build.

    Raises:
        BuildSecretMissing: one is nowhere.
    """
    return tuple(_secret_option(secret, build.uri, environ) for secret in build.secrets)


def _secret_option(secret: BuildSecret, uri: str, environ: Mapping[str, str]) -> str:
    """An environment variable, else a file, by the SDK's names."""
    name = "_".join(filter(None, (secret.group, secret.key)))
    if environ.get(name.upper()):
        return f"id={secret.id},env={name.upper()}"
    file = f"{SECRETS_FOLDER}/{name}"
    if not (os.path.isfile(file) and os.access(file, os.R_OK)):
        raise errors.BuildSecretMissing(uri=uri, variable=name.upper(), file=file)
    return f"id={secret.id},src={file}"


# --- effects


@dataclass(frozen=True)
class Site:
    """Where a build's commands run."""

    engine: Engine
    environ: Mapping[str, str]
    children: Children


def build_and_push(site: Site, request: Request, show: Show) -> None:
    """Build an image and push it.

    Raises:
        StepError: it cannot be built or pushed.
    """
    engine, environ = site.engine, site.environ
    build = request.build
    options = secret_options(build, environ)
    hidden = sorted(_secret_values(options, environ), key=len, reverse=True)  # one may hold another
    log = Path(request.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8", buffering=1) as file:  # whole lines, so that it can be followed

        def tell(line: str) -> str:
            for value in hidden:
                line = line.replace(value, "***")
            file.write(f"{line}\n")
            show(line)
            return line

        commands: list[tuple[Doing, list[str]]] = [("build", build_command(engine, request, options))]
        if not engine.buildx:
            commands.append(("push", [engine.command, "push", build.uri]))
        for doing, command in commands:
            sent = _sent(request) if doing == "build" else iter(())
            output = _run(site, command, sent, tell)
            if output is not None:
                raise failure(build, output, doing=doing, log=request.log)


def _sent(request: Request) -> Iterator[bytes]:
    """What goes to the engine: the Dockerfile as the first member of the tar, then the context's own."""
    text = request.build.dockerfile.encode()
    info = tarfile.TarInfo(DOCKERFILE)
    info.size, info.mode = len(text), 0o644
    yield info.tobuf(tarfile.PAX_FORMAT) + text + bytes(-len(text) % _BLOCK)
    if not request.context:
        yield bytes(2 * _BLOCK)
        return
    with open(request.context, "rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk


def _run(site: Site, command: list[str], sent: Iterator[bytes], tell: Callable[[str], str]) -> str | None:
    """Run a command with its standard input. Gives what it said if it failed, None if not.

    `tell` is told each line as it comes, and gives it without secrets.
    """
    environ = {**site.environ, "DOCKER_BUILDKIT": "1"}
    with site.children.started(command, environ=environ, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        feeder = threading.Thread(target=_feed, args=(process.stdin, sent), daemon=True)
        feeder.start()
        lines: deque[str] = deque(maxlen=1000)
        for raw in process.stdout:
            lines.append(tell(raw.decode(errors="replace").rstrip()))
        feeder.join()
        return "\n".join(lines) if process.wait() else None


def _feed(pipe: BinaryIO, sent: Iterator[bytes]) -> None:
    try:
        for chunk in sent:
            pipe.write(chunk)
    except BrokenPipeError:
        pass  # the command has ended early, and says itself why
    finally:
        with contextlib.suppress(BrokenPipeError):
            pipe.close()


def _secret_values(options: tuple[str, ...], environ: Mapping[str, str]) -> Iterator[str]:
    for option in options:
        _, _, place = option.partition(",")
        kind, _, name = place.partition("=")
        value = environ[name] if kind == "env" else Path(name).read_text(errors="replace")
        yield from filter(None, map(str.strip, value.splitlines()))
