"""What is measured is what it says: the monorepo has the asked shape, and growth is computed right."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bench.monorepo import Shape, generate
from bench.running import run
from bench.scaling import exponent


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("power", [0.5, 1, 2])
def test_the_exponent_is_that_of_the_growth(power: float) -> None:
    assert exponent([(files, 3 * files**power) for files in (10, 40, 500)]) == pytest.approx(power)


def test_one_size_has_no_exponent() -> None:
    assert math.isnan(exponent([(10, 1.0)]))


def test_what_is_paid_once_makes_the_exponent_smaller_than_one() -> None:
    assert 0 < exponent([(files, 100 + files) for files in (10, 100, 1000)]) < 1


def test_the_same_shape_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        generate(tmp_path / name, 2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_shape_has_its_modules_tasks_shared_modules_and_heavy_import(tmp_path: Path) -> None:
    generate(tmp_path, 2, shape=Shape(modules=3, tasks=8, shared=4, heavy="boto3"))
    files = contents(tmp_path)
    assert len(files) == 2 * (3 + 2) + (4 + 1) + 1
    workflow = files["services/svc_001/workflow.py"].decode()
    compile(workflow, "workflow.py", "exec")
    assert workflow.count(".task\n") == 8
    assert "\nimport boto3\n" in workflow


def test_a_command_that_fails_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="failed\nsorry"):
        run(tmp_path, tmp_path, "sh", "-c", "echo sorry; exit 3")


def test_a_run_is_measured_with_what_it_waited_for(tmp_path: Path) -> None:
    cost = run(tmp_path, tmp_path, "sh", "-c", "sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done'")
    assert cost.cpu > 0
    assert cost.memory > 100_000
