"""Which files under a root count: ignore files with git's semantics, and what is always left out.

On purpose different from git:

- git's index is not read: a tracked file that an ignore file matches is left out here, while git keeps it;
- `.git/info/exclude` and the user's own `core.excludesFile` differ from machine to machine, and are not read;
- `.flyteignore` lines count as if they followed those of the `.gitignore` beside them;
- a symbolic link counts as what it leads to, so that `venv/` also matches a link to a folder.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from flyte_build.errors import FileUnreadable
from flyte_build.gitignore import NOTHING, Patterns, parse
from flyte_build.model import Value
from flyte_build.state import digest
from flyte_build.state.files import entry_text
from flyte_build.state.trace import listing_digest

IGNORE_FILES = (b".gitignore", b".flyteignore")

_ALWAYS_LEFT_OUT = """
.git
.hg
.svn
.flyte-build
.doit.db*
__pycache__/
*.py[co]
*.egg-info
.eggs/
.venv/
.tox/
.nox/
.cache/
.mypy_cache/
.ruff_cache/
.pytest_cache/
.hypothesis/
.ipynb_checkpoints/
.idea/
.vscode/
.DS_Store
"""
"""Version control, caches, editors' and our own state: never part of what a task runs."""

_ENVIRONMENT_MARKERS = {b"pyvenv.cfg", b"conda-meta", b"CACHEDIR.TAG"}
"""A folder that holds one of these is a virtual environment or a cache."""

_SECRETS = """
.env*
*.pem
*.key
*.p12
*.pfx
*.jks
*.keystore
*.ppk
*.kdbx
id_rsa*
id_dsa*
id_ecdsa*
id_ed25519*
!id_*.py
.ssh/
.gnupg/
.aws/
.azure/
.kube/
**/.config/gcloud/
**/.docker/config.json
.dockercfg
.netrc
_netrc
.pypirc
.npmrc
.pgpass
.git-credentials
.htpasswd
.boto
.s3cfg
kubeconfig*
*.kubeconfig
!kubeconfig*.py
credentials
!credentials/
credentials.json
*_credentials.json
*-credentials.json
client_secret*.json
service[-_]account*.json
serviceaccount*.json
secrets.toml
"""
"""Private keys and credentials, in whatever case they are written: only an `include` that names the file takes one."""


@lru_cache(maxsize=1)
def _always_left_out() -> Patterns:
    return parse(_ALWAYS_LEFT_OUT.encode())


@lru_cache(maxsize=1)
def _secrets() -> Patterns:
    return parse(_SECRETS.encode(), any_case=True)


class Layer(NamedTuple):
    """An ignore file in force: a path under the root becomes `prefix + path[skip:]`, relative to the file's folder."""

    patterns: Patterns
    prefix: bytes = b""
    skip: int = 0

    def verdict(self, path: bytes) -> bool | None:
        return self.patterns.verdict(self.prefix + path[self.skip :])


@dataclass(frozen=True)
class Ignore:
    """What is left out under a root, as far as can be said before folders below it are entered.

    `exclude` is the strongest, then the ignore file that is deepest; in each, the last line that matches. Secrets and
    what is always left out are beyond reach of any line.
    """

    exclude: Patterns = NOTHING
    layers: tuple[Layer, ...] = ()
    """Ignore files in folders above the root, outermost first."""
    files: dict[str, str] = field(default_factory=dict)
    """Their paths, relative to the root -> digest of what was read."""
    missing: tuple[str, ...] = ()
    """What was looked for above the root and not found, relative to the root."""
    nested: bool = True
    """Whether ignore files under the root count."""

    def excludes(self, path: str) -> bool:
        """Whether `exclude` alone leaves out the file `path`, or a folder that it is in."""
        parts = path.encode().split(b"/")
        folders = (b"/".join(parts[:count]) + b"/" for count in range(1, len(parts)))
        return any(self.exclude.verdict(each) for each in (*folders, path.encode()))


