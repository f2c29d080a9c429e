"""The programs: unpacked from Debian packages into the engine's folder, so that the system's own stay as they are."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from pathlib import Path

from tests.engine.folder import Folder, Programs, Unavailable
from tests.engine.shell import run, say

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_NEXT = {"bookworm": "trixie"}
"""Bookworm's engine has no buildx and builds for one platform only. The next release's runs on its libc, save runc."""
_ENGINE = ("docker.io", "docker-cli", "docker-buildx", "containerd", "docker-registry")
_OWN = ("runc",)
_OLDER = ("docker.io", "libdevmapper1.02.1")
_TOOLS = {"debootstrap": "debootstrap", "iptables": "iptables", "ip": "iproute2"}
"""Program -> package. These are installed where they are missing."""


def require_machine() -> None:
    """Only root of a Debian machine can start an engine here."""
    if _release().get("ID") != "debian":
        raise Unavailable("the test engine starts on Debian only; elsewhere, tests that need one are skipped")
    if os.geteuid() != 0:
        raise Unavailable("the test engine needs root: it mounts file systems and makes network bridges")


def codename() -> str:
    """The release of this system, such as "bookworm"."""
    return _release()["VERSION_CODENAME"]


def archive() -> str:
    """Where this system gets its packages."""
    targets = run("apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages")
    for line in targets.splitlines():
        suite, _, address = line.partition(" ")
        if suite in (codename(), "stable"):
            return address
    raise Unavailable(f"apt has no source for {codename()}; see /etc/apt/sources.list.d")


def install(folder: Folder) -> None:
    """Install the tools that are missing, and unpack the engine's packages."""
    missing = [package for program, package in _TOOLS.items() if not shutil.which(program)]
    if folder.programs.done.exists() and not missing:
        return
    say("fetching packages")
    run("apt-get", "update", "-qq")
    if missing:
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing)
    if folder.programs.done.exists():
        return
    newer = _NEXT.get(codename())
    with tempfile.TemporaryDirectory(dir=folder.root) as scratch:
        if newer is None:
            _unpack(folder.programs, (*_OWN, *_ENGINE))
        else:
            _unpack(folder.older_programs, _OLDER)
            _unpack(folder.programs, _OWN)
            _unpack(folder.programs, _ENGINE, _other_release(Path(scratch), newer))
            folder.older_programs.done.touch()
    folder.programs.done.touch()


def _unpack(programs: Programs, packages: tuple[str, ...], options: tuple[str, ...] = ()) -> None:
    """Lay packages into a folder, over what is there."""
    programs.root.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=programs.root) as downloads:
        run("apt-get", *options, "download", "-qq", *packages, folder=Path(downloads))
        for package in Path(downloads).iterdir():
            run("dpkg-deb", "--extract", str(package), str(programs.root))


def _other_release(folder: Path, release: str) -> tuple[str, ...]:
    """Options that make apt see the packages of another release alone."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {archive()} {release} main\n")
    settings = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
    }
    options = tuple(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))
    run("apt-get", *options, "update", "-qq")
    return options


def _release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}
