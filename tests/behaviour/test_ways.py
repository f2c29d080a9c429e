"""One target deployed in several ways: each profile, project and domain has receipts of its own."""

from __future__ import annotations

from pathlib import Path

from tests.repository import Repository, small

TWO_WAYS = """
    [targets.fraud]
    path = "fraud.py"
    environment = "env"

    [profiles.prod.flyte]
    domain = "production"
"""


def test_deploying_here_and_there_in_turn_finds_nothing_to_do(tmp_path: Path) -> None:
    repository = small(tmp_path, deploy__toml="")
    repository.write("deploy.toml", TWO_WAYS)
    assert "registered 1 task" in repository.doit().err
    assert "registered 1 task" in repository.doit("profile=prod").err
    assert repository.doit().err.startswith("fresh     fraud\n")
    assert repository.doit("profile=prod").err.startswith("fresh     fraud\n")
    assert "registered 1 task" in repository.doit("domain=staging").err


def test_a_second_manifest_in_the_folder_does_not_take_the_first_ones_receipts(repository: Repository) -> None:
    repository.write("other.toml", repository.read("deploy.toml").replace('"env"', '"env"\nversion = "v2"'))
    repository.doit()
    assert "version v2" in repository.doit("manifest=other.toml").err
    assert repository.doit().err.startswith("fresh     fraud\n")
