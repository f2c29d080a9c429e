"""Stand-ins: the texts that hold the place of what a draft does not know yet.

The discovery worker serializes tasks with stand-ins; binding replaces them. They are plain text that no project
writes, so that they pass unchanged through protobuf messages, structs and command lines.
"""

from __future__ import annotations

VERSION = "[[flyte_build:version]]"
BUNDLE = "[[flyte_build:bundle]]"
BUNDLE_VERSION = "[[flyte_build:bundle-version]]"
PROJECT = "[[flyte_build:project]]"
DOMAIN = "[[flyte_build:domain]]"
ORG = "[[flyte_build:org]]"
IMAGE_CACHE = "[[flyte_build:image-cache]]"
IMAGE_URI = "[[flyte_build:image-uri]]"
"""In a Dockerfile: the URI of the image that it builds."""
BASE_IMAGE = "[[flyte_build:base-image]]"
"""In a Dockerfile: the base that `Image.from_ref_name` refers to."""
MARK = "[[flyte_build:"


def image(environment: str) -> str:
    """The stand-in for the image of one environment."""
    return f"[[flyte_build:image:{environment}]]"
