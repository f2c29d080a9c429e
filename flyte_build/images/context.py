"""The build context: which files it has, and its canonical tar, which is the same for the same files on every machine.

Folders are copied by the rules of .dockerignore. Beyond them, some are never part of a context, since they change
without anybody's doing: this project's own state, `__pycache__`, and, of what layers copy, virtual environments.

A symbolic link below a folder that a layer copies counts as what it leads to, as with the SDK; in the folder of the
user's own Dockerfile it stays a link, as with `docker build`.
"""

from __future__ import annotations

import os
import posixpath
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

from flyte_build.errors import ImageFileMissing, ImageFileUnusable
from flyte_build.images.dockerignore import Rules
from flyte_build.model import Value
from flyte_build.state import digest
from flyte_build.state.files import entry_text
from flyte_build.state.folder import StateFolder
from flyte_build.state.trace import listing_digest

_CHUNK = 1 << 20
_NEVER = (".flyte-build", "__pycache__")
_NEVER_STARTS = ".doit.db"
_CHANGED = "it changed while it was read"


@dataclass
class Seen:
    """What planning looked at, by absolute path, as a trace has it: a change that comes later is one against it."""

    files: dict[str, str] = field(default_factory=dict)
    """-> digest and executable bit."""
    folders: dict[str, str] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)

    def read(self, path: str) -> bytes:
        """The content of a file that must be there.

        Raises:
            ImageFileMissing
            ImageFileUnusable: it cannot be read.
        """
        self.require_file(path)
        try:
            with open(path, "rb") as file:
                mode, data = os.fstat(file.fileno()).st_mode, file.read()
        except OSError as error:
            raise ImageFileUnusable(path=path, reason=_reason(error)) from error
        self.note(path, digest.of_bytes(data), mode)
        return data

    def read_if_there(self, path: str) -> bytes | None:
        """The content of a file that need not be there."""
        if os.path.isfile(path):
            return self.read(path)
        self.missing.add(path)
        return None

    def require_file(self, path: str) -> None:
        """Raises:
        ImageFileMissing
        """
        if not os.path.isfile(path):
            self.missing.add(path)
            found = "folder" if os.path.isdir(path) else _kind(path) if os.path.exists(path) else ""
            raise ImageFileMissing(kind="file", path=path, found=found)

    def note(self, path: str, content: str, mode: int) -> None:
        """Keep what a file was when it was read."""
        state = f"{content}:{'x' if mode & stat.S_IXUSR else '-'}"
        if not state.startswith(self.files.get(path, "")):
            raise ImageFileUnusable(path=path, reason=_CHANGED)
        self.files[path] = state


class Member(NamedTuple):
    """One entry of a context: a file on disk, a text, a link or (with none of these) a folder."""

    source: str = ""
    text: bytes | None = None
    link: str = ""


class Written(Value, frozen=True):
    """A context that is kept."""

    digest: str = ""
    files: int = 0
    size: int = 0
    """Bytes of the files."""


class Tree(NamedTuple):
    """How a folder is read."""

    rules: Rules
    base: str = ""
    """The folder's path from where the rules' patterns start."""
    is_docker_folder: bool = False
    """Whether it is the context of the user's own Dockerfile: links stay links, and empty folders count."""


# --- which files


def walk(top: str, tree: Tree, seen: Seen) -> Iterator[tuple[str, Member]]:
    """The members below a folder, by path relative to it.

    Raises:
        ImageFileMissing: there is no such folder.
        ImageFileUnusable: something below it cannot be part of a context.
    """
    if not os.path.isdir(top):
        seen.missing.add(top)
        raise ImageFileMissing(kind="folder", path=top, found="file" if os.path.exists(top) else "")
    yield from _walk(top, "", tree, seen, (os.path.realpath(top),))


def _walk(folder: str, below: str, tree: Tree, seen: Seen, parents: tuple[str, ...]) -> Iterator[tuple[str, Member]]:
    entries = _entries(folder, seen)
    if "pyvenv.cfg" in entries and not tree.is_docker_folder and below:
        return
    for name, entry in sorted(entries.items()):
        path = posixpath.join(below, name)
        if name in _NEVER or name.startswith(_NEVER_STARTS):
            continue
        ruled = posixpath.join(tree.base, path)
        is_left_out = tree.rules.leaves_out(ruled)
        is_link = entry.is_symlink() and tree.is_docker_folder
        is_folder = not is_link and _is(entry.is_dir)
        if is_left_out and not (is_folder and tree.rules.may_take_back(ruled)):
            continue
        if is_folder:
            if tree.is_docker_folder and not is_left_out:
                yield path, Member()
            real = _entered(entry.path, parents) if entry.is_symlink() else posixpath.join(parents[-1], name)
            yield from _walk(entry.path, path, tree, seen, (*parents, real))
        elif is_link:
            yield path, Member(link=os.readlink(entry.path))
        elif _is(entry.is_file):
            yield path, Member(source=entry.path)
        else:
            raise ImageFileUnusable(path=entry.path, reason=_oddity(entry.path))


