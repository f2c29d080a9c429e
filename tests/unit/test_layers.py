"""The folders are the architecture: imports run one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "flyte_build"

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "model": set(),
    "standins": set(),
    "children": set(),
    "interrupts": set(),
    "once": set(),
    "toml_lines": set(),
    "gitignore": set(),
    "flyte_config": {"errors", "toml_lines"},
    "ignore": {"errors", "gitignore", "model", "state"},
    "imports": {"errors", "model"},
    "archive": {"errors", "model", "state"},
    "manifest": {"errors", "flyte_config", "model", "state", "toml_lines"},
    "versions": {"errors", "git", "model"},
    "git": {"model"},
    "state": {"errors", "model"},
    "store": {"errors", "model", "once", "state"},
    "backend": {"errors", "model", "sdk", "state"},
    "binding": {"model", "sdk", "standins"},
    "images": {"errors", "model", "standins", "state"},
    "sdk": {"errors", "images", "model", "standins"},
    "worker": {"errors", "ignore", "images", "model", "sdk", "state"},
    "builders": {"archive", "backend", "children", "errors", "images", "model", "once", "sdk", "state", "store"},
    "packing": {"archive", "errors", "gitignore", "ignore", "imports", "model", "state"},
    "project": {"backend", "errors", "git", "manifest", "model", "state", "store"},
    "steps": {
        *("binding", "errors", "git", "gitignore", "ignore", "model", "packing", "project", "sdk"),
        *("builders", "causes", "children", "images", "standins", "state", "store", "versions", "worker", "backend"),
    },
    "causes": {"errors", "model", "project", "state"},
    "pipeline": {"causes", "errors", "git", "model", "project", "state", "steps"},
    "why": {"errors", "model", "pipeline", "project", "report", "state"},
    "cache": {"errors", "model", "state", "store"},
    "sharing": {
        *("cache", "causes", "errors", "git", "manifest", "model", "pipeline", "project", "state", "steps", "versions"),
    },
    "cleaning": {"model", "pipeline", "project", "state", "steps"},
    "planning": {"model", "pipeline", "project", "state", "steps", "versions"},
    "checking": {"children", "errors", "model", "project", "state", "steps"},
    "api": {"errors", "manifest", "model", "pipeline", "planning", "project", "report", "sharing", "state", "steps"},
    "report": set(),
    "command_line": {"errors", "manifest", "pipeline", "project", "report"},
    "runs": {"command_line", "errors", "report", "sharing", "steps"},
    "graph": {
        *(
            "backend",
            "checking",
            "children",
            "cleaning",
            "command_line",
            "dodo",
            "errors",
            "model",
            "pipeline",
            "planning",
        ),
        *("report", "runs", "sharing", "state", "why"),
    },
    "doit_database": {"command_line", "errors", "graph", "state"},
    "doit_why": {"graph"},
    "doit_dumpdb": set(),
    "doit_commands": {"command_line", "errors", "graph"},
    "dodo": {"doit_commands", "graph", "interrupts"},
}
"""Room -> rooms that it may import from. `manifest_*` belong to `manifest`, `sdk_*` to `sdk`."""

ONLY_HERE = {
    "flyte": {"sdk"},
    "doit": {"command_line", "doit_commands", "doit_database", "doit_dumpdb", "doit_why", "graph", "runs"},
}
"""A library -> the only rooms that import it."""

PRINTERS = {"report"}


def room(path: Path) -> str:
    return room_named(path.relative_to(PACKAGE).parts[0].removesuffix(".py"))


def room_named(name: str) -> str:
    return next((room for room in ("manifest", "sdk") if name.startswith(f"{room}_")), name)


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def imports(source: str) -> Iterator[str]:
    """Dotted names that a module imports when it runs."""
    tree = ast.parse(source)
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def upward(path: Path, source: str) -> set[str]:
    """Rooms that a module imports from and may not."""
    own = room(path)
    found = {name.split(".")[1] for name in imports(source) if name.startswith("flyte_build.")}
    rooms = set(map(room_named, found)) & MAY_IMPORT.keys()
    return rooms - MAY_IMPORT[own] - {own}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_the_rooms_below_it(path: Path) -> None:
    assert upward(path, path.read_text()) == set()


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_library_with_one_home_is_imported_there_only(path: Path) -> None:
    used = {name.split(".")[0] for name in imports(path.read_text())} & ONLY_HERE.keys()
    assert {library for library in used if room(path) not in ONLY_HERE[library]} == set()


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_reporter_prints(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert room(path) in PRINTERS or not [call for call in calls if getattr(call.func, "id", "") == "print"]


def test_rooms_do_not_import_each_other_in_a_circle() -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for below in MAY_IMPORT[name]:
                visit(below, (*path, name))
            done.add(name)

    for name in MAY_IMPORT.keys() - {"graph", "dodo", "doit_commands", "doit_database", "doit_dumpdb", "doit_why"}:
        visit(name, ())


def test_an_import_from_above_is_noticed() -> None:
    assert upward(PACKAGE / "state" / "x.py", "from flyte_build.report import say") == {"report"}
    assert upward(PACKAGE / "state" / "x.py", "from flyte_build import model, graph") == {"graph"}


def test_an_import_for_types_only_is_no_import() -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from flyte_build.graph import Task\n"
    assert upward(PACKAGE / "state" / "x.py", source) == set()
