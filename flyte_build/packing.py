"""Packing: pick a target's files by its copy style, and write them as one canonical archive.

- `loaded_modules`: the local modules that discovery imported and, with `lazy_imports`, those they may import later;
- `all`: every file under the root that the ignore rules leave in, hidden ones too, and what discovery imported;
- `none`: nothing.

To each of these come the files that `include` names, in the manifest and in the environments. A file named in full is
bundled whatever any rule says. A folder or a glob takes what is under it and not left out by ignore files, by `exclude`
or for being a secret. `exclude` is stronger than everything but a file named in full.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from flyte_build import archive, errors, ignore, imports
from flyte_build.gitignore import wildmatch
from flyte_build.ignore import Ignore, Scan
from flyte_build.model import Bundle, BundleFile, Discovery, Target, Value
from flyte_build.state import digest
from flyte_build.state.folder import write_unless_there

LARGE = 10_000_000
"""Bytes before compression, from which the largest files are worth a word."""
_SHOWN = 10
_ATTEMPTS = 5


class Read(NamedTuple):
    content: bytes
    executable: bool


class Plan(Value, frozen=True):
    """The files of a bundle, and what their choice depends on. Paths are relative to the root, POSIX, sorted."""

    max_size: int
    """Bytes, before compression."""
    place: str
    """What a message about it begins with."""
    files: tuple[str, ...]
    watch_files: dict[str, str] = {}
    """Ignore files that were read -> digest of the content; those above the root begin with `../`."""
    watch_folders: dict[str, str] = {}
    """Folders that were listed -> digest of the entries; the root is `.`."""
    watch_missing: tuple[str, ...] = ()
    """Paths that were looked for and not found."""
    secrets: tuple[str, ...] = ()
    """Left out because they look like keys or credentials; worth a word to the user."""
    broken: tuple[str, ...] = ()
    """Modules that Python cannot parse; worth a word, too."""
    readers: dict[str, str] = {}
    """What a lazy import leads to, or looks for in vain -> the file that has the import."""
    sources: dict[str, Read] = {}
    """What was read for its imports, and is packed as it was then."""


# --- which files


def plan(target: Target, root: Path, discovery: Discovery, *, search: Sequence[str] = ("",)) -> Plan:
    """Pick the files. No files at all: the target has no bundle.

    `search`: entries of `sys.path` under the root, relative to it, where lazy imports are looked for.

    Raises:
        StepError: an include names nothing or something outside the root; a link, a folder or a special file under
            `all` or a folder include cannot be bundled; a file cannot be read.
    """
    rules = ignore.load(root, target.exclude)
    sources: dict[str, Read] = {}
    by_style, lazy = _by_style(target, root, discovery, rules=rules, search=search, sources=sources)
    seen = [
        by_style,
        *(_included(root, include, rules) for include in _includes(target, root, discovery)),
    ]
    files = _union(scan.files for scan in seen)
    return Plan(
        place=target.place(),
        max_size=target.max_bundle_size,
        files=files,
        watch_files=_first(scan.ignore_files for scan in seen),
        watch_folders=_first(scan.folders for scan in seen),
        watch_missing=_union(scan.missing for scan in seen),
        secrets=tuple(sorted({path for scan in seen for path in scan.secrets}.difference(files))),
        broken=lazy.broken,
        readers=lazy.readers,
        sources=sources,
    )


def _union(parts: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(sorted(set(chain.from_iterable(parts))))


def _first(parts: Iterable[dict[str, str]]) -> dict[str, str]:
    """Path -> digest, sorted. Of a path that changed meanwhile the earliest, so that the bundle is stale next time."""
    digests: dict[str, str] = {}
    for part in parts:
        digests = {**part, **digests}
    return dict(sorted(digests.items()))


def _by_style(
    target: Target,
    root: Path,
    discovery: Discovery,
    *,
    rules: Ignore,
    search: Sequence[str],
    sources: dict[str, Read],
) -> tuple[Scan, imports.Closure]:
    """What the copy style takes, and what was found of lazy imports; `sources` gets what was read for that."""
    none = imports.Closure(files=(), missing=())
    loaded = tuple(path for path in discovery.loaded_files if not rules.excludes(path))
    if target.copy_style == "none":
        return Scan(), none
    if target.copy_style == "all":
        everything = _walk(root, rules)
        return msgspec.structs.replace(everything, files=(*everything.files, *loaded)), none
    if not target.lazy_imports:
        return Scan(files=loaded), none
    base = os.path.realpath(os.fsencode(root))

    def read(path: str) -> bytes:
        sources[path] = read_whole(base, path)
        return sources[path].content

    found = imports.closure(root, loaded, read, search=search, leave_out=rules.excludes)
    return Scan(files=found.files, missing=found.missing), found


def _anything(_path: str) -> bool:
    return True


def _walk(root: Path, rules: Ignore, folder: str = "", wanted: Callable[[str], bool] = _anything) -> Scan:
    """The files under `folder` that the rules leave in and that are `wanted`.

    Raises:
        StepError: something `wanted` is neither a file nor a folder to enter.
    """
    scan = ignore.scan(root, rules, folder)
    base = os.path.realpath(os.fsencode(root))
    for path in filter(wanted, scan.refused):
        _check(base, path)
        raise _closed_or_loops(base, path)
    for name in scan.unnameable:
        shown = name.decode(errors="backslashreplace")
        if wanted(shown):
            raise errors.NameNotUtf8(path=shown)
    return msgspec.structs.replace(
        scan,
        files=tuple(filter(wanted, scan.files)),
        secrets=tuple(filter(wanted, scan.secrets)),
        ignore_files={**scan.ignore_files, **rules.files},
        missing=(*scan.missing, *rules.missing),
    )


class _Include(NamedTuple):
    where: str
    """The key, for messages."""
    text: str
    """As it was written."""
    path: str
    """Relative to the root."""


def _includes(target: Target, root: Path, discovery: Discovery) -> Iterator[_Include]:
    """Those of the manifest, which are relative to it, and those of the environments.

    Raises:
        IncludeOutsideRoot
    """
    named = [
        *(_Include(target.place("include"), text, _below_root(text, target.root_dir, root)) for text in target.include),
        *(
            _Include(f"environment `{each.name}` include", path, path)
            for each in discovery.environments
            for path in each.include
        ),
    ]
    for where, text, path in named:
        if path == ".." or path.startswith("../"):
            raise errors.IncludeOutsideRoot(where=where, pattern=text, root=target.root_dir)
        yield _Include(where, text, path)


def _below_root(include: str, root_dir: str, root: Path) -> str:
    if os.path.isabs(include):
        return os.path.relpath(include, os.path.realpath(root))
    # under a folder of any name, so that neither path can be taken for one below the current directory
    return posixpath.relpath(posixpath.join("/r", include), posixpath.join("/r", root_dir))


def _included(root: Path, include: _Include, rules: Ignore) -> Scan:
    """What one include names: a file, a folder or a glob.

    Raises:
        StepError: it names nothing that can be bundled.
    """
    base = os.path.realpath(os.fsencode(root))
    full = os.path.join(base, include.path.encode())
    if os.path.lexists(full) and not os.path.isdir(full):
        _check(base, include.path)
        return Scan(files=(include.path,))
    folder, wanted = (include.path, _anything) if os.path.isdir(full) else _glob(include.path)
    exists = os.path.isdir(os.path.join(base, folder.encode()))
    scan = _walk(root, rules, folder, wanted) if exists else Scan()
    if not scan.files:
        unruled = ignore.scan(root, Ignore(nested=False), folder) if exists else Scan()
        left_out = sorted(filter(wanted, (*unruled.files, *unruled.secrets)))
        raise errors.IncludeMatchesNothing(where=include.where, pattern=include.text, left_out=tuple(left_out))
    return scan


def _glob(pattern: str) -> tuple[str, Callable[[str], bool]]:
    """The folder that a glob starts from, and what it matches: `*` stops at `/`, `**` does not."""
    parts = pattern.split("/")
    literal = next((at for at, part in enumerate(parts) if re.search(r"[*?[\\]", part)), len(parts) - 1)
    regex = re.compile(wildmatch(pattern.encode()) or b"(?!)", re.DOTALL)
    return "/".join(parts[:literal]), lambda path: bool(regex.fullmatch(path.encode()))


# --- the archive


def pack(plan: Plan, root: Path, out: Path) -> Bundle:
    """Write the archive to `out`, named by digest, unless it is there.

    Each file is read once, whole; the digests in the result are of what is in the archive, so that what the bundle
    depended on can be recorded without reading again.

    Raises:
        StepError: a file cannot be bundled, or they are too large together, or the archive cannot be written.
    """
    base = os.path.realpath(os.fsencode(root))
    folders: dict[bytes, bytes] = {}
    sizes = [(path, _check(base, path, folders).st_size) for path in plan.files]
    total = sum(size for _, size in sizes)
    if total > plan.max_size:
        raise errors.BundleTooLarge(place=plan.place, size=total, limit=plan.max_size, largest=_largest(sizes))
    files: list[BundleFile] = []
    packed = io.BytesIO()
    archive.write(packed, _members(base, plan, files))
    bundle_digest = archive.content_digest(files)
    path = out / f"{bundle_digest}.tar.gz"
    write_unless_there(path, packed.getvalue())
    return Bundle(digest=bundle_digest, files=tuple(files), archive_size=path.stat().st_size)


def _members(base: bytes, plan: Plan, files: list[BundleFile]) -> Iterator[archive.Member]:
    """Each file's content, noting in `files` what was read."""
    for path in plan.files:
        content, executable = plan.sources.get(path) or read_whole(base, path)
        files.append(BundleFile(path=path, digest=digest.of_bytes(content), size=len(content), executable=executable))
        yield archive.Member(path, executable, content)