def load(root: Path, exclude: Iterable[str] = ()) -> Ignore:
    """The rules for `root`: `exclude` lines, and ignore files of the folders above it, up to that which has `.git`.

    Raises:
        FileUnreadable: an ignore file cannot be read.
    """
    patterns = parse("\n".join(exclude).encode())
    layers: list[Layer] = []
    files: dict[str, str] = {}
    missing: list[str] = []
    folder, up, prefix = os.path.realpath(os.fsencode(root)), "", b""
    while not os.path.lexists(os.path.join(folder, b".git")):
        missing.append(f"{up}.git")
        if os.path.dirname(folder) == folder:
            return Ignore(patterns, missing=tuple(missing))
        folder, name = os.path.split(folder)
        up, prefix = f"../{up}", name + b"/" + prefix
        for ignore_file in reversed(IGNORE_FILES):
            shown = up + ignore_file.decode()
            text = _read(os.path.join(folder, ignore_file), shown)
            if text is None:
                missing.append(shown)
            else:
                files[shown] = digest.of_bytes(text)
                layers.append(Layer(parse(text), prefix))
    return Ignore(patterns, tuple(reversed(layers)), files, tuple(missing))


def _read(path: bytes, shown: str) -> bytes | None:
    """An ignore file's text; None: there is none. As in git, a link is not followed."""
    if os.path.islink(path) or not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise FileUnreadable(path=shown, reason=error.strerror or str(error)) from error


class Scan(Value, frozen=True):
    """What a walk saw. Paths are relative to the root, POSIX, sorted.

    The digests are of what the walk itself read: a change that comes later is one against them.
    """

    files: tuple[str, ...] = ()
    folders: dict[str, str] = {}
    """Every folder that was listed -> digest of its entries; the root is `.`."""
    ignore_files: dict[str, str] = {}
    """-> digest of the content."""
    missing: tuple[str, ...] = ()
    """Looked for and not found."""
    secrets: tuple[str, ...] = ()
    """Left out because they look like keys or credentials, and by nothing else."""
    refused: tuple[str, ...] = ()
    """Neither files nor folders to walk: links that are broken, loop or leave the root, sockets, closed folders."""
    unnameable: tuple[bytes, ...] = ()
    """Names that are not UTF-8."""


def walk(root: Path, ignore: Ignore) -> Iterator[str]:
    """Files under `root` that are not left out, sorted. Hidden files and folders are among them."""
    yield from scan(root, ignore).files


def python_files(root: Path, folder: str, ignore: Ignore) -> list[str]:
    """What recursive discovery loads from `folder`: `*.py` but `__init__.py`, hidden folders left out."""
    files = scan(root, ignore, folder, keep_folder=lambda name: not name.startswith(b".")).files
    return [path for path in files if path.endswith(".py") and os.path.basename(path) != "__init__.py"]


def scan(
    root: Path,
    ignore: Ignore,
    folder: str = "",
    *,
    keep_folder: Callable[[bytes], bool] = lambda name: True,  # noqa: ARG005
) -> Scan:
    """Walk `folder` (relative to `root`; it is entered whatever the rules say of it), never entering what is ignored.

    Links to folders inside the root are followed, except to a folder that the link is in.

    Raises:
        FileUnreadable: an ignore file cannot be read.
    """
    base = os.path.realpath(os.fsencode(root))
    start = b"" if folder in ("", ".") else folder.encode().strip(b"/") + b"/"
    walker = _Walker(base, ignore, keep_folder)
    layers = ignore.layers
    for end in (at for at, char in enumerate(start) if char == ord("/")):
        layers = walker.with_ignore_files(start[: start.rfind(b"/", 0, end) + 1], layers)
    walker.enter(start, layers, (os.path.realpath(os.path.join(base, start)),), chosen=True)
    return walker.result()


