"""What results depend on besides the repository, told in a way that is the same on every machine that has the same."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flyte_build import __version__
from flyte_build.state import digest

if TYPE_CHECKING:
    from flyte_build.project import Project

_INSTALLER = re.compile(r"^[^,]*\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json|uv_\w+\.json)\b")
"""Lines of RECORD that tell how a distribution came here, not what is in it."""
_LOOPBACK = re.compile(r"(^|//|/|@)(localhost|127\.\d+\.\d+\.\d+|\[::1\]|0\.0\.0\.0)(:|/|$)")


def surroundings(project: Project) -> str:
    """Digest of flyte_build, Python, the platform and what is installed."""
    python = (sys.implementation.name, *map(str, sys.version_info), getattr(sys, "abiflags", ""))
    platform = (sys.platform, os.uname().machine)
    return digest.of_parts("surroundings", (__version__, *python, *platform, *_distributions(project.folder)))


def _distributions(manifest: Path) -> Iterator[str]:
    for folder in (path for path in sys.path if path.endswith(("site-packages", "dist-packages"))):
        yield "folder"
        for name in sorted(os.listdir(folder) if os.path.isdir(folder) else ()):
            path = Path(folder, name)
            if name.endswith((".dist-info", ".egg-info")):
                yield from (name, *contents(_text(path / "RECORD")))
            elif name.endswith((".pth", ".egg-link")):
                yield from (name, _text(path).replace(f"{manifest}{os.sep}", "").replace(f"{manifest}\n", ".\n"))


def contents(record: str) -> list[str]:
    """Lines of a RECORD for what is in the distribution: no scripts, whose first line names the environment's path."""
    return sorted(
        line
        for line in record.splitlines()
        if not line.startswith(("../", "/")) and ".pyc," not in line and ".pth," not in line
        if not _INSTALLER.match(line)
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
    return digest.of_parts("machine", (os.uname().nodename, _text(Path("/etc/machine-id"))))


def is_loopback(address: str) -> bool:
    """Whether an endpoint, URL or registry names the machine that asks."""
    return bool(_LOOPBACK.search(address))
