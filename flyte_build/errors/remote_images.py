"""Errors: images that the backend builds."""

from __future__ import annotations

from flyte_build.errors.base import StepError

_LAST_LINES = 30


class RemoteBuilderMissing(StepError):
    """The control plane builds no images, as every open-source one."""

    endpoint: str

    @property
    def message(self) -> str:
        return (
            f"{self.endpoint}: this control plane builds no images: that needs Union's image builder; to build on "
            f'this machine, set `builder = "local"` and `registry` in {self.written("images", "builder")}'
        )


class RemoteBuilderIncompatible(StepError):
    """The control plane's builder takes other inputs than the installed SDK knows. `reason` is the SDK's."""

    endpoint: str
    task: str
    reason: str

    @property
    def message(self) -> str:
        return (
            f"{self.endpoint}: the image builder `{self.task}` takes other inputs than this version of `flyte` gives: "
            f"{' '.join(self.reason.split())}; install the version of `flyte` that this control plane wants"
        )


class RemoteBuildFailed(StepError):
    """The run that builds an image failed. `reason` is its own error message."""

    image: str
    url: str
    reason: str

    @property
    def message(self) -> str:
        lines = self.reason.strip().splitlines() or ["no reason given"]
        omitted = [f"({len(lines) - _LAST_LINES} lines before)"] if len(lines) > _LAST_LINES else []
        head = f"image `{self.image}`: the backend's build of it failed; correct what its log names: {self.url}"
        return "\n".join((head, *(f"  {line}".rstrip() for line in (*omitted, *lines[-_LAST_LINES:]))))


class RemoteBuildAborted(StepError):
    """Somebody stopped the run that builds an image. `reason` is theirs."""

    image: str
    url: str
    reason: str

    @property
    def message(self) -> str:
        reason = " ".join(self.reason.split()) or "no reason given"
        return f"image `{self.image}`: the backend's build of it was aborted: {reason}; run it again; it was {self.url}"


class RemoteBuildWithoutImage(StepError):
    """The run that builds an image ended well, and its outputs do not say where the image is."""

    image: str
    url: str

    @property
    def message(self) -> str:
        return (
            f"image `{self.image}`: the backend's build of it ended well but names no image; show {self.url} to who "
            f'runs the control plane, or set `builder = "local"` and `registry` in {self.written("images", "builder")}'
        )
