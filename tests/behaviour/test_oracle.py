"""The oracle: after any edits a deploy leaves what one from nothing would, and does no more than they ask for.

`-m long` tells 300 stories of edits; with `ORACLE_STORIES=5000` as many as it says, other ones in each run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, note, seed, settings

from flyte_build.state import files
from tests.monorepos import Story, stories
from tests.world import World

ORDERED = os.environ.get("ORACLE_STORIES")
STORIES = int(ORDERED or 300)
PARTS = 6
"""The stories are told in so many tests, for as many processes as there are."""
FEW = 6


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path_factory.mktemp("world"))
    monkeypatch.setattr(sys, "path", [*sys.path, str(made.site)])  # as the process has it that doit runs in
    return made


def tell(story: Story, world: World) -> None:
    """One edit after the other, each followed by a deploy, each of which is compared with one from nothing."""
    world.begin(story)
    _, failed = world.deploy()
    for number, edit in enumerate(story.edits):
        note(f"{edit}")
        if edit.during:
            world.deploy(meanwhile=lambda edit=edit: world.make(edit))  # type: ignore[misc]
            concerned = None
        else:
            concerned = world.make(edit)
        ran, now_failed = world.deploy()
        if concerned is not None:
            check_minimal({name: steps for name, steps in ran.items() if name not in failed}, concerned)
        failed = now_failed
        outcome = world.outcome(failed)
        assert {name: steps for name, steps in world.deploy()[0].items() if name not in failed and steps} == {}
        if number % 2 or edit is story.edits[-1]:
            assert outcome == world.clean()


def check_minimal(ran: dict[str, dict[str, str]], concerned: dict[str, set[str]]) -> None:
    """What ran of a target that an edit does not concern is at most what it may look at in vain."""
    for name, steps in ran.items():
        if name in concerned:
            assert steps.keys() <= concerned[name], f"{name} ran {steps}, which concerns it not"


def told(examples: int, part: int) -> Callable[[Callable[[Story], None]], Callable[[], None]]:
    """A test of so many stories: the same in each run, unless a number was ordered."""

    def decorate(function: Callable[[Story], None]) -> Callable[[], None]:
        chosen = settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(given(stories)(function))
        return chosen if ORDERED else seed(part)(chosen)

    return decorate


def test_after_any_edits_a_deploy_leaves_what_one_from_nothing_does(world: World) -> None:
    @told(FEW, PARTS)
    def run(story: Story) -> None:
        tell(story, world)

    run()


@pytest.mark.long
@pytest.mark.timeout(max(1800, 60 * STORIES))
@pytest.mark.parametrize("part", range(PARTS))
def test_after_any_of_many_edits_a_deploy_leaves_what_one_from_nothing_does(part: int, world: World) -> None:
    @told(-(-STORIES // PARTS), part)
    def run(story: Story) -> None:
        tell(story, world)

    run()


def test_an_unsound_engine_would_be_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle itself: with an index that takes every file for what it was, it fails."""
    monkeypatch.setattr(files.FileIndex, "digest", forgetful(files.FileIndex.digest))

    @told(60, 0)
    def run(story: Story) -> None:
        tell(story, world)

    with pytest.raises(AssertionError):
        run()


def forgetful(digest: Callable[[files.FileIndex, str], str]) -> Callable[[files.FileIndex, str], str]:
    first: dict[str, str] = {}

    def remembered(index: files.FileIndex, path: str) -> str:
        found = digest(index, path)
        return first.setdefault(path, found) if found and path.endswith((".py", ".txt")) else found

    return remembered


def test_every_kind_of_edit_can_be_made(world: World, tmp_path: Path) -> None:
    from hypothesis import find

    from tests.monorepos import KINDS, Edit

    simple = find(stories, lambda _: True)
    for kind in dict.fromkeys(KINDS):
        world.begin(simple)
        for number in range(12):
            world.make(Edit(kind=kind, first=number, second=number))
