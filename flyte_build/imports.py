"""Local modules that code may import when it runs, found without running it.

What a file imports while it loads is in `sys.modules` afterwards; what it imports inside functions is not. This reads
the source: statements anywhere (in functions, under `TYPE_CHECKING`, in `try`), and `importlib.import_module` and
`__import__` with a literal name.
"""

from __future__ import annotations

import ast
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from flyte_build.errors import FileUnreadable
from flyte_build.model import Value

_IMPORT_CALLS = {"import_module", "__import__"}


class Closure(Value, frozen=True):
    """Paths are relative to the root, POSIX, sorted."""

    files: tuple[str, ...]
    """The seeds, and every local file that they may import, and that those may import, and so on."""
    missing: tuple[str, ...]
    """Looked for and not found: should one of these appear, the closure may change."""
    broken: tuple[str, ...] = ()
    """Files that Python cannot parse, whose imports are not known."""
    readers: dict[str, str] = {}
    """What is found or missing -> the file whose import was looked up first."""


_parsing = threading.Lock()
"""What is done with warnings counts for all threads."""


@lru_cache(maxsize=4096)
def imports_of(source: bytes, package: str = "", *, has_run: bool = False) -> tuple[str, ...]:
    """Absolute dotted names that `source` may import, sorted; `package` is the package that its file is in.

    `from a import b` gives `a.b`, whether `b` is a module or not. Source that does not parse imports nothing.
    `has_run`: Python has compiled it, so that most of it need not be parsed again.
    """
    tree = (_parsed(_beginning(source)) if has_run else None) or _parsed(source)
    if tree is None:
        return ()
    names = {name for statement in _statements(tree) for name in _imported(statement, package)}
    if any(call.encode() in source for call in _IMPORT_CALLS):
        names.update(name for node in ast.walk(tree) for name in _imported_by_call(node, package))
    return tuple(sorted(names - {""}))


def _beginning(source: bytes) -> bytes:
    """To the end of the last line that says `import`.

    If it parses, it says the same as at the beginning of the whole: it ends in no string, bracket or continued line.
    """
    last = source.rfind(b"import")
    return source[: source.find(b"\n", last) + 1 or None] if last >= 0 else b""


def _parsed(source: bytes) -> ast.Module | None:
    try:
        with _parsing, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: nested too deeply
        return None


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Every statement, however deep; expressions hold none, and are not entered."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (ast.Expr, ast.Assign, ast.Return)):
            for block in ("body", "orelse", "finalbody", "handlers", "cases"):
                waiting.extend(getattr(node, block, ()))


def _imported(statement: ast.AST, package: str) -> Iterator[str]:
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        module = _absolute("." * statement.level + (statement.module or ""), package)
        if module is not None:
            yield from (f"{module}.{alias.name}".removesuffix(".*").strip(".") for alias in statement.names)


def _imported_by_call(node: ast.AST, package: str) -> Iterator[str]:
    if not (isinstance(node, ast.Call) and node.args and _called(node.func) in _IMPORT_CALLS):
        return
    name = _literal(node.args[0])
    anchors = [*node.args[1:2], *(keyword.value for keyword in node.keywords if keyword.arg == "package")]
    anchor = _literal(anchors[0]) if anchors and isinstance(anchors[0], ast.Constant) else package
    if name is not None:
        yield _absolute(name, anchor or "") or ""


def _called(function: ast.expr) -> str:
    return getattr(function, "attr", "") or getattr(function, "id", "")


def _literal(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _absolute(name: str, package: str) -> str | None:
    """`..a` in package `p.q` is `p.a`; None: it leaves the top package."""
    tail = name.lstrip(".")
    level = len(name) - len(tail)
    if not level:
        return name
    parts = package.split(".") if package else []
    if level > len(parts):
        # in a file that is in no package, `.` can only be the folder that the file is in
        return tail if level == 1 else None
    return ".".join([*parts[: len(parts) - level + 1], *filter(None, [tail])])


def closure(
    root: Path,
    seeds: Iterable[str],
    read: Callable[[str], bytes],
    *,
    search: Sequence[str] = ("",),
    leave_out: Callable[[str], bool] = lambda path: False,  # noqa: ARG005
) -> Closure:
    """Everything under `root` that the files `seeds`, which have run, may import, and they themselves.

    `read` gives a file's source.

    `search`: entries of `sys.path` under the root, relative to it, in their order. Names that lead to nothing there are
    installed packages. A file for which `leave_out` says yes is not taken, and its imports are not followed.

    Raises:
        FileUnreadable: a folder cannot be listed.
    """
    folders = _Folders(root)
    ran = frozenset(seeds)
    files, waiting = set(ran), sorted(ran)
    missing: set[str] = set()
    asked: set[str] = set()
    readers: dict[str, str] = {}
    broken: list[str] = []
    while waiting:
        path = waiting.pop()
        if not path.endswith(".py"):
            continue
        source = read(path)
        names = imports_of(source, _package(path, search), has_run=path in ran)
        if not names and path not in ran and _parsed(source) is None:
            broken.append(path)
        for name in names:
            if name in asked:
                continue
            asked.add(name)
            tried: set[str] = set()
            found = [each for each in _find(name.split("."), search, folders, tried) if each not in files]
            kept = [each for each in found if not leave_out(each)]
            for each in (*tried, *kept):
                readers.setdefault(each, path)
            missing |= tried
            files.update(kept)
            waiting.extend(kept)
    return Closure(
        files=tuple(sorted(files)),
        missing=tuple(sorted(missing)),
        broken=tuple(sorted(broken)),
        readers=dict(sorted(readers.items())),
    )


class _Folders:
    """What is in a folder, listed once: name -> whether it is a folder."""

    def __init__(self, root: Path) -> None:
        self._root = os.fsencode(root)
        self._known: dict[str, dict[str, bool]] = {}

    def __call__(self, folder: str) -> dict[str, bool]:
        if folder not in self._known:
            self._known[folder] = _listing(self._root, folder)
        return self._known[folder]


def _listing(root: bytes, folder: str) -> dict[str, bool]:
    try:
        with os.scandir(os.path.join(root, folder.encode())) as entries:
            return {entry.name.decode(errors="replace"): _is_folder(entry) for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise FileUnreadable(path=folder or ".", reason=error.strerror or str(error)) from error


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _package(path: str, search: Sequence[str]) -> str:
    """The dotted name of the folder of `path`, seen from the nearest entry of the search path above it."""
    folder = path.rpartition("/")[0]
    above = [entry for entry in search if not entry or f"{folder}/".startswith(f"{entry}/")]
    return folder[len(max(above, key=len, default="")) :].strip("/").replace("/", ".")


def _find(parts: Sequence[str], search: Sequence[str], folders: _Folders, missing: set[str]) -> list[str]:
    """The files that importing the dotted name `parts` reads; adds to `missing` what was looked for in vain."""
    for entry in search:
        if found := _find_under(entry, parts, folders, missing):
            return found
    return []


def _find_under(folder: str, parts: Sequence[str], folders: _Folders, missing: set[str]) -> list[str]:
    found: list[str] = []
    for part in parts:
        path = f"{folder}/{part}" if folder else part
        is_folder = folders(folder).get(part)
        if is_folder and "__init__.py" in folders(path):
            found.append(f"{path}/__init__.py")
        else:
            missing.add(f"{path}/__init__.py" if is_folder else path)
            if folders(folder).get(f"{part}.py") is False:
                return [*found, f"{path}.py"]  # what follows are names in that module
            missing.add(f"{path}.py")
            if not is_folder:
                return found
        folder = path
    return found
