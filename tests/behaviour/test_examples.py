"""The examples, deployed as README says, and each registered task run as a cluster would run it.

What the tasks must give was worked out from their code with pencil and paper, or with exact fractions, and not by
running them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cluster import Registered, registered_in, run
from tests.repository import SCRIPTS, Repository

HERE = Path(__file__).parents[2]
COPIED = ("examples", "deploy.toml", "dodo.py")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A copy of what a newcomer finds, deployed."""
    folder = tmp_path_factory.mktemp("newcomer")
    for name in COPIED:
        copy = shutil.copytree if (HERE / name).is_dir() else shutil.copy
        copy(HERE / name, folder / name)
    made = Repository(folder)
    done = made.doit("deploy")
    assert (done.code, done.out) == (0, ""), done.err
    assert "4 targets: 4 done" in done.err
    return made


@pytest.fixture(scope="module")
def registered(repository: Repository) -> dict[str, list[Registered]]:
    """Task -> what the control plane has of it."""
    return registered_in(repository.folder)


# --- what each task must give

CENTRE = {"zone": "Centre", "kilometres": 1.8, "minutes": 11.6}
"""The first of `gather_rides(seed=1)`: 1103515245 + 12345 = 1103527590; // 65536 = 16838, % 90 = 8; // 256 = 4310654,
% 20 = 14; so 1 + 0.8 km and 3 + 4 * 1.8 + 1.4 minutes."""
FOUR_RIDES = [
    CENTRE,
    {"zone": "Harbour", "kilometres": 9.8, "minutes": 42.6},
    {"zone": "North side", "kilometres": 4.3, "minutes": 21.8},
    {"zone": "University", "kilometres": 6.5, "minutes": 30.5},
]
SLOW = {"zone": "Centre", "kilometres": 2.0, "minutes": 90.5}
MODEL = {"minutes_per_kilometre": 4.0, "minutes_at_start": 3.0, "rides": 2}
ON_A_LINE = [{"zone": "C", "kilometres": 1.0, "minutes": 7.0}, {"zone": "C", "kilometres": 3.0, "minutes": 15.0}]


class Case(NamedTuple):
    given: dict[str, Any]
    outputs: dict[str, Any]


CASES: dict[str, list[Case]] = {
    "prep.gather_rides": [Case({"count": 4, "seed": 1}, {"o0": FOUR_RIDES}), Case({"count": 0}, {"o0": []})],
    "prep.clean_rides": [
        Case({"rides": [CENTRE, SLOW]}, {"rides": [CENTRE], "dropped": 1}),
        Case({"rides": [CENTRE, SLOW], "longest_minutes": 91.0}, {"rides": [CENTRE, SLOW], "dropped": 0}),
    ],
    "train.fit_model": [Case({"rides": ON_A_LINE}, {"o0": MODEL})],
    "train.train_nightly": [
        Case(
            {"started": datetime(2024, 2, 29, 2, 30, tzinfo=timezone.utc), "count": 12},
            {"o0": {"minutes_per_kilometre": 3.97819, "minutes_at_start": 4.019618, "rides": 11}},
        )
    ],
    "serve.predict": [
        Case({"model": MODEL, "kilometres": 2.5}, {"o0": {"kilometres": 2.5, "minutes": 13.0, "weather": "dry"}}),
        Case(
            {"model": MODEL, "kilometres": 2.5, "weather": "SNOW"},
            {"o0": {"kilometres": 2.5, "minutes": 19.5, "weather": "snow"}},
        ),
    ],
    "serve.predict_each": [
        Case({"model": MODEL, "distances": [1.0, 2.5]}, {"o0": {"1 km": 7.0, "2.5 km": 13.0}}),
    ],
    "serve.estimate": [
        Case({}, {"o0": {"kilometres": 5.0, "minutes": 23.69, "weather": "dry"}}),
        Case({"weather": "RAIN"}, {"o0": {"kilometres": 5.0, "minutes": 28.43, "weather": "rain"}}),
    ],
    "weekly_report.write_report": [
        Case(
            {"rides": [CENTRE, SLOW, FOUR_RIDES[2]]},
            {"o0": "Rides by zone\n=============\nCentre          2\nNorth side      1\n"},
        )
    ],
}
"""`estimate` fits 22 of 24 rides: 4.054383 * 5 + 3.421764 = 23.693679 minutes, rounded before and after the rain."""


def test_every_task_of_the_examples_is_registered_and_run(registered: dict[str, list[Registered]]) -> None:
    assert registered.keys() == CASES.keys()
    assert (
        sum(map(len, registered.values())) == 14
    )  # prep for itself, for train and for serve; train for itself and serve
    for versions in registered.values():
        assert len({each.version for each in versions}) == len(versions)


@pytest.mark.parametrize("name", CASES)
def test_a_registered_task_runs_from_its_bundle_and_gives_the_right_outputs(
    name: str, registered: dict[str, list[Registered]], tmp_path: Path
) -> None:
    """Every version of it; the first one with every input."""
    first, *others = CASES[name]
    for number, each in enumerate(registered[name]):
        assert run(each.spec, tmp_path / f"version{number}", first.given) == first.outputs
    for number, case in enumerate(others):
        assert run(registered[name][0].spec, tmp_path / f"case{number}", case.given) == case.outputs


def test_a_task_that_fails_says_so(registered: dict[str, list[Registered]], tmp_path: Path) -> None:
    """So that outputs mean something: one ride gives no line, and `a0` leaves an error."""
    with pytest.raises(AssertionError, match="linear regression requires at least two data points"):
        run(registered["train.fit_model"][0].spec, tmp_path, {"rides": [CENTRE]})


def test_the_examples_are_fresh_the_second_time(repository: Repository) -> None:
    again = repository.doit("deploy")
    assert again.code == 0
    assert again.err.splitlines()[-1].startswith("4 targets: 4 fresh")


# --- served


@pytest.fixture(scope="module")
def endpoint(repository: Repository) -> Iterator[str]:
    """Of `doit serve`."""
    process = subprocess.Popen(
        [SCRIPTS / "doit", "serve", "port=0"], cwd=repository.folder, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    while "serving at" not in line:
        assert line, "the server ended"
        line = process.stderr.readline()
    yield line.split()[2].rstrip(";")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) is not None


Flyte = Callable[..., str]


@pytest.fixture
def flyte(endpoint: str, tmp_path: Path) -> Flyte:
    """The real CLI against what is served."""

    def command(*words: str) -> str:
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "NO_COLOR": "1",
            "COLUMNS": "100000",
            "DO_NOT_TRACK": "1",
        }
        where = ["--endpoint", endpoint, "--insecure", "--no-progress", "--output-format", "json-raw"]
        project = ["--project", "flytesnacks", "--domain", "development"]
        done = subprocess.run(
            [SCRIPTS / "flyte", *where, *words, *project], env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.stdout)

    return command


def test_the_flyte_cli_lists_every_task_of_the_examples(flyte: Flyte, registered: dict[str, list[Registered]]) -> None:
    listed = json.loads(flyte("get", "task"))
    assert sorted(task["taskId"]["name"] for task in listed) == sorted(registered)


def test_the_flyte_cli_shows_a_task_and_the_trigger_of_the_examples(
    flyte: Flyte, registered: dict[str, list[Registered]]
) -> None:
    (report,) = registered["weekly_report.write_report"]
    shown = flyte("get", "task", "weekly_report.write_report", report.version)
    assert report.spec.task_template.container.image in shown
    triggers = json.loads(flyte("get", "trigger"))
    assert sorted(trigger["id"]["name"]["name"] for trigger in triggers) == ["nightly", "weekly"]
