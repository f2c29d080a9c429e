"""The local builder: BuildKit through buildx, or through `docker build` where there is no buildx.

The context goes over standard input as one tar, with the Dockerfile in front; so nothing is unpacked here, and what is
sent is what was hashed. A secret's value goes from this process's environment or its file to BuildKit and nowhere else.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tarfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Literal

from flyte_build import errors
from flyte_build.images.naming import DOCKERFILE, NamedBuild
from flyte_build.images.references import parse
from flyte_build.model import BuildSecret, Value

SHOWN_LINES = 30
"""Of a failed build's log."""
SECRETS_FOLDER = "/etc/secrets"
"""Where the SDK's builder looks for secrets that are not in the environment."""

_BLOCK = 512
_FAILED_STEP = re.compile(r"^ > (\[.*\].*?):?$", re.MULTILINE)
_UNPULLABLE = re.compile(
    r"(?:failed to (?:resolve source metadata|load cache key|do request|copy)[^:]*? for|pull access denied for"
    r"|failed to authorize for) +([^\s:,]+(?::[^\s:,/]+)*(?:@sha256:\w+)?)"
)
_NOT_PULLED = ("not found", "pull access denied", "failed to resolve source metadata", "manifest unknown")
_FULL = "no space left on device"
_NO_SUCH_DRIVER = ("multiple platforms feature is currently not supported", "multi-platform build is not supported")
_PUSHING = ("failed to push", "error from registry", "pushing", "denied", "unauthorized", "authorization")

Show = Callable[[str], None]
"""Told each line of a build as it comes."""


class Engine(Value, frozen=True):
    """What there is to build with."""

    command: str
    """Path of the `docker` command."""
    buildx: bool


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


def secret_option(secret: BuildSecret, uri: str, environ: Mapping[str, str]) -> str:
    """Where BuildKit finds a secret: an environment variable, else a file, by the SDK's names.

    Raises:
        BuildSecretMissing: it is in neither.
    """
    name = "_".join(filter(None, (secret.group, secret.key)))
    if environ.get(name.upper()):
        return f"id={secret.id},env={name.upper()}"
    file = f"{SECRETS_FOLDER}/{name}"
    if not os.path.exists(file):
        raise errors.BuildSecretMissing(uri=uri, variable=name.upper(), file=file)
    return f"id={secret.id},src={file}"


def failure(request: Request, output: str, doing: Literal["build", "push"]) -> errors.StepError:
    """The error that a failed build's output means. The first known cause counts; else its last lines are shown."""
    uri, text = request.build.uri, output.lower()
    if _FULL in text:
        return errors.EngineDiskFull(uri=uri)
    if any(words in text for words in _NO_SUCH_DRIVER):
        reason = "the builder that is in use can do one platform at a time"
        return errors.SeveralPlatforms(uri=uri, platforms=request.build.platforms, reason=reason)
    if doing == "push" or _is_push(text, uri):
        return errors.PushRefused(uri=uri, registry=parse(uri).registry, reason=_last_error(output))
    step = "" if (found := _FAILED_STEP.search(output)) is None else found[1]
    missing = _UNPULLABLE.search(output)
    if missing and any(words in text for words in _NOT_PULLED) and "RUN" not in step:
        return errors.BaseImageMissing(uri=uri, base=missing[1].strip('"'), reason=_last_error(output))
    shown = "\n".join(f"  {line}" for line in output.rstrip().splitlines()[-SHOWN_LINES:])
    return errors.BuildFailed(uri=uri, step=step, output=shown, log=request.log)


def _is_push(text: str, uri: str) -> bool:
    last = _last_error(text)
    return ("failed to push" in last or "exporting to image" in text.rpartition(" > ")[2]) and (
        parse(uri).repository.lower() in last or "push" in last
    )


def _last_error(output: str) -> str:
    """The line that sums up, without BuildKit's words for "it failed"."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.lower().startswith("error")), lines[-1] if lines else "")
    return re.sub(r"^(error:? *)?(failed to solve:? *)?(rpc error: code = \w+ desc = )?", "", said, flags=re.IGNORECASE)


# --- effects


def find_engine(build: NamedBuild) -> Engine:
    """The engine that is there.

    Raises:
        StepError: there is none, it does not answer, or it cannot build for these platforms.
    """
    command = shutil.which("docker")
    if command is None:
        raise errors.DockerMissing(uri=build.uri)
    asked = _ask(command, "version", "--format={{.Server.Version}}")
    if asked.returncode:
        reason = asked.stderr.strip().splitlines()[-1] if asked.stderr.strip() else "it said nothing"
        kind = errors.EngineForbidden if "permission denied" in reason.lower() else errors.EngineUnreachable
        raise kind(uri=build.uri, reason=reason.rstrip("."))
    engine = Engine(command=command, buildx=_ask(command, "buildx", "version").returncode == 0)
    if not engine.buildx and len(build.platforms) > 1:
        reason = "there is no buildx, without which an image can be built for one platform only"
        raise errors.SeveralPlatforms(uri=build.uri, platforms=build.platforms, reason=reason)
    return engine


def build_and_push(engine: Engine, request: Request, environ: Mapping[str, str], show: Show) -> None:
    """Build an image and push it.

    Raises:
        StepError: it cannot be built or pushed.
    """
    build = request.build
    options = tuple(secret_option(secret, build.uri, environ) for secret in build.secrets)
    hidden = tuple(_secret_values(options, environ))
    log = Path(request.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:

        def note(line: str) -> None:
            for value in hidden:
                line = line.replace(value, "***")
            file.write(f"{line}\n")
            show(line)

        commands: list[tuple[Literal["build", "push"], list[str]]] = [
            ("build", build_command(engine, request, options))
        ]
        if not engine.buildx:
            commands.append(("push", [engine.command, "push", build.uri]))
        for doing, command in commands:
            output = _run(command, _sent(request) if doing == "build" else iter(()), environ, note)
            if output is not None:
                raise failure(request, output, doing)


def remove(uri: str) -> bool:
    """Remove an image from the engine, if it is there. Gives whether it was."""
    command = shutil.which("docker")
    return command is not None and _ask(command, "image", "rm", uri).returncode == 0


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


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


def _run(command: list[str], sent: Iterator[bytes], environ: Mapping[str, str], note: Show) -> str | None:
    """Run a command with its standard input. Gives what it said if it failed, None if not."""
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**environ, "DOCKER_BUILDKIT": "1"},
        start_new_session=True,  # Ctrl-C ends it through us, once
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        feeder = threading.Thread(target=_feed, args=(process.stdin, sent), daemon=True)
        feeder.start()
        lines: deque[str] = deque(maxlen=1000)
        try:
            for raw in process.stdout:
                line = raw.decode(errors="replace").rstrip()
                lines.append(line)
                note(line)
        except BaseException:
            process.terminate()
            raise
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
        yield from (line for line in value.splitlines() if line.strip())
