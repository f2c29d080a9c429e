"""The state folder `.flyte-build/`: where things are, and the one way to write a file there.

targets/NAME/STEP.json    receipts            objects/DIGEST      drafts, specs and contexts of images
targets/NAME/STEP.log     journals            bundles/DIGEST.tar.gz
targets/NAME/STEP.before  receipts set aside while their step is to be done again
targets/NAME/STEP.again   steps to be done again here
images/                   logs, locks and records of builds
files.json                the file index      store/, backend/    of the embedded control plane
lock                      held by the run that is at work
versions.lock             held while an explicit version is looked for and registered
installed/DIGEST.json     what was installed, to tell what changed

What is named by a digest goes when no receipt names it any more: see `garbage`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote

from flyte_build.errors import StateUnwritable
from flyte_build.state import digest

NAME = ".flyte-build"
CACHEDIR_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# https://bford.info/cachedir/\n"

_LOCAL = ("discover", "bundle")
"""Steps whose results can be deployed anywhere, without running them again."""


class StateFolder:
    """Paths under one repository's state folder."""

    def __init__(self, root: Path, variant: str = "") -> None:
        """`variant` keeps apart the receipts of what is deployed in more than one way, such as with another profile."""
        self.root = root
        self._variant = f"@{quote(variant, safe='=,')}" if variant else ""
        self._targets: dict[tuple[str, bool], Path] = {}

    @property
    def index(self) -> Path:
        return self.root / "files.json"

    @property
    def versions_lock(self) -> Path:
        return self.root / "versions.lock"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def bundles(self) -> Path:
        return self.root / "bundles"

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def objects(self) -> Path:
        return self.root / "objects"

    @property
    def backend(self) -> Path:
        return self.root / "backend"

    def target(self, name: str, step: str = "") -> Path:
        """Where the receipts of a step of a target are."""
        # A run asks thousands of times, and making a `Path` takes longer than reading the file.
        folder = self._targets.get((name, step in _LOCAL))
        if folder is None:
            variant = "" if step in _LOCAL else self._variant
            folder = self.root / "targets" / f"{quote(name, safe='')}{variant}"
            self._targets[name, step in _LOCAL] = folder
        return folder

    @staticmethod
    def target_of(folder: str) -> str:
        """The target whose receipts, of some way of deploying it, are in a folder of this name."""
        return unquote(folder.partition("@")[0])

    def receipt(self, target: str, step: str) -> Path:
        return Path(self.receipt_path(target, step))

    def receipt_path(self, target: str, step: str) -> str:
        """The same as text."""
        return f"{self.target(target, step)}/{step}.json"

    def journal(self, target: str, step: str) -> Path:
        """What a step that was interrupted has done so far."""
        return self.target(target, step) / f"{step}.log"

    def before(self, target: str, step: str) -> Path:
        """The receipt that a step had before it began, which is there until it has finished."""
        return self.target(target, step) / f"{step}.before"

    def again(self, target: str, step: str) -> Path:
        """There while a step that somebody forgot is to be done here: nothing from elsewhere stands in for it."""
        return self.target(target, step) / f"{step}.again"

    def versions(self, target: str) -> Path:
        """Versions of a target that were deployed from here. Nothing depends on it: it tells people of the latest."""
        return self.target(target) / "versions.json"

    def object(self, content: str) -> Path:
        return self.objects / content

    def installed(self, content: str) -> Path:
        """What was installed when some discovery ran. Nothing depends on it: it tells people what changed."""
        return self.root / "installed" / f"{content}.json"

    def put_object(self, data: bytes) -> str:
        """Keep bytes under their digest, and give the digest."""
        content = digest.of_bytes(data)
        write_unless_there(self.object(content), data)
        return content

    def put_pieces(self, pieces: Iterable[bytes]) -> str:
        """The same for what is too large to be held in memory.

        Raises:
            StateUnwritable: the disk is full, or the folder may not be written.
        """
        hasher, folder = digest.hasher(), self.root / "objects"

        def hashed() -> Iterator[bytes]:
            for piece in pieces:
                hasher.update(piece)
                yield piece

        try:
            part = _write_part(folder, "part", hashed())
            os.replace(part, folder / hasher.hexdigest())
        except OSError as error:
            raise StateUnwritable(path=str(folder), reason=error.strerror or str(error)) from error
        return hasher.hexdigest()

    def create(self) -> None:
        """Make the folder, marked as a cache and ignored by git.

        Raises:
            StateUnwritable: it cannot be made.
        """
        if (self.root / "CACHEDIR.TAG").exists():
            return
        write_atomically(self.root / ".gitignore", b"*\n")
        write_atomically(self.root / "CACHEDIR.TAG", CACHEDIR_TAG)


def image_file(uri: str, ending: str) -> str:
    """The name, below `images/`, of a log, a lock or the record of a build."""
    return f"{digest.of_parts('image', [uri])}.{ending}"


@contextlib.contextmanager
def unwritable(path: Path) -> Iterator[None]:
    """What the system says against writing a file, as an error that names it.

    Raises:
        StateUnwritable
    """
    try:
        yield
    except OSError as error:
        raise StateUnwritable(path=str(path), reason=error.strerror or str(error)) from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file or nothing: a reader sees the old content or the new, a crash leaves the old.

    Raises:
        StateUnwritable: the disk is full, or the folder may not be written.
    """
    with unwritable(path):
        _write(path, data)


def write_unless_there(path: Path, data: bytes) -> None:
    """Write a file that is named by its content. One that a crash has torn is written again.

    Raises:
        StateUnwritable: the disk is full, or the folder may not be written.
    """
    try:
        there = path.read_bytes()
    except OSError:
        there = None
    if there != data:
        write_atomically(path, data)


def _write(path: Path, data: bytes) -> None:
    part = _write_part(path.parent, path.name[:32], [data])
    try:
        os.replace(part, path)
    except BaseException:
        _remove(part)
        raise


def _write_part(folder: Path, name: str, pieces: Iterable[bytes]) -> str:
    """Write a whole file under a passing name, which is given, or none."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(pieces)
    except BaseException:
        _remove(part)
        raise
    return part


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