def largest(bundle: Bundle) -> tuple[BundleFile, ...]:
    """The ten largest files of a bundle of more than 10 MB, largest first; of a smaller one none."""
    by_path = {file.path: file for file in bundle.files}
    if bundle.size <= LARGE:
        return ()
    return tuple(by_path[path] for path, _ in _largest((file.path, file.size) for file in bundle.files))


def _largest(sizes: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(sizes, key=lambda each: (-each[1], each[0]))[:_SHOWN])


# --- one file


def read_whole(base: bytes, path: str, read: Callable[[BinaryIO], bytes] = lambda file: file.read()) -> Read:
    """A file's content, never half of one and half of another, and whether it is executable.

    Raises:
        StepError: the file cannot be read, is none, or did not hold still.
    """
    full = os.path.join(base, path.encode())
    for _ in range(_ATTEMPTS):
        try:
            with open(full, "rb", opener=_without_waiting) as file:
                before = os.fstat(file.fileno())
                _require_file(path, before)
                content = read(file)
            after = os.stat(full)
        except OSError as error:
            raise _unreachable(path, full, error) from error
        if _identity(before) == _identity(after) and len(content) == after.st_size:
            return Read(content, bool(after.st_mode & stat.S_IXUSR))
    raise errors.FileKeepsChanging(path=path, attempts=_ATTEMPTS)


