"""Where the SDK's own tag of an image stands for its whole content, so that what `flyte build` pushed can be used.

The SDK hashes texts one after the other, without what is between them, the kind of a layer, the platforms, the version
of Python for a base that has none, or the files behind a Dockerfile. So its tag is exact only for images of which
nothing of that differs: with the usual platforms and Python, and

- with a tag that the SDK gives by name; or
- without layers, of another name or registry than the base; or
- with one layer: one package pinned to one version, or one requirements file of whole lines; without options for pip.
"""

from __future__ import annotations

import re

from flyte_build.images import layers
from flyte_build.images.layers import PipOptions, Recipe

_USUAL_PLATFORMS = (("linux/amd64",), ("linux/amd64", "linux/arm64"))
_PINNED = re.compile(r"[A-Za-z][A-Za-z0-9._-]*(\[[A-Za-z0-9._,-]+\])?==[A-Za-z0-9.!+_-]+")
"""It starts with a letter, since a digit would also continue the version in the base's tag."""


def sdk_tag_is_exact(recipe: Recipe, requirements: bytes = b"", *, python: str) -> bool:
    """Whether no other image can have the SDK's tag of this one.

    Args:
        requirements: Content of the requirements file, when a layer is one.
        python: Version of Python that the SDK takes when the code names none.
    """
    if recipe.platforms not in _USUAL_PLATFORMS or recipe.dockerfile:
        return False
    if recipe.is_preset:
        return True
    if not recipe.base or recipe.python != python:
        return False
    match recipe.layers:
        case ():
            return True
        case (layers.PipPackages(packages=(package,), options=options),):
            return options == PipOptions() and _PINNED.fullmatch(package) is not None
        case (layers.Requirements(options=options),):
            return options == PipOptions() and b"\n" in requirements
        case _:
            return False
