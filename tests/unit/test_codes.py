"""Code that several loads run, compiled once: what is shared, and what must never be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from flyte_build.state import digest
from flyte_build.worker import codes


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    codes._known.clear()
    codes._compiled.clear()
    codes._told.clear()


def load(path: Path, kind: type[SourceFileLoader] = SourceFileLoader) -> CodeType:
    data = path.read_bytes()
    return codes.code_of(kind("module", str(path)), str(path), digest.of_bytes(data), data)


def told() -> list[bytes]:
    """What a load tells its parent."""
    reading, writing = os.pipe()
    codes.tell(writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        return pipe.read().splitlines()


def heard_of(path: Path, times: int = 2) -> None:
    line = f"{digest.of_bytes(path.read_bytes())} {path}".encode(errors="surrogateescape")
    for _ in range(times):
        codes.hear(line)


def value_of(code: CodeType) -> object:
    names: dict[str, Any] = {}
    exec(code, names)
    return names["VALUE"]


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "module.py"
    path.write_text("VALUE = 1\n")
    return path


def test_a_load_tells_what_it_compiled(module: Path) -> None:
    load(module)
    assert told() == [f"{digest.of_bytes(module.read_bytes())} {module}".encode()]


def test_what_two_loads_compiled_no_third_compiles(module: Path) -> None:
    load(module)
    (line,) = told()
    codes.hear(line)
    codes.hear(line)
    codes._compiled.clear()
    assert load(module) is load(module)
    assert value_of(load(module)) == 1
    assert told() == []


def test_what_one_load_compiled_is_not_compiled_for_nobody(module: Path) -> None:
    heard_of(module, times=1)
    assert load(module) is not load(module)


def test_other_content_is_compiled_whatever_its_time_and_size(module: Path) -> None:
    heard_of(module)
    before = module.stat()
    module.write_text("VALUE = 2\n")
    os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert value_of(load(module)) == 2


def test_a_file_that_changed_since_it_was_told_of_is_not_taken_for_what_it_was(module: Path) -> None:
    line = f"{digest.of_bytes(module.read_bytes())} {module}".encode()
    module.write_text("VALUE = 2\n")
    codes.hear(line)
    codes.hear(line)
    module.write_text("VALUE = 1\n")
    assert value_of(load(module)) == 1


def test_the_same_content_elsewhere_has_code_of_its_own(module: Path) -> None:
    heard_of(module)
    other = module.with_name("other.py")
    other.write_bytes(module.read_bytes())
    assert load(other).co_filename == str(other)


def test_a_loader_of_the_users_compiles_as_it_likes(module: Path) -> None:
    class Doubling(SourceFileLoader):
        def source_to_code(self, data: Any, path: Any, **_: Any) -> CodeType:  # type: ignore[override]
            return compile(data.replace(b"1", b"11"), path, "exec")

    heard_of(module)
    assert value_of(load(module, Doubling)) == 11
    assert value_of(load(module)) == 1


def test_what_python_warns_of_is_compiled_by_each_load(module: Path) -> None:
    module.write_text("VALUE = 1 is 1\n")
    heard_of(module)
    with pytest.warns(SyntaxWarning):
        load(module)


@pytest.mark.parametrize("content", ["VALUE = (", "VALUE = 1\0"])
def test_what_cannot_be_compiled_fails_in_the_load(module: Path, content: str) -> None:
    module.write_text(content)
    heard_of(module)
    with pytest.raises((SyntaxError, ValueError)):
        load(module)


@pytest.mark.parametrize("line", [b"", b"x", b"0 /no/such/file.py", b"0 \xff\xfe", b"0 /"])
def test_a_line_that_means_nothing_does_no_harm(line: bytes) -> None:
    codes.hear(line)
    codes.hear(line)
    assert codes._known == {}


def test_a_pipe_that_the_users_code_closed_does_no_harm(module: Path) -> None:
    load(module)
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    codes.tell(writing)
