"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.repository import Repository, small


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with one target, `fraud`, of one task."""
    return small(tmp_path)
