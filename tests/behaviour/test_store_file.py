from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyte_build.errors import StoreDiskFull, StoreFolderIsAFile, StoreFolderNotWritable
from flyte_build.model import StoreSettings
from flyte_build.store import Store, open_store
from tests.archives import MIB, archive_of, noise


def store_in(folder: Path) -> Store:
    return open_store(StoreSettings(url=f"file://{folder}"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def locked_folder() -> Iterator[Path]:
    """A folder in which this process may not write, root or not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755 if os.geteuid() == 0 else 0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if user == 0:
                os.seteuid(0)
            folder.chmod(0o755)


def test_upload_makes_the_folder_and_writes_the_bytes_under_the_content_addressed_name(tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path, noise(3 * MIB))
    store = tmp_path / "deep" / "store"
    upload = store_in(store).put(bundle, archive)
    assert upload.sent
    assert upload.uri == f"file://{store}/{bundle.digest}.tar.gz"
    assert (store / bundle.filename).read_bytes() == archive.read_bytes()
    assert names(store) == [bundle.filename]


def test_a_trailing_slash_in_the_url_changes_nothing(tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path)
    upload = open_store(StoreSettings(url=f"file://{tmp_path}/store/")).put(bundle, archive)
    assert upload.uri == f"file://{tmp_path}/store/{bundle.filename}"


def test_the_folder_is_taken_letter_by_letter_as_the_sdk_reads_it(tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path)
    upload = open_store(StoreSettings(url=f"file://{tmp_path}/my store?#1%20")).put(bundle, archive)
    assert upload.uri == f"file://{tmp_path}/my store?#1%20/{bundle.filename}"
    assert Path(upload.uri.removeprefix("file://")).read_bytes() == archive.read_bytes()


def test_upload_skips_an_object_that_is_there(tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path)
    first = store_in(tmp_path / "store").put(bundle, archive)
    stored = tmp_path / "store" / bundle.filename
    before = stored.stat()
    again = store_in(tmp_path / "store").put(bundle, archive)
    assert not again.sent
    assert again.uri == first.uri
    assert stored.stat().st_ino == before.st_ino


@pytest.mark.parametrize("damage", [b"", b"the bytes of a bundl", b"THE bytes of a bundle"])
def test_an_object_with_other_bytes_is_replaced(tmp_path: Path, damage: bytes) -> None:
    bundle, archive = archive_of(tmp_path)
    store_in(tmp_path / "store").put(bundle, archive)
    stored = tmp_path / "store" / bundle.filename
    stored.write_bytes(damage)
    assert store_in(tmp_path / "store").put(bundle, archive).sent
    assert stored.read_bytes() == archive.read_bytes()


def test_progress_adds_up_to_the_size(tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path, noise(3 * MIB + 1))
    steps: list[int] = []
    store_in(tmp_path / "store").put(bundle, archive, steps.append)
    assert sum(steps) == 3 * MIB + 1
    assert len(steps) > 1


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path)
    before = os.umask(0o022)
    try:
        store_in(tmp_path / "store").put(bundle, archive)
    finally:
        os.umask(before)
    assert (tmp_path / "store" / bundle.filename).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    bundle, archive = archive_of(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreDiskFull) as caught:
        store_in(tmp_path / "store").put(bundle, archive)
    assert str(caught.value) == (
        f"file://{tmp_path}/store/{bundle.filename}: the disk is full; "
        "free space there, or set `url` of [store] to another place"
    )
    assert names(tmp_path / "store") == []


def test_a_failed_upload_leaves_the_object_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, archive = archive_of(tmp_path)
    (tmp_path / "store").mkdir()
    stored = tmp_path / "store" / bundle.filename
    stored.write_bytes(b"older")

    def interrupted(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store_in(tmp_path / "store").put(bundle, archive, interrupted)
    assert stored.read_bytes() == b"older"
    assert names(tmp_path / "store") == [bundle.filename]


def test_a_folder_that_may_not_be_written_is_named(locked_folder: Path) -> None:
    with tempfile.TemporaryDirectory() as own:
        bundle, archive = archive_of(Path(own))
        with pytest.raises(StoreFolderNotWritable) as caught:
            store_in(locked_folder / "store").put(bundle, archive)
    assert str(caught.value) == (
        f"{locked_folder}/store: bundles cannot be written there: permission denied; "
        "let this user write to it, or set `url` of [store] to another place"
    )


@pytest.mark.parametrize("below", ["", "/inside"])
def test_a_file_where_the_folder_should_be_is_named(tmp_path: Path, below: str) -> None:
    bundle, archive = archive_of(tmp_path)
    (tmp_path / "store").write_text("a file")
    with pytest.raises(StoreFolderIsAFile) as caught:
        open_store(StoreSettings(url=f"file://{tmp_path}/store{below}")).put(bundle, archive)
    assert str(caught.value) == (
        f"{tmp_path}/store{below}: the store's folder is, or is inside, a file; move it, or correct `url` of [store]"
    )
    assert (tmp_path / "store").read_text() == "a file"


def test_a_folder_under_the_name_of_the_object_is_named(tmp_path: Path) -> None:
    bundle, archive = archive_of(tmp_path)
    (tmp_path / "store" / bundle.filename).mkdir(parents=True)
    with pytest.raises(StoreFolderNotWritable, match="bundles cannot be written there: is a directory; let this user"):
        store_in(tmp_path / "store").put(bundle, archive)
    assert names(tmp_path / "store") == [bundle.filename]
