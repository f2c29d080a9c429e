"""For tests of what a process may do: permissions, which do not bind the superuser, and hard links."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_NOBODY = 65534
_GIVE_UP = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_NET_BIND_SERVICE = 24, 1, 2, 10
for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_NET_BIND_SERVICE):
    if ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
        sys.exit("cannot give up a capability")
os.execv(sys.argv[1], sys.argv[1:])
"""

_LINK_NOTHING = """
import ctypes, os, platform, struct, sys
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, EQUAL, RETURN, ALLOW, REFUSE = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050000 | 1  # EPERM, as such file systems say
LINK, LINKAT = {"x86_64": (86, 265), "aarch64": (37, 37)}[platform.machine()]
steps = [(LOAD, 0, 0, 0), (EQUAL, 1, 0, LINK), (EQUAL, 0, 1, LINKAT), (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program)))
prctl = ctypes.CDLL(None).prctl
if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter, 0, 0):
    sys.exit("cannot filter calls of the system")
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


def without_hard_links() -> tuple[str, ...]:
    """The words before a command for which the system makes no hard links, as on some file systems."""
    words = (sys.executable, "-c", _LINK_NOTHING)
    if subprocess.run([*words, sys.executable, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip("the system lets nobody filter its calls")
    return words
