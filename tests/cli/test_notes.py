"""What a user is told although nothing failed: each note whole, and the exit code 0."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.archives import noise
from tests.repository import Ran, Repository, environment

SERVICES = """
    [targets.services]
    for_each = "services/*"
    path = "{dir}/w.py"
    all = true
"""


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


def test_many_files_that_are_read_and_not_bundled_are_one_note(repository: Repository) -> None:
    for number in range(20):
        repository.write(f"data/{number:02}.csv", "eur,1.1\n")
    read = "[path.read_text() for path in sorted(Path(__file__).with_name('data').iterdir())]"
    repository.write("fraud.py", f"from pathlib import Path\n\nRATES = {read}\n{environment('fraud')}")
    assert notes(repository.doit()) == [
        "fraud: 20 files are read while the code loads, but are not in the bundle: data/00.csv, data/01.csv, "
        "data/02.csv and 17 more; add them, or patterns such as `data/*.csv`, to `include` of [targets.fraud]"
    ]
    including(repository, "data/00.csv", *(f"data/{number:02}.csv" for number in range(3, 20)))
    assert notes(repository.doit()) == [
        "fraud: 2 files are read while the code loads, but are not in the bundle: data/01.csv, data/02.csv; "
        "add them, or patterns such as `data/*.csv`, to `include` of [targets.fraud]"
    ]
    repository.write("deploy.toml", repository.read("deploy.toml").replace("data/00.csv", "data/*.csv"))
    assert notes(repository.doit()) == []


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


# --- once in a run


def services(folder: Path, version: str = "{content}") -> Repository:
    """Two targets."""
    files = {f"services/{name}/w.py": environment(name) for name in ("churn", "fraud")}
    return Repository(folder, {"deploy.toml": f'{SERVICES}    version = "{version}"\n', **files})


def edit(repository: Repository, old: str, new: str) -> None:
    for name in ("churn", "fraud"):
        path = f"services/{name}/w.py"
        repository.write(path, repository.read(path).replace(old, new))


def test_going_back_to_an_old_version_says_once_what_stays_the_latest(tmp_path: Path) -> None:
    repository = services(tmp_path)
    assert notes(repository.doit()) == []
    edit(repository, "return amount", "return amount + 1")
    assert notes(repository.doit()) == []
    edit(repository, "return amount + 1", "return amount")
    ran = repository.doit("output=jsonl")
    ends = [event for event in ran.events if event["event"] == "finished" and event["step"] == "deploy"]
    (note,) = [note for event in ends for note in event["notes"]]
    versions = re.findall(r"[0-9a-f]{32}", note)
    assert len(set(versions)) == 2
    assert note == (
        f"version {versions[0]} was made before {versions[1]}, which stays the latest: a Flyte backend goes by when a "
        "version was first made; ask for this one by its version, or put something of the moment into `version`, such "
        "as `{env:BUILD}-{content}`"
    )
    assert notes(repository.doit()) == []
    edit(repository, "return amount", "return amount + 1")
    assert notes(repository.doit()) == []
    edit(repository, "return amount + 1", "return amount")
    (told,) = notes(repository.doit("-n", "0"))
    assert told.startswith("services/churn: version ")
    assert told.endswith(note.partition("stays")[2])


def test_what_is_deployed_again_or_elsewhere_is_not_told_to_be_old(tmp_path: Path) -> None:
    repository = services(tmp_path)
    assert notes(repository.doit()) == []
    edit(repository, "return amount", "return amount + 1")
    assert notes(repository.doit()) == []
    assert repository.doit("forget", "--all").code == 0
    assert notes(repository.doit()) == []
    edit(repository, "return amount + 1", "return amount")
    assert notes(repository.doit("domain=staging")) == []


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=someone", "-c", "user.email=someone@example.com")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def committed(repository: Repository) -> Repository:
    repository.write(".gitignore", ".home/\n")
    git(repository.folder, "init", "-q")
    git(repository.folder, "add", ".")
    git(repository.folder, "commit", "-q", "-m", "first")
    return repository


def test_a_version_that_names_a_commit_says_once_what_is_not_committed(tmp_path: Path) -> None:
    repository = committed(services(tmp_path, "v-{git_sha}"))
    assert notes(repository.doit()) == []
    git(repository.folder, "commit", "-q", "--allow-empty", "-m", "second")
    edit(repository, "return amount", "return amount + 1")
    (note,) = notes(repository.doit("-n", "0"))
    assert note == (
        "services/churn: `{git_sha}` in `version` names a commit that the folder is not: services/churn/w.py, "
        "services/fraud/w.py; commit that first, or put `{content}` into `version` too"
    )
    assert notes(repository.doit()) == []


def test_a_version_with_the_content_beside_the_commit_is_told_so_too(tmp_path: Path) -> None:
    repository = committed(services(tmp_path, "{git_tag}-{content}"))
    git(repository.folder, "tag", "v1")
    for name in "abcd":
        repository.write(f"{name}.txt", "")
    events = repository.doit("output=jsonl").events
    said = [note for event in events if event["event"] == "finished" for note in event["notes"]]
    assert said == [
        "`{git_tag}` in `version` names a commit that the folder is not: a.txt, b.txt, c.txt and 1 more; "
        "commit that first"
    ]


def test_a_version_of_content_alone_says_nothing_of_commits(tmp_path: Path) -> None:
    repository = committed(services(tmp_path))
    edit(repository, "return amount", "return amount + 1")
    assert notes(repository.doit()) == []
