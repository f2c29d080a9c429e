"""What git says of the checkout: for `{git_sha}` and `{git_tag}` in versions, and for links to the source.

The links are those of the SDK's own deploy (github.com and gitlab.com). They name a commit, so they are no part of a
version's content: a commit that changes nothing of a task leaves the task as it is, link and all.
"""

from __future__ import annotations

import subprocess
import threading
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from flyte_build.model import Value

_asking = threading.Lock()
_BLOB = {"github.com": "blob", "gitlab.com": "-/blob"}
"""Host -> what stands between repository and commit in the address of a file."""


class Checkout(Value, frozen=True):
    """A git checkout with a remote that has web pages."""

    top: str
    commit: str
    remote: str
    """`https://HOST/PATH`."""
    clean: bool

    def link(self, file: Path, line: int) -> str:
        """The web address of a line; of the whole file when the tree has changes, whose lines have moved."""
        blob = _BLOB.get(urlsplit(self.remote).hostname or "", "")
        if not blob or not file.is_relative_to(self.top):
            return ""
        address = f"{self.remote}/{blob}/{self.commit}/{file.relative_to(self.top).as_posix()}"
        return f"{address}#L{line}" if self.clean else address


def checkout(folder: Path) -> Checkout | None:
    """The checkout that a folder is in; None when it is in none, or when that has no commit or no remote."""
    top = _ask(folder, "rev-parse", "--show-toplevel")
    commit = top and _ask(folder, "rev-parse", "HEAD")
    remote = commit and _remote(folder)
    if not remote:
        return None
    clean = _ask(folder, "status", "--porcelain") == ""
    return Checkout(top=top, commit=commit, remote=as_https(remote), clean=clean)


def commit(folder: Path) -> str:
    """The commit that is checked out; empty when there is none."""
    return _ask(folder, "rev-parse", "HEAD")


def tag(folder: Path) -> str:
    """The tag of the commit that is checked out; empty when it has none."""
    return _ask(folder, "describe", "--tags", "--exact-match")


def uncommitted(folder: Path) -> tuple[str, ...]:
    """What of a folder is not as it was committed: paths relative to the checkout, as git writes them."""
    changed = _ask(folder, "status", "--porcelain", "--", ".")
    return tuple(line.strip().partition(" ")[2].strip() for line in changed.splitlines())


def _remote(folder: Path) -> str:
    origin = _ask(folder, "remote", "get-url", "--push", "origin")
    if origin:
        return origin
    others = sorted(_ask(folder, "remote").split())
    return _ask(folder, "remote", "get-url", "--push", others[0]) if others else ""


def as_https(remote: str) -> str:
    """The web address of a remote, without the user names, tokens and ports that it may hold."""
    remote = remote.removesuffix(".git")
    if remote.startswith("git@"):
        return f"https://{remote.removeprefix('git@').replace(':', '/', 1)}"
    parts = urlsplit(remote)
    return f"https://{parts.hostname}{parts.path}" if parts.hostname else remote


def forget() -> None:
    """Ask git again: a new run begins."""
    _answer.cache_clear()


def _ask(folder: Path, *words: str) -> str:
    """What `git WORDS` prints, asked once in a run; empty when git cannot be run or fails."""
    with _asking:  # threads that want the same answer wait for the first
        return _answer(folder, *words)


@cache
def _answer(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, check=False)
    except OSError:
        return ""
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""
