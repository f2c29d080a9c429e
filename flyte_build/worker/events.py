"""The audit events that the recorder listens to."""

from __future__ import annotations

import os
from typing import Any

OPAQUE = {
    "subprocess.Popen": "started `{0}`",
    "os.system": "started `{0}`",
    "os.exec": "started `{0}`",
    "os.fork": "started a process",
    "os.forkpty": "started a process",
    "os.posix_spawn": "started `{0}`",
    "os.spawn": "started `{1}`",
    "cpython.PyInterpreterState_New": "started an interpreter",
    "socket.connect": "made a network connection",
    "socket.sendto": "made a network connection",
    "socket.sendmsg": "made a network connection",
    "socket.getaddrinfo": "looked up host `{0}`",
    "socket.gethostbyname": "looked up host `{0}`",
    "socket.gethostbyaddr": "looked up host `{0}`",
}
"""Those whose inputs cannot be seen, and what a line that causes one did."""
HEARD = {
    *("open", "os.link", "os.listdir", "os.mkdir", "os.rename", "os.scandir", "os.symlink"),
    *("ctypes.dlopen", "import", "sqlite3.connect", *OPAQUE),
}
"""Audit events that are of interest. Most are not: an attribute that is asked for is one, too."""


def first_word(argument: Any) -> str:
    """Of an argument of an event, such as a command line, what a message says."""
    if isinstance(argument, list | tuple):
        argument = argument[0] if argument else ""
    return os.fsdecode(argument) if isinstance(argument, str | bytes | os.PathLike) else str(argument)
