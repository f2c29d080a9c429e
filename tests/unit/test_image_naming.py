"""What an image is called: a tag that stands for its whole content."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from flyte_build import standins
from flyte_build.images.naming import named
from flyte_build.model import BuildSecret, ImageBuild, ImageSettings

BUILD = ImageBuild(
    name="fraud",
    dockerfile=f"FROM python:3.12\nENV _F_IMG_ID={standins.IMAGE_URI}\n",
    platforms=("linux/amd64",),
    context="aa",
)
SETTINGS = ImageSettings(registry="localhost:5000")


@pytest.mark.parametrize(
    "changed",
    [
        {"dockerfile": "FROM python:3.13\n"},
        {"context": "ab"},
        {"context": ""},
        {"platforms": ("linux/amd64", "linux/arm64")},
    ],
    ids=str,
)
def test_what_is_in_an_image_changes_its_tag(changed: dict[str, Any]) -> None:
    assert named(replace(BUILD, **changed), SETTINGS).tag != named(BUILD, SETTINGS).tag


@pytest.mark.parametrize(
    "changed",
    [
        {"build_args": {"A": "1"}},
        {"mirrors": {"docker.io": "localhost:5000/hub"}},
        {"platforms": ("linux/arm64",)},
    ],
    ids=str,
)
def test_settings_that_make_another_image_change_its_tag(changed: dict[str, Any]) -> None:
    assert named(BUILD, replace(SETTINGS, **changed)).tag != named(BUILD, SETTINGS).tag


@pytest.mark.parametrize(
    "changed",
    [
        {"mirrors": {"quay.io": "localhost:5000/quay"}},
        {"cache_from": ("type=registry,ref=localhost:5000/cache",)},
        {"pin": True},
        {"registry": "other.example"},
        {"platforms": ("linux/amd64",)},
    ],
    ids=str,
)
def test_settings_that_make_the_same_image_keep_its_tag(changed: dict[str, Any]) -> None:
    assert named(BUILD, replace(SETTINGS, **changed)).tag == named(BUILD, SETTINGS).tag


def test_build_arguments_cannot_run_into_each_other() -> None:
    one = replace(SETTINGS, build_args={"A": "1", "B": "2"})
    other = replace(SETTINGS, build_args={"A": "1B", "2": ""})
    assert named(BUILD, one).tag != named(BUILD, other).tag


def test_the_same_platforms_in_another_order_are_the_same_image() -> None:
    one = replace(BUILD, platforms=("linux/amd64", "linux/arm64"))
    assert named(one, SETTINGS).tag == named(replace(one, platforms=one.platforms[::-1]), SETTINGS).tag


def test_the_sdk_s_own_tag_is_kept_where_it_is_exact() -> None:
    exact = replace(BUILD, exact_tag="0123")
    assert named(exact, SETTINGS).uri == "localhost:5000/fraud:0123"
    for changed in ({"build_args": {"A": "1"}}, {"mirrors": {"docker.io": "x"}}, {"platforms": ("linux/arm64",)}):
        assert named(exact, replace(SETTINGS, **changed)).tag != "0123"


def test_the_registry_of_the_code_counts_more_than_that_of_the_manifest() -> None:
    assert named(replace(BUILD, registry="ghcr.io/acme/"), SETTINGS).repository == "ghcr.io/acme/fraud"


def test_an_image_knows_its_own_uri() -> None:
    build = named(BUILD, SETTINGS)
    assert build.dockerfile.endswith(f"ENV _F_IMG_ID={build.uri}\n")


def test_a_base_that_is_a_reference_is_filled_in_and_counts() -> None:
    build = replace(BUILD, dockerfile=f"FROM {standins.BASE_IMAGE}\n", base_reference="base")
    assert named(build, SETTINGS, "ghcr.io/acme/base:1").dockerfile == "FROM ghcr.io/acme/base:1\n"
    assert named(build, SETTINGS, "ghcr.io/acme/base:1").tag != named(build, SETTINGS, "ghcr.io/acme/base:2").tag


def test_a_base_that_is_a_reference_is_taken_from_its_mirror() -> None:
    build = replace(BUILD, dockerfile=f"FROM {standins.BASE_IMAGE}\n", base_reference="base")
    settings = replace(SETTINGS, mirrors={"ghcr.io": "localhost:5000/ghcr"})
    assert named(build, settings, "ghcr.io/acme/base:1").dockerfile == "FROM localhost:5000/ghcr/acme/base:1\n"


def test_mirrors_and_build_arguments_are_of_the_local_builder() -> None:
    plain = replace(SETTINGS, builder="remote")
    settings = replace(plain, mirrors={"docker.io": "localhost:5000/hub"}, build_args={"A": "1"})
    assert named(BUILD, settings) == named(BUILD, plain)


def test_what_a_secret_holds_is_no_part_of_a_tag() -> None:
    secret = replace(BUILD, secrets=(BuildSecret(id="token", key="token"),))
    assert named(secret, SETTINGS).tag == named(BUILD, SETTINGS).tag
