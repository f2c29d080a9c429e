"""Environments in waves: each stands after all that it depends on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_build.model import EnvironmentDraft, ImageDraft, TaskDraft
from flyte_build.steps.serialize import waves_of


def environment(name: str, *depends_on: str) -> EnvironmentDraft:
    task = TaskDraft(name=f"{name}.task", spec=b"")
    return EnvironmentDraft(name=name, image=ImageDraft(kind="none"), depends_on=depends_on, tasks=(task,), file="")


def names(*environments: EnvironmentDraft) -> list[list[str]]:
    return [[each.name for each in wave] for wave in waves_of(environments)]


@pytest.mark.parametrize(
    ("environments", "waves"),
    [
        ([], []),
        ([environment("a")], [["a"]]),
        ([environment("a"), environment("b")], [["a", "b"]]),
        ([environment("a"), environment("b", "a")], [["a"], ["b"]]),
        ([environment("a"), environment("b", "a"), environment("c", "b")], [["a"], ["b"], ["c"]]),
        (
            [environment("a"), environment("b", "a"), environment("c", "a"), environment("d", "b", "c")],
            [["a"], ["b", "c"], ["d"]],
        ),
        (
            [environment("a"), environment("b", "a"), environment("c"), environment("d", "c", "b")],
            [["a", "c"], ["b"], ["d"]],
        ),
        ([environment("b", "an app that is left out"), environment("c", "b")], [["b"], ["c"]]),
    ],
)
def test_waves(environments: list[EnvironmentDraft], waves: list[list[str]]) -> None:
    assert names(*environments) == waves


@st.composite
def graphs(draw: st.DrawFn) -> list[EnvironmentDraft]:
    """Acyclic, dependencies first."""
    made: list[EnvironmentDraft] = []
    for index in range(draw(st.integers(0, 10))):
        earlier = st.lists(st.sampled_from([e.name for e in made]), unique=True) if made else st.just([])
        made.append(environment(f"e{index}", *draw(earlier)))
    return made


@given(graphs())
def test_each_environment_is_in_one_wave_after_all_that_it_depends_on(environments: list[EnvironmentDraft]) -> None:
    waves = names(*environments)
    place = {name: number for number, wave in enumerate(waves) for name in wave}
    assert sorted(place) == sorted(e.name for e in environments)
    assert sum(map(len, waves)) == len(environments)
    assert all(place[other] < place[e.name] for e in environments for other in e.depends_on)
    assert all(waves)


@given(graphs())
def test_waves_are_as_few_as_the_longest_chain(environments: list[EnvironmentDraft]) -> None:
    depth: dict[str, int] = {}
    for each in environments:
        depth[each.name] = 1 + max((depth[other] for other in each.depends_on), default=0)
    assert len(waves_of(environments)) == max(depth.values(), default=0)
