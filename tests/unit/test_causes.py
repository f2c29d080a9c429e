"""The way from a target's file to what changed."""

from __future__ import annotations

import pytest

from flyte_build.causes import chain
from flyte_build.model import Cause

READERS = {
    "a.py": "",
    "b.py": "a.py",
    "c.py": "b.py",
    "data.csv": "c.py",
    ".": "b.py",
    "import json": "c.py",
    "import lib/pack": "b.py",
    "$STAGE": "b.py",
    "lost.py": "nobody.py",
    "round.py": "trip.py",
    "trip.py": "round.py",
}


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (Cause(kind="file", name="a.py"), ("a.py",)),
        (Cause(kind="file", name="data.csv"), ("a.py", "b.py", "c.py", "data.csv")),
        (Cause(kind="path", name="c.py"), ("a.py", "b.py", "c.py")),
        (Cause(kind="folder", name="."), ("a.py", "b.py", ".")),
        (Cause(kind="import", name="json", new="module"), ("a.py", "b.py", "c.py", "json.py")),
        (Cause(kind="import", name="lib/pack", old="package"), ("a.py", "b.py", "lib/pack/__init__.py")),
        (Cause(kind="import", name="lib/pack", new="namespace"), ("a.py", "b.py", "lib/pack/")),
        (Cause(kind="variable", name="STAGE"), ("a.py", "b.py", "$STAGE")),
        (Cause(kind="file", name="lost.py"), ("nobody.py", "lost.py")),
        (Cause(kind="file", name="unknown.py"), ()),
        (Cause(kind="variable", name="a.py"), ()),
        (Cause(kind="file", name="json"), ()),
        (Cause(kind="file", name="round.py"), ("trip.py", "round.py")),
    ],
)
def test_each_file_is_led_to_by_the_one_that_looked_at_it_first(cause: Cause, expected: tuple[str, ...]) -> None:
    assert chain(cause, READERS) == expected