def _entries(folder: str, seen: Seen) -> dict[str, os.DirEntry[str]]:
    try:
        with os.scandir(folder) as listing:
            entries = {entry.name: entry for entry in listing}
        seen.folders[folder] = listing_digest(sorted(map(entry_text, entries.values())))
    except OSError as error:
        raise ImageFileUnusable(path=folder, reason=_reason(error)) from error
    unnameable = [name for name in entries if not _is_utf8(name)]
    if unnameable:
        name = os.fsencode(unnameable[0]).decode(errors="backslashreplace")
        raise ImageFileUnusable(path=f"{folder}/{name}", reason="its name is not UTF-8")
    return entries


def _entered(path: str, parents: tuple[str, ...]) -> str:
    """Where a link to a folder leads, which must be no folder that it is in."""
    real = os.path.realpath(path)
    if any(parent == real or parent.startswith(f"{real}/") for parent in parents):
        raise ImageFileUnusable(path=path, reason=f"it is a symbolic link to `{os.readlink(path)}`, which it is in")
    return real


def _is(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:  # a link that loops
        return False


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _oddity(path: str) -> str:
    if os.path.islink(path) and not os.path.exists(path):
        return f"it is a symbolic link to `{os.readlink(path)}`, which does not exist"
    return f"it is a {_kind(path)}"


def _kind(path: str) -> str:
    """What is neither a file nor a folder."""
    mode = os.stat(path).st_mode
    return "FIFO" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"


# --- the archive


def keep(members: dict[str, Member], seen: Seen, folder: StateFolder) -> Written:
    """Write the tar of members, by their place in it, under its digest in the state folder.

    Raises:
        ImageError: a file cannot be read, or changes while it is read.
        StateUnwritable: the disk is full, or the folder may not be written.
    """
    if not members:
        return Written()
    sizes: list[int] = []
    kept = folder.put_pieces(_tar(_with_folders(members), seen, sizes))
    return Written(digest=kept, files=len(sizes), size=sum(sizes))


def _with_folders(members: dict[str, Member]) -> dict[str, Member]:
    """The same with every folder above them: what unpacks a tar may give those that it has to make odd modes."""
    above = {str(parent) for place in members for parent in PurePosixPath(place).parents} - {"."}
    return {**dict.fromkeys(above, Member()), **members}


def _tar(members: dict[str, Member], seen: Seen, sizes: list[int]) -> Iterator[bytes]:
    """The archive in pieces: sorted, mode 0644 or 0755, owner 0, time 0. `sizes` gets those of the files."""
    for place, member in sorted(members.items(), key=lambda item: item[0].encode()):
        if member.text is not None:
            sizes.append(len(member.text))
            yield _header(place, size=len(member.text)) + member.text + bytes(-len(member.text) % tarfile.BLOCKSIZE)
        elif member.source:
            yield from _file(place, member.source, seen, sizes)
        else:
            yield _header(place, kind=tarfile.SYMTYPE if member.link else tarfile.DIRTYPE, link=member.link, mode=0o755)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _file(place: str, path: str, seen: Seen, sizes: list[int]) -> Iterator[bytes]:
    hasher, size = digest.hasher(), 0
    try:
        with open(path, "rb", buffering=0) as file:
            found = os.fstat(file.fileno())
            yield _header(place, size=found.st_size, mode=0o755 if found.st_mode & stat.S_IXUSR else 0o644)
            while chunk := file.read(_CHUNK):
                hasher.update(chunk)
                size += len(chunk)
                yield chunk
    except OSError as error:
        raise ImageFileUnusable(path=path, reason=_reason(error)) from error
    if size != found.st_size:
        raise ImageFileUnusable(path=path, reason=_CHANGED)
    seen.note(path, hasher.hexdigest(), found.st_mode)
    sizes.append(size)
    yield bytes(-size % tarfile.BLOCKSIZE)


def _header(place: str, *, size: int = 0, mode: int = 0o644, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(place)
    info.size, info.mode, info.mtime, info.type, info.linkname = size, mode, 0, kind, link
    return info.tobuf(tarfile.PAX_FORMAT, encoding="utf-8", errors="strict")


def _reason(error: OSError) -> str:
    return f"it cannot be read ({error.strerror or error})"
