"""The canonical archive: same files, same bytes; other files, other digest."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_build.archive import Member, content_digest, pack, write
from flyte_build.model import BundleFile
from flyte_build.state import digest

LONG = "deep/" * 40 + "a.py"
MEMBERS = [
    Member("b/run.sh", True, b"#!/bin/sh\n"),
    Member("a.py", False, b"x = 1\n" * 400),
    Member("empty", False, b""),
    Member("caf\u00e9/\u6570.txt", False, b"\xff\x00"),
    Member(LONG, False, b"long"),
    Member("n" * 101, True, b"longer than a ustar name"),
]


def described(members: list[Member]) -> list[BundleFile]:
    return [
        BundleFile(path=m.path, digest=digest.of_bytes(m.content), size=len(m.content), executable=m.executable)
        for m in members
    ]


def test_members_are_sorted_with_canonical_owner_mode_and_time() -> None:
    with tarfile.open(fileobj=io.BytesIO(pack(MEMBERS))) as tar:
        infos = tar.getmembers()
    assert [info.name for info in infos] == sorted(member.path for member in MEMBERS)
    assert {(info.uid, info.gid, info.uname, info.gname, info.mtime) for info in infos} == {(0, 0, "", "", 0)}
    assert {info.name: info.mode for info in infos} == {m.path: 0o755 if m.executable else 0o644 for m in MEMBERS}
    assert all(info.isreg() for info in infos)


def test_python_reads_back_what_was_packed() -> None:
    with tarfile.open(fileobj=io.BytesIO(pack(MEMBERS))) as tar:
        for path, _, content in MEMBERS:
            extracted = tar.extractfile(path)
            assert extracted is not None
            assert extracted.read() == content


def test_gnu_tar_extracts_what_was_packed(tmp_path: Path) -> None:
    (tmp_path / "bundle.tar.gz").write_bytes(pack(MEMBERS))
    command = ["tar", "--overwrite", "-xvf", "bundle.tar.gz", "-C", "."]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    for path, executable, content in MEMBERS:
        assert (tmp_path / path).read_bytes() == content
        assert os.access(tmp_path / path, os.X_OK) is executable


def test_gzip_header_says_nothing_of_machine_or_time() -> None:
    assert pack(MEMBERS)[:10] == bytes.fromhex("1f8b08000000000000ff")


def test_length_and_checksum_are_right() -> None:
    packed = pack(MEMBERS)
    assert subprocess.run(["gzip", "-t"], input=packed, check=False).returncode == 0
    assert len(gzip.decompress(packed)) % 512 == 0


def test_bytes_are_pinned() -> None:
    # Other bytes here mean that archives made by two versions of this package, or of isal, differ under one digest.
    packed = pack(MEMBERS)
    assert (
        hashlib.sha256(gzip.decompress(packed)).hexdigest()
        == "43a156bc91fc4f14278191b1e7b45447faff30defc36d194479db44d12e7eb17"
    )
    assert hashlib.sha256(packed).hexdigest() == "fb97f2decd5e3dc64b2f4c1390d7979c1cf1296cd5cb7aabbee2be3bc0d91cf2"


def test_order_of_members_does_not_matter() -> None:
    assert pack(MEMBERS) == pack(MEMBERS[::-1])


def test_written_size_is_returned() -> None:
    out = io.BytesIO()
    assert write(out, sorted(MEMBERS)) == len(out.getvalue())


def test_no_members_give_an_archive_of_nothing() -> None:
    with tarfile.open(fileobj=io.BytesIO(pack([]))) as tar:
        assert tar.getmembers() == []


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=3)
TREES = st.dictionaries(
    st.lists(st.sampled_from(["a", "b", "ab", "bc", "c"]) | NAMES, min_size=1, max_size=3).map("/".join),
    st.tuples(st.booleans(), st.binary(max_size=4)),
    max_size=4,
)


def members(tree: dict[str, tuple[bool, bytes]]) -> list[Member]:
    return [Member(path, executable, content) for path, (executable, content) in tree.items()]


@given(one=TREES, other=TREES)
def test_digests_are_equal_exactly_when_files_are(
    one: dict[str, tuple[bool, bytes]], other: dict[str, tuple[bool, bytes]]
) -> None:
    same = content_digest(described(members(one))) == content_digest(described(members(other)))
    assert same == (one == other)


@given(tree=TREES)
def test_bytes_depend_on_files_alone(tree: dict[str, tuple[bool, bytes]]) -> None:
    assert pack(members(tree)) == pack(members(tree)[::-1])


CHANGES = {
    "moved-across-a-slash": [Member("ab/c.py", False, b"x")],
    "executable": [Member("a/bc.py", True, b"x")],
    "content": [Member("a/bc.py", False, b"y")],
    "one-more": [Member("a/bc.py", False, b"x"), Member("d", False, b"")],
    "none": [],
}


@pytest.mark.parametrize("changed", CHANGES.values(), ids=CHANGES.keys())
def test_change_gives_another_digest(changed: list[Member]) -> None:
    assert content_digest(described(changed)) != content_digest(described([Member("a/bc.py", False, b"x")]))
