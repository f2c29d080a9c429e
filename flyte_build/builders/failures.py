"""What the output of a failed build means: BuildKit names the piece of work that failed, and the last line sums up."""

from __future__ import annotations

import re
from typing import Literal

from flyte_build import errors
from flyte_build.images.naming import NamedBuild
from flyte_build.images.references import parse

SHOWN_LINES = 30
"""Of a failed build's log."""
Doing = Literal["build", "push"]

_WORK = re.compile(r"^ > ([^\n]+?):?$\n?(.*?)(?:^-{6}$|\Z)", re.MULTILINE | re.DOTALL)
_EXITED = "did not complete successfully"
"""What BuildKit says when the command of a step ends with another status than 0."""
_PULL = re.compile(
    r"(?:\[internal\] load metadata for|resolve image config for|\[[^\]]*\] FROM|FROM)"
    r" (?:docker-image://)?([^\s@]+(?:@sha256:[0-9a-f]+)?)"
)
_PUSH = ("exporting to image", "exporting to registry", "pushing ", "exporting manifest", "[auth] ")
_FULL = "no space left on device"
_ONE_PLATFORM = ("multiple platforms feature is currently not supported", "multi-platform build is not supported")
_SUMMARY = re.compile(r"^(error:? *)?(failed to solve:? *)?(rpc error: code = \w+ desc = )?", re.IGNORECASE)
_SIGNED = re.compile(r"(https?://[^\s?\"]+)\?[^\s\"]*")


def failure(build: NamedBuild, output: str, *, doing: Doing, log: str) -> errors.StepError:
    """The error that a failed command's output means; when no known one, it shows the last lines."""
    uri, text = build.uri, output.lower()
    if any(words in text for words in _ONE_PLATFORM):
        reason = "the builder that is in use can do one platform at a time"
        return errors.SeveralPlatforms(uri=uri, platforms=build.platforms, reason=reason)
    work, said = failed_work(output)
    # What fails itself may have written into a tmpfs of its own; what BuildKit does, it does on the engine's disk.
    by_command = _EXITED in summary(output)
    if _FULL in (said.lower() if by_command else text):
        return errors.EngineDiskFull(uri=uri, step=work if by_command else "", log=log)
    if doing == "push" or work.startswith(_PUSH):
        return errors.PushRefused(uri=uri, registry=parse(uri).registry, reason=summary(output))
    if pull := _PULL.match(work):
        return errors.BaseImageMissing(uri=uri, base=pull[1], reason=summary(output))
    shown = "\n".join(f"  {line}" for line in output.rstrip().splitlines()[-SHOWN_LINES:])
    return errors.BuildFailed(uri=uri, step=work, output=shown, log=log)


def failed_work(output: str) -> tuple[str, str]:
    """The piece of work that BuildKit says has failed, such as `[2/3] RUN make`, and the last lines of what that said.

    Empty when it names none.
    """
    found = _WORK.findall(output)
    return found[-1] if found else ("", "")


def summary(output: str) -> str:
    """The line that sums up, without BuildKit's words for "it failed", and without the signature of an address."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.lower().startswith(("error", "denied"))), "")
    return _SIGNED.sub(r"\1", _SUMMARY.sub("", said or (lines[-1] if lines else "it said nothing"))).rstrip(".")
