"""Binding: every stand-in is replaced, wherever it is, and nothing else is touched."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest
from flyteidl2.core import tasks_pb2
from flyteidl2.task import task_definition_pb2
from google.protobuf import descriptor_pb2, struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from flyte_build import standins
from flyte_build.binding import Binding, bound, image_cache_argument, replace_standins
from flyte_build.model import Discovery, EnvironmentDraft, ImageDraft, TaskDraft
from flyte_build.steps.serialize import bind, content_version

BINDING = Binding(
    version="v1",
    project="payments",
    domain="staging",
    org="acme",
    images={"env": "image:1", "other.env": "image:2"},
    bundle_uri="s3://bucket/bundle.tar.gz",
    bundle_version="abc",
)
VALUES = BINDING.values()
ALL_STANDINS = sorted(VALUES)


def test_every_standin_of_a_task_has_a_value() -> None:
    of_dockerfiles = {standins.IMAGE_URI, standins.BASE_IMAGE}
    fixed = {value for name, value in vars(standins).items() if name.isupper() and name != "MARK"} - of_dockerfiles
    assert fixed <= VALUES.keys()
    assert VALUES.keys() - fixed == {standins.image("env"), standins.image("other.env")}


@pytest.mark.parametrize("standin", ALL_STANDINS)
def test_a_standin_is_replaced_in_the_middle_of_a_text(standin: str) -> None:
    assert bound(f"a {standin} b{standin}", VALUES) == f"a {VALUES[standin]} b{VALUES[standin]}"


@given(st.text(alphabet="[]:abflyte_uildin-", max_size=40).filter(lambda text: standins.MARK not in text))
def test_a_text_without_a_standin_is_left_alone(text: str) -> None:
    assert bound(text, VALUES) == text


def test_a_value_that_looks_like_a_standin_is_not_replaced_again() -> None:
    values = {**VALUES, standins.VERSION: standins.PROJECT}
    assert bound(standins.VERSION, values) == standins.PROJECT


def test_a_standin_without_a_value_is_a_bug() -> None:
    with pytest.raises(KeyError, match="flyte_build:image:unknown"):
        bound(standins.image("unknown"), VALUES)


@pytest.mark.parametrize("name", ["env", "with-dash", "with_underscore", "e2", "env-env"])
def test_an_environment_of_any_name_has_its_image(name: str) -> None:
    values = {standins.image(name): "image:9"}
    assert bound(f"--image={standins.image(name)} x", values) == "--image=image:9 x"


def test_standins_are_replaced_everywhere_in_a_spec() -> None:
    spec = task_definition_pb2.TaskSpec()
    template = spec.task_template
    template.id.project = standins.PROJECT
    template.id.version = standins.VERSION
    template.container.image = standins.image("env")
    template.container.args.extend(["a0", "--version", standins.VERSION, "plain", f"--x={standins.BUNDLE}"])
    template.container.env.add(key="K", value=standins.DOMAIN)
    template.config["key"] = standins.ORG
    template.custom.update({"list": [standins.BUNDLE, {"deep": standins.BUNDLE_VERSION}], "number": 1, "none": None})
    template.metadata.tags["tag"] = standins.VERSION
    template.interface.inputs.variables.add(key="x").value.description = standins.VERSION
    replace_standins(spec, VALUES)
    assert standins.MARK not in str(spec)
    assert list(template.container.args) == ["a0", "--version", "v1", "plain", "--x=s3://bucket/bundle.tar.gz"]
    assert (template.id.project, template.container.image, template.config["key"]) == ("payments", "image:1", "acme")
    assert dict(template.custom.items())["number"] == 1
    assert template.custom["list"][1]["deep"] == "abc"
    assert template.interface.inputs.variables[0].value.description == "v1"


def test_bytes_are_not_text() -> None:
    spec = task_definition_pb2.TaskSpec()
    literal = spec.default_inputs.add().parameter.default
    literal.scalar.binary.value = standins.VERSION.encode()
    replace_standins(spec, VALUES)
    assert literal.scalar.binary.value == standins.VERSION.encode()


def test_a_message_without_standins_keeps_its_bytes() -> None:
    template = tasks_pb2.TaskTemplate(type="python", config={"b": "2", "a": "1"})
    template.custom.update({"x": [1, None, "y"]})
    before = template.SerializeToString(deterministic=True)
    replace_standins(template, VALUES)
    assert template.SerializeToString(deterministic=True) == before


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False), st.sampled_from([*ALL_STANDINS, "plain"])),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
        max_leaves=8,
    )
)
def test_a_structure_of_any_depth_is_bound(value: Any) -> None:
    struct = struct_pb2.Struct()
    struct.update({"value": value})
    replace_standins(struct, VALUES)
    expected = struct_pb2.Struct()
    expected.update({"value": replaced(value)})
    assert struct == expected


def replaced(value: Any) -> Any:
    if isinstance(value, str):
        return VALUES.get(value, value)
    if isinstance(value, list):
        return [replaced(item) for item in value]
    if isinstance(value, dict):
        return {key: replaced(item) for key, item in value.items()}
    return value


def test_a_message_within_itself_is_followed() -> None:
    message = descriptor_pb2.DescriptorProto(name=standins.VERSION)
    message.nested_type.add(name=standins.PROJECT).nested_type.add(name=standins.DOMAIN)
    replace_standins(message, VALUES)
    assert (message.name, message.nested_type[0].name, message.nested_type[0].nested_type[0].name) == (
        "v1",
        "payments",
        "staging",
    )


# --- the image cache


def test_the_image_cache_says_which_image_an_environment_has() -> None:
    text = gzip.decompress(base64.b64decode(VALUES[standins.IMAGE_CACHE]))
    assert json.loads(text) == {"image_lookup": BINDING.images, "build_run_ids": {}}


def test_the_image_cache_has_the_same_bytes_each_time_and_others_for_another_image() -> None:
    one, other = {"env": "image:1"}, {"env": "image:2"}
    assert image_cache_argument(one) == image_cache_argument(dict(one))
    assert image_cache_argument(one) != image_cache_argument(other)


# --- a discovery, bound


def draft(name: str, text: str) -> TaskDraft:
    spec = task_definition_pb2.TaskSpec()
    spec.task_template.id.name = name
    spec.task_template.id.version = standins.VERSION
    spec.task_template.container.args.append(text)
    trigger = task_definition_pb2.TaskTrigger(name="t")
    trigger.spec.description = standins.DOMAIN
    return TaskDraft(
        name=name,
        spec=spec.SerializeToString(deterministic=True),
        triggers=(trigger.SerializeToString(deterministic=True),),
    )


def discovery(text: str = "arg", image: str = "image:1") -> Discovery:
    fixed = ImageDraft(kind="fixed", uri=image)
    first = EnvironmentDraft(
        name="a", image=fixed, depends_on=(), tasks=(draft("a.x", text), draft("a.y", "")), file=""
    )
    second = EnvironmentDraft(name="b", image=fixed, depends_on=("a",), tasks=(draft("b.x", ""),), file="")
    empty = EnvironmentDraft(name="c", image=fixed, depends_on=("b",), tasks=(), file="")
    return Discovery(environments=(first, second, empty), loaded_files=())


def test_a_discovery_is_bound_in_waves_and_an_environment_without_tasks_is_none() -> None:
    waves = bind(discovery(standins.BUNDLE), BINDING).waves
    assert [[registration.name for registration in wave] for wave in waves] == [["a.x", "a.y"], ["b.x"]]
    for registration in (registration for wave in waves for registration in wave):
        spec = task_definition_pb2.TaskSpec.FromString(registration.spec)
        assert (registration.version, spec.task_template.id.version) == ("v1", "v1")
        (trigger,) = registration.triggers
        assert task_definition_pb2.TaskTrigger.FromString(trigger).spec.description == "staging"
    first = task_definition_pb2.TaskSpec.FromString(waves[0][0].spec)
    assert list(first.task_template.container.args) == [BINDING.bundle_uri]


@pytest.mark.parametrize(
    ("changed", "bundle", "images"),
    [
        (discovery("other"), "bundle", {"a": "image:1"}),
        (discovery(), "other bundle", {"a": "image:1"}),
        (discovery(), "bundle", {"a": "image:2"}),
        (discovery(image="image:3"), "bundle", {"a": "image:1"}),
        (discovery(), "", {"a": "image:1"}),
    ],
    ids=["draft", "bundle", "image", "fixed image", "no bundle"],
)
def test_other_content_is_another_version(changed: Discovery, bundle: str, images: dict[str, str]) -> None:
    assert content_version(changed, bundle, images) != content_version(discovery(), "bundle", {"a": "image:1"})


def test_another_order_of_images_is_another_version() -> None:
    """They stand in that order in a task's arguments."""
    first = content_version(discovery(), "bundle", {"a": "image:1", "b": "image:2"})
    assert content_version(discovery(), "bundle", {"b": "image:2", "a": "image:1"}) != first


def test_the_same_content_is_the_same_version_on_every_machine() -> None:
    assert content_version(discovery(), "bundle", {"a": "image:1"}) == content_version(
        discovery(), "bundle", {"a": "image:1"}
    )
