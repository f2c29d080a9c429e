"""What a target cannot be bundled or bound with: each message whole, and the exit code, through the command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.repository import WORKFLOW, Ran, Repository, environment, failures
from tests.unprivileged import bound


class Case(NamedTuple):
    error: str
    """The class."""
    key: str
    """What the target's table has besides."""
    expected: str
    """The message, whole."""
    step: str = "bundle"


CASES = {
    "empty": Case(
        "BundleEmpty",
        'exclude = ["*.py"]',
        "[targets.empty]: the bundle would be empty, since `exclude` leaves out every file that was loaded; "
        'narrow `exclude`, or set `copy_style = "none"` for code that is in the image',
        step="serialize",
    ),
    "long": Case(
        "VersionTooLong",
        f'version = "{"v" * 64}"',
        f"[targets.long] version: `{'v' * 64}` has 64 characters, and Flyte takes 63; write a shorter one",
        step="serialize",
    ),
    "nothing": Case(
        "IncludeMatchesNothing",
        'include = ["data/*.csv"]',
        "[targets.nothing] include: `data/*.csv` matches no file; correct it, or take it out",
    ),
    "secret": Case(
        "IncludeMatchesNothing",
        'include = ["settings/*"]',
        "[targets.secret] include: `settings/*` matches only files that are left out, such as `settings/.env`; "
        "name each file in full to bundle it all the same",
    ),
    "outside": Case(
        "IncludeOutsideRoot",
        'include = ["../x.txt"]',
        "[targets.outside] include: `../x.txt` lies outside the root `.`, and a bundle holds only what is inside; "
        "set `root_dir` to a folder that holds both",
    ),
    "leaves": Case(
        "SymlinkLeavesRoot",
        'include = ["leaves.txt"]',
        "leaves.txt: symbolic link leaves the root, for `/etc/hostname`; copy what it leads to into the root, "
        "or leave it out with `exclude`",
    ),
    "broken": Case(
        "SymlinkBroken",
        'include = ["broken.txt"]',
        "broken.txt: symbolic link to `nowhere`, which does not exist; mend it, or leave it out with `exclude`",
    ),
    "loops": Case(
        "SymlinkLoops",
        'include = ["one"]',
        "one: symbolic link to `other` goes round in a loop; remove it, or leave it out with `exclude`",
    ),
    "loops_up": Case(
        "SymlinkLoops",
        'include = ["round"]',
        "round/up: symbolic link to `..` goes round in a loop; remove it, or leave it out with `exclude`",
    ),
    "fifo": Case(
        "NotARegularFile",
        'include = ["pipe"]',
        "pipe: a FIFO, which cannot be bundled; remove it, or leave it out with `exclude`",
    ),
    "closed": Case(
        "FileUnreadable",
        'include = ["closed.txt"]',
        "closed.txt: cannot be read: Permission denied; make it readable, or leave it out with `exclude`",
    ),
    "closed_folder": Case(
        "FileUnreadable",
        'include = ["closed"]',
        "closed: cannot be read: Permission denied; make it readable, or leave it out with `exclude`",
    ),
    "name": Case(
        "NameNotUtf8",
        'include = ["names"]',
        "names/caf\\xe9.txt: name is not UTF-8; rename it, or leave out the folder that it is in with `exclude`",
    ),
    "busy": Case(
        "FileKeepsChanging",
        'include = ["busy.log"]',
        "busy.log: changed each of the 5 times that it was read; stop what writes to it, "
        "or leave it out with `exclude`",
    ),
    "large": Case(
        "BundleTooLarge",
        'max_bundle_size = "1MB"\ninclude = ["data.bin"]',
        "[targets.large]: bundle of 2.0 MB is above the 1.0 MB allowed; leave files out with `exclude` or "
        ".flyteignore, or raise `max_bundle_size`; its largest files:\n      2.0 MB  data.bin\n      0.0 MB  fraud.py",
    ),
}

WRITER = """\
from flyte_build.dodo import *

import sys
import threading


def write_when_read(frame, event, function):
    # What another program does that never stops writing, at the worst of moments: each time between `open` and `read`.
    if event == "c_call" and function.__name__ == "read" and getattr(function.__self__, "name", "") == BUSY:
        with open(BUSY, "ab") as file:
            file.write(b".")


BUSY = {path!r}
sys.setprofile(write_when_read)
threading.setprofile(write_when_read)
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("repository").resolve()
    tables = [f'[targets.{name}]\npath = "fraud.py"\nenvironment = "env"\n{case.key}\n' for name, case in CASES.items()]
    files = {"settings/.env": "", "closed.txt": "", "closed/a.txt": "", "round/a.txt": "", "busy.log": ""}
    repository = Repository(folder, {"fraud.py": WORKFLOW, "deploy.toml": "\n".join(tables), **files})
    repository.write("dodo.py", WRITER.format(path=os.fsencode(folder / "busy.log")))
    for link, target in {
        "leaves.txt": "/etc/hostname",
        "broken.txt": "nowhere",
        "one": "other",
        "other": "one",
    }.items():
        (folder / link).symlink_to(target)
    (folder / "round/up").symlink_to("..")
    os.mkfifo(folder / "pipe")
    (folder / "names").mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/names/caf\xe9.txt")).touch()
    (folder / "data.bin").write_bytes(bytes(2_000_000))
    (folder / "closed.txt").chmod(0)
    (folder / "closed").chmod(0)
    try:
        return repository.doit(under=bound())
    finally:
        (folder / "closed").chmod(0o700)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.error(CASES[name].error)) for name in CASES])
def test_what_cannot_be_bundled_or_bound_says_what_and_what_to_do(name: str, ran: Ran) -> None:
    assert failures(ran)[f"{CASES[name].step}:{name}"] == CASES[name].expected


def test_each_fails_for_its_target_alone_and_the_command_ends_with_1(ran: Ran) -> None:
    assert (ran.code, sorted(failures(ran))) == (1, sorted(f"{case.step}:{name}" for name, case in CASES.items()))


@pytest.mark.error("FileVanished")
def test_a_module_that_is_gone_when_it_is_to_be_bundled_is_named(repository: Repository) -> None:
    repository.write("rates.py", "import os\n\nos.unlink(__file__)\n")
    repository.write("fraud.py", "import rates\n" + environment("fraud"))
    ran = repository.doit()
    assert (ran.code, failures(ran)) == (
        1,
        {
            "bundle:fraud": "rates.py: was there a moment ago, and is gone; deploy again, "
            "or leave it out with `exclude` if it comes and goes"
        },
    )


@pytest.mark.error("StepNotDone")
def test_a_step_asked_for_alone_says_which_one_it_needs(repository: Repository) -> None:
    ran = repository.doit("-s", "deploy:fraud")
    assert (ran.code, failures(ran)) == (
        1,
        {
            "deploy:fraud": "deploy:fraud: needs `serialize:fraud`, which was not done; "
            "run `doit deploy:fraud` without `-s`"
        },
    )
