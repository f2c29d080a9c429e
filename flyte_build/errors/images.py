"""Errors: container images."""

from __future__ import annotations

from typing import TypeVar

from flyte_build.errors.base import StepError, perhaps

_E = TypeVar("_E", bound="ImageError")


class ImageError(StepError):
    """An image cannot be planned. Where it is found, neither the environment nor its file is known yet."""

    environment: str = ""
    file: str = ""

    def of(self: _E, environment: str, file: str) -> _E:
        """The same, of an environment that a file declares."""
        return type(self)(**{**vars(self), "environment": environment, "file": file})

    @property
    def _whose(self) -> str:
        return f"{self.file}: the image of environment `{self.environment}`"


class ImageFileMissing(ImageError):
    """A layer names a file or folder that is not there, or not of that kind."""

    kind: str
    """`file` or `folder`."""
    path: str
    found: str = ""
    """What is there instead."""

    @property
    def message(self) -> str:
        problem = f"is a {self.found}" if self.found else "does not exist"
        return (
            f"{self._whose} needs the {self.kind} `{self.path}`, which {problem}; correct the path where the image is "
            "declared (relative ones start from the root)"
        )


class ImageFileUnusable(ImageError):
    """Something that belongs into a context cannot be put there."""

    path: str
    reason: str

    @property
    def message(self) -> str:
        return (
            f"{self._whose} cannot hold `{self.path}`: {self.reason}; mend it, or leave it out with a line in "
            ".dockerignore"
        )


class ImageSourceEmpty(ImageError):
    """Nothing of a folder that is copied is left."""

    path: str
    ignore_file: str = ""

    @property
    def message(self) -> str:
        if not self.ignore_file:
            return f"{self._whose} copies the folder `{self.path}`, which holds no files; put some there, or drop it"
        return (
            f"{self._whose} copies the folder `{self.path}`, of which `{self.ignore_file}` leaves out every file; "
            f"add a line `!PATH` there, or do not copy it"
        )


class ImageLayerInvalid(ImageError):
    """A layer cannot be said in a Dockerfile, or a file that it reads has no sense."""

    reason: str
    mend: str

    @property
    def message(self) -> str:
        return f"{self._whose} cannot be built as declared: {self.reason}; {self.mend}"


class ImageUnnamed(ImageError):
    """An image that has to be built has no name."""

    @property
    def message(self) -> str:
        return f"{self._whose} has layers or a registry, but no name; give it one with `.clone(name=...)`"


class ImageWithoutBase(ImageError):
    """`from_base` was given nothing."""

    @property
    def message(self) -> str:
        return (
            f"{self._whose} has no base; give `Image.from_base` a URI (one from an environment variable needs that "
            "variable in `pass_env`)"
        )


class ImageReferenceUnknown(StepError):
    """`Image.from_ref_name` names what the manifest does not."""

    environment: str
    file: str
    reference: str
    known: tuple[str, ...]

    @property
    def message(self) -> str:
        return (
            f"{self.file}: environment `{self.environment}` takes its image from the reference `{self.reference}`, "
            f'which is not in [images.refs]; add `{self.reference} = "URI"` there'
            f"{perhaps(self.reference, self.known)}"
        )


class ImageFilesChanged(StepError):
    """The code was loaded again for what an image is built from, and gave other files than when it was discovered."""

    target: str

    @property
    def message(self) -> str:
        return (
            f"[targets.{self.target}]: its code now gives an image other files than it gave where it was loaded "
            "before; run again, and it is loaded anew"
        )
