from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flyte_build import git
from flyte_build.git import Checkout, as_https, checkout, commit, tag


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("git@github.com:org/repo.git", "https://github.com/org/repo"),
        ("https://github.com/org/repo.git", "https://github.com/org/repo"),
        ("https://gitlab-ci-token:SECRET@gitlab.com/org/repo.git", "https://gitlab.com/org/repo"),
        ("https://user@github.com/org/repo", "https://github.com/org/repo"),
        ("ssh://git@github.com:22/org/repo.git", "https://github.com/org/repo"),
    ],
)
def test_the_address_of_a_remote_holds_no_user_token_or_port(remote: str, address: str) -> None:
    assert as_https(remote) == address


def test_a_link_names_the_line_only_when_the_tree_is_clean() -> None:
    here = Checkout(top="/work", commit="abc", remote="https://github.com/org/repo", clean=True)
    assert here.link(Path("/work/a/b.py"), 7) == "https://github.com/org/repo/blob/abc/a/b.py#L7"
    changed = Checkout(top="/work", commit="abc", remote="https://gitlab.com/org/repo", clean=False)
    assert changed.link(Path("/work/a/b.py"), 7) == "https://gitlab.com/org/repo/-/blob/abc/a/b.py"


@pytest.mark.parametrize("remote", ["https://example.com/org/repo", "/srv/git/repo"])
def test_a_host_without_known_pages_gets_no_link(remote: str) -> None:
    assert Checkout(top="/work", commit="abc", remote=remote, clean=True).link(Path("/work/a.py"), 1) == ""


def test_a_file_outside_the_checkout_gets_no_link() -> None:
    here = Checkout(top="/work", commit="abc", remote="https://github.com/org/repo", clean=True)
    assert here.link(Path("/elsewhere/a.py"), 1) == ""


def test_a_folder_without_git_has_no_commit_tag_or_checkout(tmp_path: Path) -> None:
    assert (commit(tmp_path), tag(tmp_path), checkout(tmp_path)) == ("", "", None)


def test_threads_that_ask_at_once_share_one_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin/git"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/calls\necho 0123abc\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    git.forget()
    together = threading.Barrier(8)

    def ask(_number: int) -> str:
        together.wait()
        return git.commit(tmp_path)

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, range(8))) == {"0123abc"}
    assert (tmp_path / "calls").read_text() == "asked\n"
    git.forget()
