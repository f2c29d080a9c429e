"""For tests of permissions, which do not bind the superuser."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_NOBODY = 65534
_GIVE_UP = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_NET_BIND_SERVICE = 24, 1, 2, 10
for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_NET_BIND_SERVICE):
    if ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
        sys.exit("cannot give up a capability")
os.execv(sys.argv[1], sys.argv[1:])
"""


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


def bound() -> tuple[str, ...]:
    """The words before a command that let file modes and reserved ports bind it, also when the superuser runs it."""
    return (sys.executable, "-c", _GIVE_UP)
