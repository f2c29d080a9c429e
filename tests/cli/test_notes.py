"""What a user is told although nothing failed: each note whole, and the exit code 0."""

from __future__ import annotations

from tests.archives import noise
from tests.repository import Ran, Repository, environment


def notes(ran: Ran) -> list[str]:
    """The notes of a run that went well, with the lines that belong to each."""
    assert ran.code == 0
    found: list[str] = []
    for line in ran.err.splitlines():
        if line.startswith("note      "):
            found.append(line.removeprefix("note      "))
        elif line.startswith("  ") and found:
            found[-1] += f"\n{line}"
    return found


def including(repository: Repository, *names: str) -> Repository:
    repository.write("deploy.toml", repository.read("deploy.toml") + f"include = {list(names)}\n")
    return repository


def test_a_bundle_of_more_than_10_mb_shows_its_ten_largest_files(repository: Repository) -> None:
    workflow = (repository.folder / "fraud.py").stat().st_size
    for number in range(1, 12):
        repository.write(f"data/{number:02}.bin", "").write_bytes(bytes(number * 200_000))
    assert notes(including(repository, "data").doit()) == [
        f"fraud: the bundle has {13_200_000 + workflow:,} bytes before compression; "
        "leave out what tasks do not need with `exclude` or .flyteignore; its largest files:\n"
        "     2,200,000  data/11.bin\n"
        "     2,000,000  data/10.bin\n"
        "     1,800,000  data/09.bin\n"
        "     1,600,000  data/08.bin\n"
        "     1,400,000  data/07.bin\n"
        "     1,200,000  data/06.bin\n"
        "     1,000,000  data/05.bin\n"
        "       800,000  data/04.bin\n"
        "       600,000  data/03.bin\n"
        "       400,000  data/02.bin"
    ]


def test_a_bundle_of_10_mb_says_nothing(repository: Repository) -> None:
    workflow = (repository.folder / "fraud.py").stat().st_size
    repository.write("data.bin", "").write_bytes(noise(10_000_000 - workflow))
    assert notes(including(repository, "data.bin").doit()) == []


def test_data_that_is_read_while_loading_and_is_not_bundled_is_named(repository: Repository) -> None:
    repository.write("data/rates.csv", "eur,1.1\n")
    repository.write(
        "fraud.py",
        'from pathlib import Path\n\nRATES = (Path(__file__).parent / "data/rates.csv").read_text()\n'
        + environment("fraud"),
    )
    assert notes(repository.doit()) == [
        "fraud: data/rates.csv: is read while the code loads, but is not in the bundle; "
        'add `include = ["data/rates.csv"]` to [targets.fraud]'
    ]
    assert notes(including(repository, "data/rates.csv").doit()) == []


def test_a_lazily_imported_module_that_is_no_valid_python_is_named(repository: Repository) -> None:
    repository.write("report.py", "def total(:\n")
    repository.write("fraud.py", repository.read("fraud.py").replace("    return", "    import report\n\n    return"))
    assert notes(repository.doit()) == [
        "fraud: report.py: is bundled, but is no valid Python, so importing it will fail when a task runs; "
        "mend it, or leave it out with `exclude`"
    ]
    repository.write("deploy.toml", repository.read("deploy.toml") + 'exclude = ["report.py"]\n')
    assert notes(repository.doit()) == []


def test_files_that_look_like_keys_or_credentials_are_named(repository: Repository) -> None:
    for name in ("settings/.env", "settings/id_rsa", "settings/limits.toml"):
        repository.write(name, "")
    assert notes(including(repository, "settings").doit()) == [
        "fraud: left out of the bundle, since they look like keys or credentials: settings/.env, settings/id_rsa; "
        "name one in `include` of [targets.fraud] to bundle it"
    ]
