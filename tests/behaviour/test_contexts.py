"""What images are built from is kept as long as a receipt speaks of it, and no longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.repository import Repository, environment

NAMES = ("fraud", "credit")
TARGET = '[targets.{name}]\npath = "{name}.py"\nenvironment = "env"\n'
IMAGE = (
    ', image=flyte.Image.from_debian_base(name="{name}", registry="localhost:1")'
    '.with_source_folder(pathlib.Path("{name}"))'
)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Two targets whose images hold a folder each."""
    made = Repository(tmp_path, {"deploy.toml": "".join(TARGET.format(name=name) for name in NAMES)})
    for name in NAMES:
        made.write(f"{name}.py", f"import pathlib\n{environment(name, IMAGE.format(name=name))}")
        made.write(f"{name}/data.txt", f"first {name}")
    discover(made)
    return made


def discover(repository: Repository, *words: str) -> None:
    ran = repository.doit(*words, "discover")
    assert ran.code == 0, ran.err


def kept(repository: Repository) -> str:
    """The texts that the contexts hold, and how many objects there are."""
    objects = [path.read_bytes() for path in (repository.folder / ".flyte-build/objects").iterdir()]
    texts = sorted(
        f"{time} {name}"
        for time in ("first", "second")
        for name in NAMES
        for each in objects
        if f"{time} {name}".encode() in each
    )
    return f"{', '.join(texts)}: {len(objects)}"


def test_an_edit_leaves_no_context_behind_and_that_of_another_target_alone(repository: Repository) -> None:
    assert kept(repository) == "first credit, first fraud: 4"
    repository.write("fraud/data.txt", "second fraud")
    discover(repository)
    assert kept(repository) == "first credit, second fraud: 4"


def test_what_another_way_of_deploying_refers_to_stays(repository: Repository) -> None:
    repository.write("fraud/data.txt", "second fraud")
    discover(repository, "discover:credit", "project=other")
    discover(repository, "project=other")
    assert kept(repository) == "first credit, second fraud: 4"
    assert repository.doit("discover", "output=jsonl").out.count('"status":"done"') == 0


def test_a_run_with_nothing_to_do_removes_none(repository: Repository) -> None:
    stray = repository.write(f".flyte-build/objects/{'a' * 32}", "stray")
    discover(repository)
    assert stray.exists()
    repository.write("fraud/data.txt", "second fraud")
    discover(repository)
    assert not stray.exists()


def test_a_target_that_fails_keeps_what_it_had_until_it_is_mended(repository: Repository) -> None:
    repository.write("credit/data.txt", "second credit")
    repository.write("fraud.py", "1 / 0")
    assert repository.doit("discover").code == 1
    assert kept(repository) == "first fraud, second credit: 4"
    assert "runs: fraud.py changed" in repository.doit("why", "discover:fraud").out
    repository.write("fraud/data.txt", "second fraud")
    repository.write("fraud.py", f"import pathlib\n{environment('fraud', IMAGE.format(name='fraud'))}")
    discover(repository)
    assert kept(repository) == "second credit, second fraud: 4"
