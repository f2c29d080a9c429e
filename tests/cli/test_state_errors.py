"""What a user reads when the state folder cannot be written: each message whole, and the exit code."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.archives import noise
from tests.namespaces import with_small_disk
from tests.repository import Repository, failures
from tests.unprivileged import bound

MEND = "free some space, make the folder writable, or remove what is in its place"


@pytest.mark.error("StateUnwritable")
def test_a_file_in_the_place_of_the_state_folder_is_named(repository: Repository) -> None:
    repository.write(".flyte-build", "")
    ran = repository.doit()
    assert (ran.code, failures(ran)) == (
        1,
        {
            "discover:fraud": f"{repository.folder}/.flyte-build/.gitignore: cannot be written: File exists; "
            "free some space, make the folder writable, or remove what is in its place"
        },
    )


@pytest.mark.error("StateUnwritable")
def test_a_full_disk_is_named(repository: Repository) -> None:
    (repository.folder / "noise.bin").write_bytes(noise(64 << 10))
    repository.write("deploy.toml", repository.read("deploy.toml") + 'include = ["noise.bin"]\n')
    ran = repository.doit(under=with_small_disk(".flyte-build/bundles", "size=16k"))
    place = rf"{re.escape(str(repository.folder))}/\.flyte-build/bundles/[0-9a-f]{{32}}\.tar\.gz"
    mend = "free some space, make the folder writable, or remove what is in its place"
    assert (ran.code, list(failures(ran))) == (1, ["bundle:fraud"])
    assert re.fullmatch(f"{place}: cannot be written: No space left on device; {mend}", failures(ran)["bundle:fraud"])


@pytest.mark.error("StateUnwritable")
def test_a_disk_that_is_full_when_tasks_are_registered_is_named(repository: Repository) -> None:
    # One for the folder, and one for the receipt of each step before.
    ran = repository.doit(under=with_small_disk(".flyte-build/targets/fraud", "nr_inodes=6"))
    assert (ran.code, failures(ran)) == (
        1,
        {
            "deploy:fraud": f"{repository.folder}/.flyte-build/targets/fraud/deploy.log: cannot be written: No space "
            "left on device; free some space, make the folder writable, or remove what is in its place"
        },
    )


# --- a folder that may not be written


@pytest.fixture
def closed(repository: Repository) -> Iterator[Repository]:
    """Deployed, and then the state folder was closed."""
    assert repository.doit().code == 0
    folders = [path for path in (repository.folder / ".flyte-build").rglob("*") if path.is_dir()]
    folders.append(repository.folder / ".flyte-build")
    for folder in folders:
        folder.chmod(0o500)
    yield repository
    for folder in folders:
        folder.chmod(0o700)


def refusal(repository: Repository, step: str) -> str:
    folder = repository.folder / ".flyte-build/targets/fraud"
    return f"{folder}/{step}.json: cannot be written: Permission denied; {MEND}"


def test_nothing_to_do_needs_no_writing(closed: Repository) -> None:
    ran = closed.doit(under=bound())
    assert (ran.code, failures(ran)) == (0, {})


@pytest.mark.error("StateUnwritable")
@pytest.mark.parametrize("command", ["deploy", "plan"])
def test_a_step_that_cannot_forget_its_receipt_does_not_run(command: str, closed: Repository) -> None:
    closed.write("fraud.py", closed.read("fraud.py") + "LIMIT = 1\n")
    ran = closed.doit(command, under=bound())
    assert (ran.code, failures(ran)) == (1, {"discover:fraud": refusal(closed, "discover")})


@pytest.mark.error("StateUnwritable")
@pytest.mark.parametrize(
    ("command", "step"),
    [
        ("forget deploy:fraud", "deploy"),
        ("forget --all", "discover"),
        ("clean", "deploy"),
        ("clean bundle:fraud", "bundle"),
    ],
)
def test_what_cannot_be_forgotten_is_one_line(command: str, step: str, closed: Repository) -> None:
    ran = closed.doit(*command.split(), under=bound())
    assert (ran.code, ran.err) == (1, f"ERROR: {refusal(closed, step)}\n")


@pytest.mark.error("StateUnwritable")
def test_a_target_that_cannot_be_marked_as_ignored_is_one_line(closed: Repository) -> None:
    ran = closed.doit("ignore", "deploy:fraud", under=bound())
    assert (ran.code, ran.err) == (1, f"ERROR: .flyte-build/doit.json: cannot be written: Permission denied; {MEND}\n")


@pytest.mark.error("StateUnwritable")
def test_a_file_in_the_place_of_a_folder_of_archives_is_named(repository: Repository) -> None:
    assert repository.doit().code == 0
    bundles = repository.folder / ".flyte-build/bundles"
    (archive,) = bundles.iterdir()
    archive.unlink()
    bundles.rmdir()
    bundles.touch()
    ran = repository.doit()
    assert (ran.code, failures(ran)) == (
        1,
        {"bundle:fraud": f"{archive}: cannot be written: Not a directory; {MEND}"},
    )
