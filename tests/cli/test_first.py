from __future__ import annotations

from tests.repository import Repository


def test_a_first_deploy_registers_and_a_second_finds_nothing_to_do(repository: Repository) -> None:
    first = repository.doit()
    assert (first.code, first.out) == (0, "")
    assert "registered 1 task" in first.err
    second = repository.doit()
    assert second.code == 0
    assert second.err.startswith("fresh     fraud\n1 target: 1 fresh")
