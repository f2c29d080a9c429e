"""What an image is called, and the exact Dockerfile that makes it: a pure function of its build and the settings.

The tag stands for the whole content: the Dockerfile's text with its mirrors, the context, build arguments, platforms.
"""

from __future__ import annotations

from collections.abc import Mapping

from flyte_build import standins
from flyte_build.images.mirrors import redirected
from flyte_build.model import BuildSecret, ImageBuild, ImageSettings, Value
from flyte_build.state import digest

DOCKERFILE = "Dockerfile.flyte_build"
"""Name of the Dockerfile at the top of the context that is sent."""


class NamedBuild(Value, frozen=True):
    """An image that has to be there, under the name that it has, and how it is made if it is not."""

    repository: str
    """With the registry, if there is one."""
    tag: str
    dockerfile: str
    context: str
    platforms: tuple[str, ...]
    secrets: tuple[BuildSecret, ...]
    build_args: dict[str, str]
    base: str = ""
    """What the build's reference to a base stands for; empty: it has none."""

    @property
    def uri(self) -> str:
        return f"{self.repository}:{self.tag}"


def named(build: ImageBuild, settings: ImageSettings, base: str = "") -> NamedBuild:
    """An image as these settings name and make it. `base` is what its reference to a base stands for."""
    platforms = settings.platforms or build.platforms
    based = build.dockerfile.replace(standins.BASE_IMAGE, base)
    is_local = settings.builder == "local"
    mirrors, build_args = (settings.mirrors, settings.build_args) if is_local else ({}, {})
    text = redirected(based, mirrors, build_args)
    registry = (build.registry or settings.registry).rstrip("/")
    repository = f"{registry}/{build.name}" if registry else build.name
    untouched = text == build.dockerfile and not build_args and platforms == build.platforms
    tag = build.exact_tag if build.exact_tag and untouched else content_tag(build, text, platforms, build_args)
    return NamedBuild(
        repository=repository,
        tag=tag,
        dockerfile=text.replace(standins.IMAGE_URI, f"{repository}:{tag}"),
        context=build.context,
        platforms=platforms,
        secrets=build.secrets,
        build_args=build_args,
        base=base,
    )


def content_tag(build: ImageBuild, dockerfile: str, platforms: tuple[str, ...], build_args: Mapping[str, str]) -> str:
    """The tag of an image whose SDK tag may stand for something else. `dockerfile` has a stand-in for its own URI."""
    arguments = [part for name in sorted(build_args) for part in (name, build_args[name])]
    return digest.of_parts(
        "image", (dockerfile, build.context, digest.of_parts("arguments", arguments), *sorted(platforms))
    )
