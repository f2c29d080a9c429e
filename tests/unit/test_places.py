"""Where a path leads: as the kernel has it, which follows a link before it takes `..`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_build.worker.places import absolute_path

LINKS = {
    "a/plain": None,
    "b/c/below": None,
    "b/x/deep": None,
    "a/link": "../b/c",
    "b/c/up": "../x/deep",
    "a/self": ".",
    "a/far": "link/up",
    "a/loop": "loop",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = Path(os.path.realpath(tmp_path_factory.mktemp("tree")))
    for name, target in LINKS.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if target is None:
            path.mkdir(parents=True)
        else:
            path.symlink_to(target)
    return root


PARTS = ("a", "b", "c", "x", "plain", "below", "deep", "link", "up", "self", "far", "..", "missing")


@given(parts=st.lists(st.sampled_from(PARTS), max_size=6))
def test_a_path_leads_where_the_kernel_says(parts: list[str], tree: Path) -> None:
    path = os.path.join(tree, *parts, "..", "file")
    if os.path.isdir(os.path.dirname(path)):
        assert os.path.realpath(absolute_path(path)[0]) == os.path.realpath(path)


def test_a_link_below_a_link_is_taken_from_where_that_one_leads(tree: Path) -> None:
    path, links = absolute_path(f"{tree}/a/link/up/../file")
    assert os.path.realpath(path) == f"{tree}/b/x/file"
    assert f"{tree}/a/link" in links


def test_links_that_lead_to_themselves_come_to_an_end(tree: Path) -> None:
    absolute_path(f"{tree}/a/loop/../file")
