"""Errors: container images."""

from __future__ import annotations

from flyte_build.errors.base import StepError, perhaps


class ImageNeedsBuild(StepError):
    """An environment's image has to be built, which is not done yet."""

    environment: str
    file: str
    reason: str

    @property
    def message(self) -> str:
        return (
            f"{self.file}: the image of environment `{self.environment}` has to be built ({self.reason}), which "
            "flyte_build cannot do yet; build it with `flyte build`, then name it by its URI or with `[images.refs]`"
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