def _without_waiting(path: str, flags: int) -> int:
    # a FIFO put in the place of a file would hold up an ordinary `open` for ever
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


def _check(base: bytes, path: str, folders: dict[bytes, bytes] | None = None) -> os.stat_result:
    """The `stat` of something under the root that leads to a regular file inside it, or to a folder.

    `folders`: where folders lead, as known so far; many files are in one.

    Raises:
        StepError: it is a link that leaves the root, is broken or loops; a special file; or out of reach.
    """
    full = os.path.join(base, path.encode())
    try:
        found = os.stat(full)
    except OSError as error:
        raise _unreachable(path, full, error) from error
    real = _real(full, {} if folders is None else folders)
    if real != base and not real.startswith(os.path.join(base, b"")):
        raise errors.SymlinkLeavesRoot(path=path, leads_to=_leads_to(full))
    if not stat.S_ISDIR(found.st_mode):
        _require_file(path, found)
    return found


def _real(full: bytes, folders: dict[bytes, bytes]) -> bytes:
    """`os.path.realpath`, which looks at each folder above the file again and again."""
    folder, name = os.path.split(full)
    if os.path.islink(full) or name in (b"", b".", b".."):
        return os.path.realpath(full)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return os.path.join(folders[folder], name)


def _require_file(path: str, found: os.stat_result) -> None:
    kinds = (
        (stat.S_ISDIR, "folder"),
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISFIFO, "FIFO"),
        (stat.S_ISBLK, "block device"),
        (stat.S_ISCHR, "character device"),
    )
    for is_kind, kind in kinds:
        if is_kind(found.st_mode):
            raise errors.NotARegularFile(path=path, kind=kind)


def _closed_or_loops(base: bytes, path: str) -> errors.BundlePathError:
    """Why a walk did not enter a folder that is inside the root."""
    full = os.path.join(base, path.encode())
    try:
        os.listdir(full)
    except OSError as error:
        return _unreachable(path, full, error)
    return errors.SymlinkLoops(path=path, leads_to=_leads_to(full))


def _unreachable(path: str, full: bytes, error: OSError) -> errors.BundlePathError:
    if isinstance(error, FileNotFoundError):
        if os.path.islink(full):
            return errors.SymlinkBroken(path=path, leads_to=_leads_to(full))
        return errors.FileVanished(path=path)
    if os.path.islink(full) and not isinstance(error, PermissionError):
        return errors.SymlinkLoops(path=path, leads_to=_leads_to(full))
    return errors.FileUnreadable(path=path, reason=error.strerror or str(error))


def _leads_to(full: bytes) -> str:
    """What a link says, or what a path through a linked folder comes to."""
    target = os.readlink(full) if os.path.islink(full) else os.path.realpath(full)
    return target.decode(errors="backslashreplace")
