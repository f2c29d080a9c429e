"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.fixtures import engine as engine
from tests.engine.fixtures import image_name as image_name
from tests.repository import Repository, small


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with one target, `fraud`, of one task."""
    return small(tmp_path)
