"""For tests of what only another machine would show: a full disk, a port that may not be used."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def apart(kind: str) -> tuple[str, ...]:
    """The words before a command that give it a namespace of its own, such as `mount` or `net`, and the right to it.

    Skips the test where the system grants that to nobody, as some containers do.
    """
    words = ("unshare", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")), f"--{kind}")
    if not shutil.which("unshare") or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("the system lets nobody make namespaces")
    return words


def with_small_disk(folder: str, limit: str) -> tuple[str, ...]:
    """The words before a command that, for it alone, make `folder` a file system of its own. See `apart`.

    Args:
        limit: An option of tmpfs, such as `size=16k`, or `nr_inodes=2` for one file.
    """
    mount = f'mkdir -p {folder} && mount -t tmpfs -o {limit} none {folder} && exec "$@"'
    return (*apart("mount"), "sh", "-c", mount, "sh")
