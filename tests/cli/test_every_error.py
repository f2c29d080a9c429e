"""The promise that every error a user can meet is shown by a test that runs the command.

Such a test is marked `@pytest.mark.error("ClassName")`. What nobody can meet is listed here, with the reason.
"""

from __future__ import annotations

import pytest

from flyte_build.errors import BuildError

NEVER_MET = {
    "UploadsNotServed": "the manifest puts a folder in the place of `backend` where the control plane is embedded",
}
"""Class -> why no command and no script can show it."""


class _Marks:
    """Notes the classes that the collected tests name."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.names = {name for item in session.items for mark in item.iter_markers("error") for name in mark.args}


def kinds(family: type[BuildError]) -> set[str]:
    """The classes that can be raised: those that no other class specializes. Tests may have classes of their own."""
    narrower = [kind for kind in family.__subclasses__() if kind.__module__.startswith("flyte_build.")]
    return set().union(*map(kinds, narrower)) if narrower else {family.__name__}


def test_every_error_has_a_test_that_runs_the_command(request: pytest.FixtureRequest) -> None:
    marks = _Marks()
    options = ("--collect-only", "-q", "-m", "error", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-summary")
    ended = pytest.main([*options, str(request.config.rootpath / "tests")], plugins=[marks])
    assert ended == pytest.ExitCode.OK
    assert marks.names == kinds(BuildError) - NEVER_MET.keys()
