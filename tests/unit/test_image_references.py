"""References to images, and the mirrors that they are taken from."""

from __future__ import annotations

import pytest

from flyte_build.images.mirrors import redirected
from flyte_build.images.references import Reference, mirrored, parse

MIRRORS = {"docker.io": "localhost:5000/hub", "ghcr.io": "localhost:5000/ghcr", "ghcr.io/acme": "acme.example/all/"}


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("python", Reference(registry="docker.io", repository="library/python")),
        ("python:3.12-slim", Reference(registry="docker.io", repository="library/python", tag="3.12-slim")),
        ("acme/app:1", Reference(registry="docker.io", repository="acme/app", tag="1")),
        ("index.docker.io/acme/app", Reference(registry="docker.io", repository="acme/app")),
        ("localhost/app", Reference(registry="localhost", repository="app")),
        ("localhost:5000/a/b:v1", Reference(registry="localhost:5000", repository="a/b", tag="v1")),
        ("ghcr.io/acme/app@sha256:ab", Reference(registry="ghcr.io", repository="acme/app", digest="sha256:ab")),
        ("[::1]:5000/app:1", Reference(registry="[::1]:5000", repository="app", tag="1")),
    ],
)
def test_a_reference_is_read_as_docker_reads_it(text: str, reference: Reference) -> None:
    assert parse(text) == reference


def test_a_manifest_is_asked_for_by_digest_then_tag_then_latest() -> None:
    assert [parse(text).manifest for text in ("a:1@sha256:ab", "a:1", "a")] == ["sha256:ab", "1", "latest"]


@pytest.mark.parametrize(
    ("image", "place"),
    [
        ("python:3.12", "localhost:5000/hub/library/python:3.12"),
        ("docker.io/acme/app", "localhost:5000/hub/acme/app"),
        ("ghcr.io/astral-sh/uv:1", "localhost:5000/ghcr/astral-sh/uv:1"),
        ("ghcr.io/acme/app:1@sha256:ab", "acme.example/all/app:1@sha256:ab"),
        ("ghcr.io/acmeish/app:1", "localhost:5000/ghcr/acmeish/app:1"),
        ("quay.io/acme/app:1", "quay.io/acme/app:1"),
        ("localhost:5000/ghcr/app:1", "localhost:5000/ghcr/app:1"),
    ],
)
def test_the_longest_mirror_that_fits_counts(image: str, place: str) -> None:
    assert mirrored(image, MIRRORS) == place


DOCKERFILE = r"""# syntax=docker/dockerfile:1.10
# escape=\
ARG V=3.11
FROM ghcr.io/astral-sh/uv:0.1 AS uv
FROM --platform=$BUILDPLATFORM python:${V}-slim AS base

# FROM commented:1
COPY --from=uv /uv /usr/bin/uv
COPY --chown=a:b --from=ghcr.io/acme/tool:1 \
  # a comment between
  /a /b
RUN --mount=type=cache,target=/x --mount=type=bind,from=alpine,target=/y \
   echo $((1<<2)) --from=no:2
RUN <<"END"
FROM no:3
COPY --from=no:4 /a /b
END
COPY --from=0 /a /b
FROM scratch
FROM base
"""


def test_every_image_that_a_dockerfile_pulls_is_taken_from_its_mirror() -> None:
    changed = [
        (old, new)
        for old, new in zip(DOCKERFILE.splitlines(), redirected(DOCKERFILE, MIRRORS, {}).splitlines(), strict=True)
        if old != new
    ]
    assert [new for _, new in changed] == [
        "# syntax=localhost:5000/hub/docker/dockerfile:1.10",
        "FROM localhost:5000/ghcr/astral-sh/uv:0.1 AS uv",
        "FROM --platform=$BUILDPLATFORM localhost:5000/hub/library/python:3.11-slim AS base",
        r"COPY --chown=a:b --from=acme.example/all/tool:1 \ "[:-1],
        r"RUN --mount=type=cache,target=/x --mount=type=bind,from=localhost:5000/hub/library/alpine,target=/y \ "[:-1],
    ]


def test_a_dockerfile_is_left_alone_where_no_mirror_fits() -> None:
    assert redirected(DOCKERFILE, {}, {}) == DOCKERFILE
    assert redirected(DOCKERFILE, {"quay.io": "localhost:5000/quay"}, {}) == DOCKERFILE


@pytest.mark.parametrize(
    "text", ["", "\n", "FROM", "COPY", "RUN <<EOF\nno end", "FROM a\nRUN \\", "# only a comment", "FROM $UNSET"]
)
def test_a_dockerfile_that_is_none_is_left_for_the_builder_to_refuse(text: str) -> None:
    assert redirected(text, {"quay.io": "x"}, {}) == text


def test_syntax_after_an_instruction_is_a_comment() -> None:
    text = "FROM quay.io/a\n# syntax=docker/dockerfile:1\n"
    assert redirected(text, {"docker.io": "localhost:5000/hub"}, {}) == text


def test_a_build_argument_counts_in_the_name_of_a_base() -> None:
    changed = redirected(DOCKERFILE, MIRRORS, {"V": "3.9"})
    assert "FROM --platform=$BUILDPLATFORM localhost:5000/hub/library/python:3.9-slim AS base\n" in changed
