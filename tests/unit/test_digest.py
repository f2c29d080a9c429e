"""Framed hashing: different parts, different input."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_build.state import digest

parts = st.lists(st.one_of(st.binary(max_size=20), st.text(alphabet="ab\0é", max_size=10)), max_size=5)


def as_bytes(values: list[bytes | str]) -> list[bytes]:
    return [value.encode() if isinstance(value, str) else value for value in values]


@given(parts, parts)
def test_two_lists_of_parts_have_one_digest_only_if_they_are_equal(
    one: list[bytes | str], other: list[bytes | str]
) -> None:
    assert (digest.of_parts("kind", one) == digest.of_parts("kind", other)) == (as_bytes(one) == as_bytes(other))


@given(st.binary(max_size=30), st.integers(0, 30))
def test_where_a_text_is_cut_into_parts_counts(data: bytes, cut: int) -> None:
    whole, halves = digest.of_parts("kind", [data]), digest.of_parts("kind", [data[:cut], data[cut:]])
    assert whole != halves


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([], [""]),
        (["a", ""], ["a"]),
        (["", "a"], ["a", ""]),
        (["ab"], ["a", "b"]),
        (["a" * 8], [(8).to_bytes(8, "big")]),
        ([(1).to_bytes(8, "big") + b"a"], ["a"]),
    ],
)
def test_parts_that_look_alike_when_joined_are_told_apart(one: list[bytes | str], other: list[bytes | str]) -> None:
    assert digest.of_parts("kind", one) != digest.of_parts("kind", other)


def test_kinds_are_kept_apart() -> None:
    assert digest.of_parts("version", ["a"]) != digest.of_parts("bundle", ["a"])
    assert digest.of_parts("version", ["a"]) != digest.of_parts("", ["version", "a"])


def test_a_text_and_its_bytes_are_one_part() -> None:
    assert digest.of_parts("kind", ["é"]) == digest.of_parts("kind", ["é".encode()])


def test_a_name_that_is_not_utf8_has_the_digest_of_its_bytes() -> None:
    assert digest.of_parts("kind", [os.fsdecode(b"\xff")]) == digest.of_parts("kind", [b"\xff"])


def test_digests_do_not_change_between_versions() -> None:
    assert digest.of_bytes(b"") == "99aa06d3014798d86001c324468d497f"
    assert digest.of_parts("kind", ["a", b"b"]) == "3465e7c3fe5db645eb2cfc64ab075115"


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_a_file_has_the_digest_of_its_bytes(size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    assert digest.of_file(tmp_path / "file") == digest.of_bytes(data)


@pytest.mark.parametrize(("name", "error"), [("missing", FileNotFoundError), (".", IsADirectoryError)])
def test_what_cannot_be_read_has_no_digest(name: str, error: type[OSError], tmp_path: Path) -> None:
    with pytest.raises(error):
        digest.of_file(tmp_path / name)
