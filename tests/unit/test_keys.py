"""Each field of a step's key counts, today's and those of tomorrow: the fields are read off the types."""

from __future__ import annotations

from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import pytest

from flyte_build import pipeline
from flyte_build.model import BackendSettings, Cause, Fresh, ImageSettings, Stale, StoreSettings, Target, Value, Verdict
from flyte_build.state import receipts
from flyte_build.state.files import FileIndex
from flyte_build.state.receipts import Receipt, World
from tests.checkout import Checkout
from tests.repository import MANIFEST, WORKFLOW


def sample(kind: Any) -> Any:
    """A value of a type."""
    return _pair(kind)[0]


def other(kind: Any) -> Any:
    """Another value of that type."""
    return _pair(kind)[1]


def _pair(kind: Any) -> tuple[Any, Any]:
    simple = {str: ("a", "b"), int: (1, 2), float: (1.0, 2.0), bool: (False, True)}
    if kind in simple:
        return simple[kind]
    if get_origin(kind) is Literal:
        first, second, *_ = get_args(kind)
        return first, second
    if get_origin(kind) is tuple:
        return (), (sample(get_args(kind)[0]),)
    if get_origin(kind) is dict:
        return {}, {"name": sample(get_args(kind)[1])}
    if get_origin(kind) is UnionType:
        return None, sample(get_args(kind)[0])
    if isinstance(kind, type) and issubclass(kind, Value):
        value = instance(kind)
        name, field = next(iter(get_type_hints(kind).items()))
        return value, msgspec.structs.replace(value, **{name: other(field)})
    raise TypeError(f"no sample of {kind}")


def instance(kind: type[Value]) -> Value:
    fields = {name: sample(field) for name, field in get_type_hints(kind).items() if name in kind.__struct_fields__}
    return kind(**fields)


def key_type(step: str) -> type[Value]:
    kind: type[Value] = pipeline.STEPS[step].Key  # type: ignore[attr-defined]
    return kind


FIELDS = [(step, field) for step in pipeline.STEPS for field in key_type(step).__struct_fields__]


def judged(key: Value, recorded: Value, tmp_path: Path) -> Verdict:
    receipt = Receipt(
        format=receipts.FORMAT, key=msgspec.Raw(recorded.json()), result=msgspec.Raw(b"{}"), reason="not done here yet"
    )
    return receipts.judge(key, receipt, World(tmp_path, tmp_path, FileIndex(), {}))


@pytest.mark.parametrize(("step", "field"), FIELDS, ids=[f"{step}-{field}" for step, field in FIELDS])
def test_another_value_of_a_field_is_another_key_and_is_named(step: str, field: str, tmp_path: Path) -> None:
    kind = key_type(step)
    old = instance(kind)
    new = msgspec.structs.replace(old, **{field: other(get_type_hints(kind)[field])})
    assert old.json() != new.json()
    verdict = judged(new, old, tmp_path)
    assert isinstance(verdict, Stale)
    assert verdict.cause.kind == "setting"
    assert verdict.cause.name.partition(".")[0] == field
    assert verdict.cause.old != verdict.cause.new
    assert field.replace("_", " ") in verdict.reason
    assert verdict.reason.endswith(" changed")


@pytest.mark.parametrize("step", pipeline.STEPS)
def test_the_same_key_is_fresh(step: str, tmp_path: Path) -> None:
    assert judged(instance(key_type(step)), instance(key_type(step)), tmp_path) == Fresh()


@pytest.mark.parametrize("step", pipeline.STEPS)
def test_a_key_has_a_format_that_can_be_raised(step: str) -> None:
    assert key_type(step).__struct_fields__[0] == "format"


@pytest.mark.parametrize("step", pipeline.STEPS)
def test_a_receipt_with_fewer_fields_in_its_key_is_stale(step: str, tmp_path: Path) -> None:
    class Less(Value, frozen=True):
        format: int

    verdict = judged(instance(key_type(step)), Less(format=1), tmp_path)
    assert isinstance(verdict, Stale)


def test_a_receipt_with_more_fields_in_its_key_is_stale(tmp_path: Path) -> None:
    class Key(Value, frozen=True):
        format: int

    class More(Key, frozen=True):
        more: str

    assert judged(Key(format=1), More(format=1, more=""), tmp_path) == Stale(
        reason="its key has other fields", cause=Cause(kind="setting")
    )


# --- what the manifest says

IRRELEVANT = {
    Target: {
        "origin": "is for messages",
        "load_timeout": "changes no result",
        "hermetic": "forbids what makes a target load in every run, where it is looked at again",
    },
    BackendSettings: {"insecure": "is how, not where", "config": "is how to log in"},
    StoreSettings: {},
    ImageSettings: {
        "cache_from": "changes how fast an image is built, not what is in it",
        "cache_to": "is a place for layers, not for images",
    },
}
"""Settings that are in no key, and why."""


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    checkout = Checkout(tmp_path_factory.mktemp("keys"), {"deploy.toml": MANIFEST, "fraud.py": WORKFLOW})
    checkout.deploy()
    return checkout


def keys(checkout: Checkout, changed: Value | None = None) -> dict[str, bytes]:
    """Each step's key, with one of the manifest's values replaced."""
    project = checkout.project()
    target = project.manifest.targets["fraud"]
    if isinstance(changed, Target):
        target = changed
    elif changed is not None:
        place = {BackendSettings: "backend", StoreSettings: "store", ImageSettings: "images"}[type(changed)]
        project.manifest = msgspec.structs.replace(project.manifest, **{place: changed})
    return {name: step.key(project, target).json() for name, step in pipeline.STEPS.items()}


SETTINGS = [
    (kind, field) for kind in IRRELEVANT for field in kind.__struct_fields__ if (kind, field) != (Target, "name")
]


@pytest.mark.parametrize(("kind", "field"), SETTINGS, ids=[f"{kind.__name__}-{field}" for kind, field in SETTINGS])
def test_every_setting_is_in_some_key_or_is_known_not_to_matter(
    kind: type[Value], field: str, deployed: Checkout
) -> None:
    manifest = deployed.project().manifest
    now: dict[type[Value], Value] = {
        Target: manifest.targets["fraud"],
        BackendSettings: manifest.backend,
        StoreSettings: manifest.store,
        ImageSettings: manifest.images,
    }
    hint = get_type_hints(kind)[field]
    value = next(v for v in (sample(hint), other(hint)) if v != getattr(now[kind], field))
    changed = keys(deployed, msgspec.structs.replace(now[kind], **{field: value})) != keys(deployed)
    assert changed == (field not in IRRELEVANT[kind])
