"""What a target cannot be bundled or bound with: each message whole, and the exit code, through the command."""

from __future__ import annotations

import os
from pathlib import Path

from tests.repository import Repository, failures, small

CASES = {
    "empty": 'exclude = ["*.py"]',
    "long": 'version = "' + "v" * 64 + '"',
    "nothing": 'include = ["data/*.csv"]',
    "outside": 'include = ["../x.txt"]',
    "leaves": 'include = ["leaves.txt"]',
    "broken": 'include = ["broken.txt"]',
    "fifo": 'include = ["pipe"]',
    "large": "max_bundle_size = 10",
}


def repository_of_cases(folder: Path) -> Repository:
    repository = small(folder)
    tables = [f'[targets.{name}]\npath = "fraud.py"\nenvironment = "env"\n{line}\n' for name, line in CASES.items()]
    repository.write("deploy.toml", "\n".join(tables))
    os.symlink("/etc/hostname", folder / "leaves.txt")
    os.symlink("nowhere", folder / "broken.txt")
    os.mkfifo(folder / "pipe")
    return repository


WANTED = {
    "bundle:nothing": "targets.nothing: include `data/*.csv` matches no file; correct it, or take it out",
    "bundle:outside": (
        "targets.outside: include `../x.txt` lies outside the root `.`, and a bundle holds only what is inside; "
        "set `root_dir` to a folder that holds both"
    ),
    "bundle:leaves": (
        "leaves.txt: symbolic link leaves the root, for `/etc/hostname`; copy what it leads to into the root, "
        "or leave it out with `exclude`"
    ),
    "bundle:broken": (
        "broken.txt: symbolic link to `nowhere`, which does not exist; mend it, or leave it out with `exclude`"
    ),
    "bundle:fifo": "pipe: a FIFO, which cannot be bundled; remove it, or leave it out with `exclude`",
    "bundle:large": (
        "targets.large: bundle of 0.0 MB is above the 0.0 MB allowed; leave files out with `exclude` or .flyteignore, "
        "or raise `max_bundle_size`; its largest files:\n      0.0 MB  fraud.py"
    ),
    "serialize:empty": (
        "[targets.empty]: the bundle would be empty, since `exclude` leaves out every file that was loaded; "
        'narrow `exclude`, or set `copy_style = "none"` for code that is in the image'
    ),
    "serialize:long": (
        f"[targets.long] version: `{'v' * 64}` has 64 characters, and Flyte takes 63; write a shorter one"
    ),
}


def test_what_cannot_be_bundled_or_bound_is_said_and_ends_with_1(tmp_path: Path) -> None:
    ran = repository_of_cases(tmp_path).doit()
    assert (ran.code, failures(ran)) == (1, WANTED)


def test_a_step_asked_for_alone_says_which_one_it_needs(repository: Repository) -> None:
    ran = repository.doit("-s", "deploy:fraud")
    assert (ran.code, failures(ran)) == (
        1,
        {
            "deploy:fraud": "deploy:fraud: needs `serialize:fraud`, which was not done; "
            "run `doit deploy:fraud` without `-s`"
        },
    )