class _Walker:
    """The state of one walk."""

    def __init__(self, base: bytes, ignore: Ignore, keep_folder: Callable[[bytes], bool]) -> None:
        self.base, self.ignore, self.keep_folder = base, ignore, keep_folder
        self.seen: dict[str, list[bytes]] = defaultdict(list)
        """Paths, by the field of `Scan` that they belong to."""
        self.folders: dict[bytes, str] = {}
        self.ignore_files: dict[bytes, str] = {}

    def result(self) -> Scan:
        found = (*self.seen["files"], *self.folders, *self.seen["refused"])
        return Scan(
            **{name: tuple(sorted(filter(None, map(_text, paths)))) for name, paths in self.seen.items()},
            folders=_texts(self.folders),
            ignore_files=_texts(self.ignore_files),
            unnameable=tuple(sorted(path for path in found if _text(path) is None)),
        )

    def with_ignore_files(self, folder: bytes, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
        for name in IGNORE_FILES if self.ignore.nested else ():
            text = _read(os.path.join(self.base, folder + name), os.fsdecode(folder + name))
            if text is None:
                self.seen["missing"].append(folder + name)
            else:
                self.ignore_files[folder + name] = digest.of_bytes(text)
                layers += (Layer(parse(text), skip=len(folder)),)
        return layers

    def enter(self, folder: bytes, layers: tuple[Layer, ...], parents: tuple[bytes, ...], chosen: bool = False) -> None:
        """List `folder`, which ends in `/` unless it is the root; `parents` are the real folders that it is in."""
        try:
            with os.scandir(os.path.join(self.base, folder)) as listing:
                entries = {entry.name: entry for entry in listing}
            content = listing_digest(sorted(map(entry_text, entries.values())))
        except OSError:
            self.seen["refused"].append(folder[:-1])
            return
        self.folders[folder[:-1] or b"."] = content
        if not chosen and not _ENVIRONMENT_MARKERS.isdisjoint(entries):
            return
        if not entries.keys().isdisjoint(IGNORE_FILES):
            layers = self.with_ignore_files(folder, layers)
        for name, entry in sorted(entries.items()):
            self.visit(folder + name, entry, layers, parents)

    def visit(
        self, path: bytes, entry: os.DirEntry[bytes], layers: tuple[Layer, ...], parents: tuple[bytes, ...]
    ) -> None:
        is_folder = _leads_to_folder(entry)
        if is_folder and not self.keep_folder(entry.name):
            return
        shown = path + b"/" if is_folder else path
        if self.left_out(shown, layers):
            return
        if _secrets().verdict(shown):
            self.seen["secrets"].append(path)
            return
        real = parents[-1] + b"/" + entry.name
        if entry.is_symlink():
            real = os.path.realpath(real)
            if not self.reachable(real, is_folder, parents):
                self.seen["refused"].append(path)
                return
            if self.hidden_behind(real, is_folder):
                return
        if is_folder:
            self.enter(shown, layers, (*parents, real))
        else:
            self.seen["files" if _is_file(entry) else "refused"].append(path)

    def left_out(self, shown: bytes, layers: tuple[Layer, ...]) -> bool:
        if _always_left_out().verdict(shown):
            return True
        strongest_first = chain([Layer(self.ignore.exclude)], reversed(layers))
        verdicts = (layer.verdict(shown) for layer in strongest_first)
        return next((verdict for verdict in verdicts if verdict is not None), False)

    def reachable(self, real: bytes, is_folder: bool, parents: tuple[bytes, ...]) -> bool:
        inside = real == self.base or real.startswith(self.base.rstrip(b"/") + b"/")
        return inside and not (is_folder and any(each == real or each.startswith(real + b"/") for each in parents))

    def hidden_behind(self, real: bytes, is_folder: bool) -> bool:
        """Whether a link leads to a secret, or to what is always left out."""
        parts = os.path.relpath(real, self.base).split(b"/")
        steps = [b"/".join(parts[:count]) + b"/" for count in range(1, len(parts) + 1)]
        steps[-1] = steps[-1] if is_folder else steps[-1][:-1]
        return any(_always_left_out().verdict(step) or _secrets().verdict(step) for step in steps)


def _leads_to_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that loops
        return False


def _is_file(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _text(path: bytes) -> str | None:
    try:
        return path.decode()
    except UnicodeDecodeError:
        return None


def _texts(digests: dict[bytes, str]) -> dict[str, str]:
    return {text: content for path, content in sorted(digests.items()) if (text := _text(path)) is not None}
