"""For tests of permissions, which do not bind the superuser."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_NOBODY = 65534


@contextlib.contextmanager
def unprivileged() -> Iterator[Path]:
    """An empty folder to work in, as a user whom file modes bind."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        if user == 0:
            os.seteuid(_NOBODY)
        try:
            yield Path(folder)
        finally:
            os.seteuid(user)
