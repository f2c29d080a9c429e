"""Versions: what fills the placeholders of a target's `version`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from flyte_build import git
from flyte_build.errors import VersionVariableUnset, VersionWithoutGit
from flyte_build.model import Target

CONTENT = "{content}"
_PLACEHOLDER = re.compile(r"\{(git_sha|git_tag|env:([^}]*))\}")


def is_explicit(template: str) -> bool:
    """Whether a version says nothing of the content, so that one version may be asked for with two contents."""
    return CONTENT not in template


def fill(target: Target, folder: Path, environ: Mapping[str, str]) -> str:
    """A target's version with everything filled in but `{content}`.

    Raises:
        StepError: git or the environment has no value for a placeholder.
    """

    def value(match: re.Match[str]) -> str:
        placeholder, variable = match.groups()
        if variable is not None:
            if variable not in environ:
                raise VersionVariableUnset(place=target.place("version"), name=variable)
            return environ[variable]
        found = git.commit(folder) if placeholder == "git_sha" else git.tag(folder)
        if not found:
            reason = "no commit is checked out" if placeholder == "git_sha" else "the commit has no tag"
            raise VersionWithoutGit(place=target.place("version"), placeholder=placeholder, reason=reason)
        return found

    return _PLACEHOLDER.sub(value, target.version)
