"""A trace against a world: the first difference, in words."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flyte_build.model import Cause
from flyte_build.state import digest
from flyte_build.state.files import FileIndex
from flyte_build.state.trace import Trace, changed, find_module, listing_digest, variable_digest

TREE = {
    "code.py": "1",
    "package/__init__.py": "",
    "package/module.py": "2",
    "namespace/module.py": "3",
    "data/table.csv": "4",
    "run.sh": "5",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o644)
    return tmp_path


def of(name: str) -> str:
    return digest.of_bytes(TREE[name].encode())


def recorded(tree: Path) -> Trace:
    """Of the tree as it is made."""
    return Trace(
        files={"code.py": of("code.py"), "run.sh": f"{of('run.sh')}:-", "absent.txt": "", "data": ""},
        folders={
            "data": listing_digest(("table.csv",)),
            "nowhere": "",
            str(tree / "package"): listing_digest(("__init__.py", "module.py")),
        },
        exists={"code.py": "file", "data": "folder", "flag": ""},
        imports={"": {"code": "module", "package": "package", "namespace": "namespace", "json": ""}},
        environment={"STAGE": variable_digest("STAGE", "dev"), "UNSET": ""},
    )


ENVIRON = {"STAGE": "dev", "OTHER": "x"}


def judged(tree: Path, trace: Trace | None = None, environ: dict[str, str] = ENVIRON) -> str:
    found = changed(trace or recorded(tree), str(tree), FileIndex(), environ)
    return found.reason if found else ""


def cause(tree: Path, trace: Trace, environ: dict[str, str] = ENVIRON) -> Cause | None:
    found = changed(trace, str(tree), FileIndex(), environ)
    return found.cause if found else None


def test_a_world_that_is_as_it_was_has_no_difference(tree: Path) -> None:
    assert judged(tree) == ""


def test_an_empty_trace_depends_on_nothing(tmp_path: Path) -> None:
    assert changed(Trace(), str(tmp_path / "nowhere"), FileIndex(), {}) is None


def write(name: str, text: str = "new") -> Callable[[Path], object]:
    def edit(tree: Path) -> None:
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(text)

    return edit


def folder_instead_of_file(tree: Path) -> None:
    (tree / "code.py").unlink()
    (tree / "code.py").mkdir()


def edit_and_make_executable(tree: Path) -> None:
    (tree / "run.sh").write_text("new")
    (tree / "run.sh").chmod(0o755)


def folder_instead_of_data(tree: Path) -> None:
    (tree / "data/table.csv").unlink()
    (tree / "data/table.csv").mkdir()


def link_instead_of_data(tree: Path) -> None:
    (tree / "data/table.csv").unlink()
    (tree / "data/table.csv").symlink_to("../code.py")


def link_instead_of_file(tree: Path) -> None:
    (tree / "code.py").rename(tree / "real")
    (tree / "code.py").symlink_to("real")


DIFFERENCES: dict[str, tuple[Callable[[Path], object], str]] = {
    "file edited": (write("code.py"), "code.py changed"),
    "file removed": (lambda tree: (tree / "code.py").unlink(), "code.py is gone"),
    "file made a folder": (folder_instead_of_file, "code.py is gone"),
    "missing file appears": (write("absent.txt"), "absent.txt is new"),
    "executable bit": (lambda tree: (tree / "run.sh").chmod(0o755), "run.sh changed its executable bit"),
    "content and executable bit": (
        edit_and_make_executable,
        "run.sh changed",
    ),
    "file into a folder": (write("data/more.csv"), "files in data changed"),
    "file into an absolute folder": (write("package/more.py"), "files in {tree}/package changed"),
    "file in a folder made a folder": (folder_instead_of_data, "files in data changed"),
    "file in a folder made a link": (link_instead_of_data, "files in data changed"),
    "missing folder appears": (lambda tree: (tree / "nowhere").mkdir(), "files in nowhere changed"),
    "looked for and found": (write("flag"), "flag is now file"),
    "looked for and a folder": (lambda tree: (tree / "flag").mkdir(), "flag is now folder"),
    "looked for and a socket or the like": (lambda tree: os.mkfifo(tree / "flag"), "flag is now other"),
    "shadowed by a module": (write("json.py"), "import of `json` finds another file in ."),
    "shadowed by a package": (write("json/__init__.py"), "import of `json` finds another file in ."),
    "shadowed by a namespace": (lambda tree: (tree / "json").mkdir(), "import of `json` finds another file in ."),
    "shadowed by an extension": (write("json.abi3.so"), "import of `json` finds another file in ."),
    "package before a module": (write("code/__init__.py"), "import of `code` finds another file in ."),
    "extension before a module": (write("code.cpython-311.so"), "import of `code` finds another file in ."),
    "package no more one": (
        lambda tree: (tree / "package/__init__.py").unlink(),
        "import of `package` finds another file in .",
    ),
    "namespace made a package": (write("namespace/__init__.py"), "import of `namespace` finds another file in ."),
}


@pytest.mark.parametrize(("edit", "words"), DIFFERENCES.values(), ids=list(DIFFERENCES))
def test_a_difference_is_told(edit: Callable[[Path], object], words: str, tree: Path) -> None:
    trace = recorded(tree)
    edit(tree)
    assert judged(tree, trace) == words.format(tree=tree)


CAUSES: dict[str, tuple[Trace, Cause]] = {
    "file edited": (
        Trace(files={"code.py": "before"}),
        Cause(kind="file", name="code.py", old="before", new=of("code.py")),
    ),
    "file gone": (Trace(files={"gone.py": "before"}), Cause(kind="file", name="gone.py", old="before")),
    "file new": (Trace(files={"code.py": ""}), Cause(kind="file", name="code.py", new=of("code.py"))),
    "executable bit": (
        Trace(files={"run.sh": f"{of('run.sh')}:x"}),
        Cause(kind="file", name="run.sh", old=f"{of('run.sh')}:x", new=f"{of('run.sh')}:-"),
    ),
    "folder": (
        Trace(folders={"data": "before"}),
        Cause(kind="folder", name="data", old="before", new=listing_digest(("table.csv",))),
    ),
    "looked for": (Trace(exists={"data": ""}), Cause(kind="path", name="data", new="folder")),
    "looked for and gone": (Trace(exists={"gone": "file"}), Cause(kind="path", name="gone", old="file")),
    "import": (Trace(imports={"": {"code": ""}}), Cause(kind="import", name="code", new="module")),
    "import in a folder": (
        Trace(imports={"package": {"module": "package"}}),
        Cause(kind="import", name="package/module", old="package", new="module"),
    ),
    "variable": (
        Trace(environment={"STAGE": "before"}),
        Cause(kind="variable", name="STAGE", old="before", new=variable_digest("STAGE", "dev")),
    ),
    "variable unset": (Trace(environment={"GONE": "before"}), Cause(kind="variable", name="GONE", old="before")),
    "unseen": (Trace(opaque=("a.py:1 started `git`",)), Cause(kind="opaque", name="a.py:1 started `git`")),
}


@pytest.mark.parametrize(("trace", "expected"), CAUSES.values(), ids=list(CAUSES))
def test_a_difference_is_told_as_data_with_what_was_and_what_is(trace: Trace, expected: Cause, tree: Path) -> None:
    assert cause(tree, trace) == expected


SAME: dict[str, Callable[[Path], object]] = {
    "touched": lambda tree: os.utime(tree / "code.py", (1, 1)),
    "other file": write("other.txt"),
    "other module": write("other.py"),
    "other module in a package": write("namespace/other.py"),
    "mode that does not count": lambda tree: (tree / "code.py").chmod(0o777),
    "mode beside the executable bit": lambda tree: (tree / "run.sh").chmod(0o600),
    "file in a folder edited": write("data/table.csv"),
    "module shadowed by what is behind it": write("package.py"),
    "longer name": write("json_more.py"),
    "not a module": write("json.txt"),
    "plain file of the name": write("json"),
    "linked": link_instead_of_file,
}


@pytest.mark.parametrize("edit", SAME.values(), ids=list(SAME))
def test_what_was_not_looked_at_makes_no_difference(edit: Callable[[Path], object], tree: Path) -> None:
    trace = recorded(tree)
    edit(tree)
    assert judged(tree, trace) == ""


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"STAGE": "prod"}, "STAGE"),
        ({}, "STAGE"),
        ({"STAGE": ""}, "STAGE"),
        ({"STAGE": "dev", "UNSET": "1"}, "UNSET"),
        ({"STAGE": "dev", "UNSET": ""}, "UNSET"),
    ],
)
def test_another_value_of_a_variable_is_told_without_the_value(environ: dict[str, str], name: str, tree: Path) -> None:
    assert judged(tree, environ=environ) == f"environment variable `{name}` changed"


def test_a_trace_holds_no_value_of_a_variable(tree: Path) -> None:
    assert b"s3cret" not in Trace(environment={"TOKEN": variable_digest("TOKEN", "s3cret")}).json()
    assert variable_digest("A", "1") != variable_digest("B", "1")


def test_what_cannot_be_seen_is_always_a_difference(tree: Path) -> None:
    trace = Trace(opaque=("code.py:3 started `git`", "code.py:4 made a network connection"))
    assert judged(tree, trace) == "code.py:3 started `git`, whose inputs cannot be seen"


def test_no_folder_and_an_empty_folder_are_told_apart() -> None:
    assert listing_digest(None) != listing_digest(())


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ((), ""),
        (("m.py",), "module"),
        (("m.pyc",), ""),
        (("m/",), "namespace"),
        (("m/", "m.py"), "module"),
        (("m/__init__.py",), "package"),
        (("m/__init__.py", "m.py", "m.so"), "package"),
        (("m.py", "m.cpython-311-x86_64-linux-gnu.so"), "extension"),
        (("m.pyd",), "extension"),
        (("mm.py", "m_.py", "xm.py"), ""),
        (("m",), ""),
        (("m.py/",), ""),
        (("m.so/", "m.py"), "module"),
        (("m/__init__.py/",), "namespace"),
    ],
)
def test_a_module_is_found_in_pythons_own_order(entries: tuple[str, ...], found: str, tmp_path: Path) -> None:
    for entry in entries:
        path = tmp_path / entry
        path.parent.mkdir(exist_ok=True)
        path.mkdir(exist_ok=True) if entry.endswith("/") else path.touch()
    index = FileIndex()
    assert find_module("m", str(tmp_path), index.listing(str(tmp_path)), index) == found


@pytest.mark.parametrize(
    ("links", "found"),
    [
        ({"m": "real"}, "package"),
        ({"m.py": "real/__init__.py"}, "module"),
        ({"m": "real/__init__.py"}, ""),
        ({"m": "empty", "empty/__init__.py": "../real/__init__.py"}, "package"),
    ],
)
def test_a_module_is_found_through_links(links: dict[str, str], found: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "real").mkdir()
    (tmp_path / "real/__init__.py").touch()
    for name, to in links.items():
        (tmp_path / name).symlink_to(to)
    index = FileIndex()
    assert find_module("m", str(tmp_path), index.listing(str(tmp_path)), index) == found


def test_nothing_is_found_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert find_module("m", str(tmp_path / "none"), None, FileIndex()) == ""
