"""README's troubleshooting list is headed by what the code really says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VALUE = "\0"
"""Stands for what a message fills in."""
_FILLED_IN = re.compile(r"`[^`]*`|\b\d+\b|\.\.\.|\b[A-Z]\w+Error\b")


def literals() -> list[str]:
    """The texts that head the entries of "When something fails"."""
    text = (ROOT / "README.md").read_text()
    section = text.partition("\n## When something fails\n")[2].partition("\n## ")[0]
    return re.findall(r"^\*\*`(.+?)`?\*\*", section, re.MULTILINE)


def texts() -> Iterator[str]:
    """Each text in the code, as a template: `VALUE` where something is filled in."""
    for path in (ROOT / "flyte_build").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def said(literal: str, text: str) -> bool:
    """Whether a template can have given a text: all that is not filled in is there, in the same order."""
    parts = [part for part in (part.strip() for part in _FILLED_IN.split(literal)) if part]
    return bool(parts) and re.search(".*".join(map(re.escape, parts)), text, re.DOTALL) is not None


def test_there_is_a_list() -> None:
    assert len(literals()) >= 8


@pytest.mark.parametrize("literal", literals())
def test_each_entry_is_headed_by_what_the_code_says(literal: str) -> None:
    assert any(said(literal, text) for text in texts())


@pytest.mark.parametrize("literal", ["loading did never end within 300 s", "is different already has a version", "300"])
def test_what_the_code_does_not_say_would_be_found(literal: str) -> None:
    assert not any(said(literal, text) for text in texts())
