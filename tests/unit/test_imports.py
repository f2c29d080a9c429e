"""The static closure: what code may import later, found without running it."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_build.errors import FileUnreadable
from flyte_build.imports import Closure, closure, imports_of
from tests.unprivileged import unprivileged

_LIBRARY = Path(sysconfig.get_path("stdlib"))


def write(root: Path, files: Mapping[str, str]) -> Path:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return root


def close(root: Path, *seeds: str, search: tuple[str, ...] = ("",), leave_out: str = "") -> Closure:
    return closure(
        root, seeds, lambda path: (root / path).read_bytes(), search=search, leave_out=lambda path: path == leave_out
    )


IMPORTS = {
    "plain": ("import a.b.c", ("a.b.c",)),
    "several-and-renamed": ("import a as x, b.c", ("a", "b.c")),
    "from": ("from a.b import c, d as e", ("a.b.c", "a.b.d")),
    "star": ("from a.b import *", ("a.b",)),
    "in-a-function": ("def f():\n    import a", ("a",)),
    "in-a-method-of-a-nested-class": (
        "class A:\n    class B:\n        async def f(self):\n            import a",
        ("a",),
    ),
    "type-checking": ("if TYPE_CHECKING:\n    import a\nelse:\n    import b", ("a", "b")),
    "try": ("try:\n    import a\nexcept E:\n    import b\nelse:\n    import c\nfinally:\n    import d", tuple("abcd")),
    "with-for-while": ("with x:\n    for _ in y:\n        while z:\n            import a", ("a",)),
    "match": ("match x:\n    case 1:\n        import a", ("a",)),
    "one-line": ("if x: import a; import b", ("a", "b")),
    "over-two-lines": ("from a import (\n    b,\n)\nfrom c \\\n    import d", ("a.b", "c.d")),
    "import-module": ("import importlib\nimportlib.import_module('a.b')", ("a.b", "importlib")),
    "import-module-by-name": ("x = [import_module('a')]", ("a",)),
    "import-module-relative": ("import_module('.a', package='x.y')", ("x.y.a",)),
    "import-module-relative-to-this": ("import_module('..a', __package__)", ("p.a",)),
    "dunder-import": ("__import__('a')", ("a",)),
    "not-a-literal": ("import_module(name)\n__import__(f'a.{b}')\nimport_module()", ()),
    "sibling": ("from . import a", ("p.q.a",)),
    "sibling-module": ("from .a import b", ("p.q.a.b",)),
    "package-itself": ("from . import *", ("p.q",)),
    "uncle": ("from .. import a", ("p.a",)),
    "above-the-top": ("from .... import a", ()),
    "in-a-string": ("'''\nimport a\n'''\n# import b", ()),
    "syntax-error": ("import a\nimport (", ()),
    "null-byte": ("import a\0", ()),
    "deeply-nested": ("import a\n" + "(" * 2000 + ")" * 2000, ()),
    "latin-1": ("# coding: latin-1\nimport a # \xe9", ("a",)),
    "empty": ("", ()),
}


@pytest.mark.parametrize(("source", "names"), IMPORTS.values(), ids=IMPORTS.keys())
def test_imports_of(source: str, names: tuple[str, ...]) -> None:
    assert imports_of(source.encode("latin-1"), "p.q") == names


_BROKEN = ("syntax-error", "null-byte", "deeply-nested")
_AFTER = {"nothing": "", "a-line": "\nx = 1\n", "a-string": "\n\ndef f():\n    return '''\n'''\n"}


@pytest.mark.parametrize("source", [source for name, (source, _) in IMPORTS.items() if name not in _BROKEN])
@pytest.mark.parametrize("after", _AFTER.values(), ids=_AFTER.keys())
def test_what_has_run_imports_the_same(source: str, after: str) -> None:
    data = (source + after).encode("latin-1")
    assert imports_of(data, "p.q", has_run=True) == imports_of(data, "p.q")


_LINES = (
    *("import a", "from b import c, d", "from . import e  # import f", "if x: import g; y = 1", "import h, \\\n  i"),
    *("from j import (\n  k,\n  l\n)", "'''\nimport m\n'''", "n = 'import o'", "p = [\n  # import q\n  1,\n]", "w = 1"),
    *("def r():\n    import s", "try:\n    import t\nexcept E:\n    pass", "u = import_module('v')", "", "#"),
    *("class X:\n    y = '''\n  import z'''\n    import a1", "if b1:\n    pass\nelse:\n    import c1\n    d1 = 1"),
)


@given(st.lists(st.sampled_from(_LINES)))
def test_any_source_that_has_run_imports_the_same(lines: list[str]) -> None:
    source = "\n".join(lines).encode()
    assert imports_of(source, "p.q", has_run=True) == imports_of(source, "p.q")


def test_what_has_run_of_python_itself_imports_the_same() -> None:
    files = [path for name in ("asyncio", "email", "importlib") for path in (_LIBRARY / name).rglob("*.py")]
    assert len(files) > 50
    for path in files:
        source = path.read_bytes()
        assert imports_of(source, "p.q", has_run=True) == imports_of(source, "p.q"), path


def test_one_dot_in_no_package_is_the_folder_of_the_file() -> None:
    assert imports_of(b"from .a import b\nfrom . import c\nfrom ..d import e") == ("a.b", "c")


def test_scan_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert imports_of(b"import a\nx = '\\d' is 1") == ("a",)


def test_closure_takes_a_module_with_its_packages(tmp_path: Path) -> None:
    write(
        tmp_path, {"main.py": "import a.b.c", "a/__init__.py": "", "a/b/__init__.py": "", "a/b/c.py": "", "a/d.py": ""}
    )
    assert close(tmp_path, "main.py").files == ("a/__init__.py", "a/b/__init__.py", "a/b/c.py", "main.py")


def test_closure_is_transitive_through_functions(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "main.py": "def f():\n    from lib import one",
            "lib/__init__.py": "",
            "lib/one.py": "def g():\n    from . import two",
            "lib/two.py": "def h():\n    import main, lib.three",
            "lib/three.py": "",
            "lib/unused.py": "",
        },
    )
    expected = ("lib/__init__.py", "lib/one.py", "lib/three.py", "lib/two.py", "main.py")
    assert close(tmp_path, "main.py").files == expected


def test_from_import_takes_a_submodule_but_no_attribute(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": "from a import b, c", "a/__init__.py": "c = 1", "a/b.py": ""})
    found = close(tmp_path, "main.py")
    assert found.files == ("a/__init__.py", "a/b.py", "main.py")
    assert {"a/c", "a/c.py"} <= set(found.missing)


def test_namespace_package_needs_no_init(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": "from ns.deep import mod", "ns/deep/mod.py": ""})
    found = close(tmp_path, "main.py")
    assert found.files == ("main.py", "ns/deep/mod.py")
    assert {"ns/__init__.py", "ns.py", "ns/deep/__init__.py", "ns/deep.py"} <= set(found.missing)


def test_package_wins_over_module_and_module_over_namespace(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": "import a, b", "a/__init__.py": "", "a.py": "", "b/x.py": "", "b.py": ""})
    assert close(tmp_path, "main.py").files == ("a/__init__.py", "b.py", "main.py")


def test_installed_packages_are_not_taken_but_watched_for(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": "import os, numpy.linalg"})
    missing = ("numpy", "numpy.py", "os", "os.py")
    assert close(tmp_path, "main.py") == Closure(
        files=("main.py",), missing=missing, readers=dict.fromkeys(missing, "main.py")
    )


def test_each_file_that_is_found_has_the_one_that_imports_it(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": "import a, b", "a.py": "import c", "b.py": "import c", "c.py": ""})
    modules = {"a.py": "main.py", "b.py": "main.py", "c.py": "b.py"}
    packages = {"a": "main.py", "b": "main.py", "c": "b.py"}  # looked for in vain, before the module
    assert close(tmp_path, "main.py").readers == modules | packages


def test_what_was_missing_changes_the_closure_when_it_appears(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": "import late"})
    assert "late.py" in close(tmp_path, "main.py").missing
    write(tmp_path, {"late.py": ""})
    assert close(tmp_path, "main.py").files == ("late.py", "main.py")


def test_file_with_a_syntax_error_is_taken_and_not_followed(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": "import broken", "broken.py": "import other\n(", "other.py": ""})
    assert close(tmp_path, "main.py").files == ("broken.py", "main.py")


def test_other_roots_of_the_search_path_are_looked_in_in_order(tmp_path: Path) -> None:
    files = {"src/main.py": "import a, b", "src/a.py": "", "a.py": "", "b.py": "", "src/pkg/c.py": "from . import d"}
    write(tmp_path, {**files, "src/pkg/d.py": "", "pkg/d.py": ""})
    found = close(tmp_path, "src/main.py", "src/pkg/c.py", search=("src", ""))
    assert found.files == ("b.py", "src/a.py", "src/main.py", "src/pkg/c.py", "src/pkg/d.py")
    assert "src/b.py" in found.missing


def test_left_out_file_is_neither_taken_nor_followed(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": "import a", "a.py": "import b", "b.py": ""})
    assert close(tmp_path, "main.py", leave_out="a.py").files == ("main.py",)


def test_seeds_that_are_not_python_are_kept_and_not_read(tmp_path: Path) -> None:
    assert close(tmp_path, "lib/fast.so").files == ("lib/fast.so",)


def test_closed_folder_is_named() -> None:
    with unprivileged() as root:
        write(root, {"main.py": "import closed.a", "closed/a.py": ""})
        (root / "closed").chmod(0)
        with pytest.raises(FileUnreadable) as caught:
            close(root, "main.py")
        (root / "closed").chmod(0o700)
    assert str(caught.value) == (
        "closed: cannot be read: Permission denied; make it readable, or leave it out with `exclude`"
    )


@pytest.mark.parametrize("late", ["def f():\n    import lib.util", "from typing import TYPE_CHECKING\nimport lib.util"])
def test_closure_holds_all_that_python_itself_imports(tmp_path: Path, late: str) -> None:
    write(
        tmp_path,
        {
            "main.py": f"{late}\nif __name__ == '__main__':\n    globals().get('f', int)()\n    import lib.deep.leaf",
            "lib/__init__.py": "from . import base",
            "lib/base.py": "import importlib\nplugin = importlib.import_module('.plugin', __package__)",
            "lib/plugin.py": "from lib.deep import leaf as other",
            "lib/util.py": "try:\n    import missing\nexcept ImportError:\n    from .deep import fallback",
            "lib/deep/leaf.py": "",
            "lib/deep/fallback.py": "",
            "lib/unused.py": "",
        },
    )
    report = "import sys, runpy, os; sys.path.insert(0, '.'); runpy.run_path('main.py', run_name='__main__'); " + (
        "print(*(os.path.relpath(m.__file__) for n, m in sys.modules.items() if n.startswith('lib') and m.__file__))"
    )
    ran = subprocess.run([sys.executable, "-c", report], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert close(tmp_path, "main.py").files == tuple(sorted(["main.py", *ran.stdout.split()]))
