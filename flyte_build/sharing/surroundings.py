"""What results depend on besides the repository, told in a way that is the same on every machine that has the same."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flyte_build import __version__
from flyte_build.project import MODULES, PATH_FILES, folders_of_installed
from flyte_build.state import digest

if TYPE_CHECKING:
    from flyte_build.project import Project

_INSTALLER = re.compile(r"^[^,]*\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json|uv_\w+\.json)\b")
"""Lines of RECORD that tell how a distribution came here, not what is in it."""
_SCRIPT = re.compile(r"/|(\.\./)+bin/")
_LOOPBACK = re.compile(
    r"(^|/|@)(([\w-]+\.)*localhost|([\w-]+\.)+docker\.internal|127(\.\d+){3}|\[::1\]|0\.0\.0\.0)\.?(:|/|$)",
    re.IGNORECASE,
)
_IDENTITY = ("/etc/machine-id", "/proc/sys/kernel/random/boot_id")
"""Machines that are made from one image, such as those of CI, share the first, and often their name."""


def surroundings(project: Project) -> str:
    """Digest of flyte_build, Python, the platform and what is installed."""
    python = (sys.implementation.name, *map(str, sys.version_info), getattr(sys, "abiflags", ""))
    platform = (sys.platform, os.uname().machine)
    return digest.of_parts("surroundings", (__version__, *python, *platform, *_distributions(project.folder)))


def _distributions(manifest: Path) -> Iterator[str]:
    for folder in folders_of_installed():
        yield "folder"
        names = sorted(os.listdir(folder) if os.path.isdir(folder) else ())
        owned = {"__pycache__"}
        for name in names:
            path = Path(folder, name)
            if name.endswith((".dist-info", ".egg-info")):
                record = _text(path / "RECORD")
                owned |= {name, *_tops(record)}
                yield from (name, *contents(record))
            elif name.endswith(PATH_FILES):
                owned.add(name)
                yield from (name, _text(path).replace(f"{manifest}{os.sep}", "").replace(f"{manifest}\n", ".\n"))
        for name in names:
            if name not in owned:
                yield from (name, _text(Path(folder, name)) if name.endswith(MODULES) else "")


def _tops(record: str) -> set[str]:
    """What the files of a RECORD are in, or are, in the folder of distributions."""
    return {re.split("[/,]", line, maxsplit=1)[0] for line in record.splitlines()}


def contents(record: str) -> list[str]:
    """Lines of a RECORD for what is in the distribution: no scripts, whose first line names the environment's path."""
    return sorted(
        line
        for line in record.splitlines()
        if ".pyc," not in line and ".pth," not in line
        if not _INSTALLER.match(line) and not _SCRIPT.match(line)
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="surrogateescape")
    except OSError:
        return ""


def machine_of(*addresses: str) -> str:
    """What tells this machine from others, when one of the addresses is its own loopback; else empty."""
    if not any(map(is_loopback, addresses)):
        return ""
    return digest.of_parts("machine", (os.uname().nodename, *map(_text, map(Path, _IDENTITY)), *_container()))


def _container() -> Iterator[str]:
    """What tells containers of one host apart: their network, and when their first process started."""
    with contextlib.suppress(OSError):
        yield os.readlink("/proc/self/ns/net")
    yield from _text(Path("/proc/1/stat")).rpartition(")")[2].split()[19:20]


def is_loopback(address: str) -> bool:
    """Whether an endpoint, URL or registry names the machine that asks."""
    return bool(_LOOPBACK.search(address))
