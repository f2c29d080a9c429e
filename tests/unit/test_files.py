"""The file index: never another answer than reading would give, and less reading."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flyte_build.errors import StateUnwritable
from flyte_build.state import digest, files
from flyte_build.state.files import FileIndex, kind
from flyte_build.state.folder import StateFolder, write_atomically, write_unless_there
from tests.unprivileged import unprivileged

LONG_AGO = 1_000_000_000


MEND = "free some space, make the folder writable, or remove what is in its place"


def settled(path: Path) -> None:
    """Wait until the clock of a file's file system shows another time than when it was changed."""
    probe = path.parent / ".probe"
    while True:
        probe.touch()
        now = probe.stat().st_ctime_ns
        probe.unlink()
        if now > path.stat().st_ctime_ns:
            return


def saved(path: Path) -> dict[str, dict[str, object]]:
    content: dict[str, dict[str, object]] = json.loads(path.read_text().partition("\n")[2]) if path.exists() else {}
    return content


def test_a_digest_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    assert FileIndex().digest(str(tmp_path / "a")) == digest.of_bytes(b"content")


@pytest.mark.parametrize(
    "make", [lambda p: None, Path.mkdir, lambda p: os.mkfifo(p), lambda p: p.symlink_to("nowhere")]
)
def test_what_is_no_file_has_an_empty_digest(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "a")
    index = FileIndex()
    assert (index.digest(str(tmp_path / "a")), index.state(str(tmp_path / "a"))) == ("", "")


@pytest.mark.parametrize(("mode", "bit"), [(0o644, "-"), (0o600, "-"), (0o755, "x"), (0o700, "x"), (0o611, "-")])
def test_a_state_has_the_owners_executable_bit(mode: int, bit: str, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "a").chmod(mode)
    assert FileIndex().state(str(tmp_path / "a")) == f"{digest.of_bytes(b'')}:{bit}"


def test_a_listing_is_sorted_and_none_where_there_is_no_folder(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / name).touch()
    index = FileIndex()
    assert index.listing(str(tmp_path)) == ("a", "b", "c")
    assert index.listing(str(tmp_path / "a")) is None
    assert index.listing(str(tmp_path / "none")) is None


def test_a_listing_tells_folders_links_and_the_rest_apart(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file@x").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "broken").symlink_to("no/where")
    assert FileIndex().listing(str(tmp_path)) == ("broken/@no/where", "file@x", "folder/", "link/@folder", "pipe")


def test_names_that_are_not_utf8_can_be_listed_and_saved(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / os.fsdecode(b"\xff")).touch()
    settled(folder)
    index = FileIndex(tmp_path / "index")
    assert index.listing(str(folder)) == ("\\xff",)
    index.save()
    assert FileIndex(tmp_path / "index").listing(str(folder)) == ("\\xff",)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (Path.touch, "file"),
        (Path.mkdir, "folder"),
        (lambda p: os.mkfifo(p), "other"),
        (lambda p: None, ""),
        (lambda p: p.symlink_to("nowhere"), "link"),
        (lambda p: p.symlink_to("."), "folder"),
    ],
)
def test_a_kind_is_of_what_a_path_leads_to(make: Callable[[Path], object], what: str, tmp_path: Path) -> None:
    make(tmp_path / "a")
    assert kind(str(tmp_path / "a")) == what


def test_a_file_is_looked_at_once_in_a_run_unless_it_was_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    index = FileIndex()
    first = index.digest(str(path))
    path.write_text("two")
    assert index.digest(str(path)) == first
    index.forget(str(path))
    assert index.digest(str(path)) == digest.of_bytes(b"two")
    path.write_text("three")
    assert index.digest(str(path)) == digest.of_bytes(b"three")


def test_a_file_changed_since_the_clock_was_looked_at_is_not_remembered_even_with_an_old_mtime(tmp_path: Path) -> None:
    path, old, folder = tmp_path / "a", tmp_path / "old", tmp_path / "folder"
    old.touch()
    settled(old)
    index = FileIndex(tmp_path / "index")
    index.digest(str(old))
    path.write_text("one")
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    folder.mkdir()
    index.digest(str(path))
    index.listing(str(folder))
    index.save()
    assert (set(saved(tmp_path / "index")["files"]), saved(tmp_path / "index")["folders"]) == ({str(old)}, {})


def test_a_file_changed_in_the_step_of_the_clock_in_which_it_is_read_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    found = path.stat()
    monkeypatch.setattr(files, "_clock_of", lambda _: files._Clock(found.st_dev, found.st_ctime_ns))
    index = FileIndex(tmp_path / "index")
    index.digest(str(path))
    index.save()
    assert saved(tmp_path / "index") == {}


@pytest.mark.parametrize("age", [0, 1_900_000_000, 2_100_000_000])
def test_where_the_clock_is_not_known_a_file_is_remembered_after_two_seconds(
    age: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, index = tmp_path / "a", FileIndex(tmp_path / "none" / "index")  # where no file can be made to ask the clock
    path.write_text("one")
    changed = path.stat().st_ctime_ns
    monkeypatch.setattr(time, "time_ns", lambda: changed + age)
    index.digest(str(path))
    index.save()
    remembered = saved(tmp_path / "none" / "index").get("files", {})
    assert set(remembered) == ({str(path)} if age > 2_000_000_000 else set())


def test_what_a_run_made_is_known_to_the_next_one_without_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, index = tmp_path / "a", FileIndex(tmp_path / "index")
    index.digest(str(path))
    path.write_text("made")
    settled(path)
    index.made(str(path))
    index.save()
    monkeypatch.setattr(digest, "of_file", None)
    assert FileIndex(tmp_path / "index").digest(str(path)) == digest.of_bytes(b"made")


def test_what_a_run_made_and_somebody_changed_is_known_as_it_is(tmp_path: Path) -> None:
    path, index = tmp_path / "a", FileIndex(tmp_path / "index")
    path.write_text("made")
    index.made(str(path))
    path.write_text("mine")
    settled(path)
    index.save()
    assert FileIndex(tmp_path / "index").digest(str(path)) == digest.of_bytes(b"mine")


def test_what_a_run_made_and_somebody_removed_is_done_without(tmp_path: Path) -> None:
    index = FileIndex(tmp_path / "index")
    index.made(str(tmp_path / "a"))
    index.save()
    assert saved(tmp_path / "index") == {}


def test_a_file_from_the_future_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    settled(path)
    later = time.time_ns() + 10**12
    os.utime(path, ns=(later, later))
    index = FileIndex(tmp_path / "index")
    index.digest(str(path))
    index.save()
    assert saved(tmp_path / "index") == {}


def known(tmp_path: Path) -> tuple[Path, Path]:
    """A file whose digest is remembered under its signature, and the index; the digest is a lie, to show its use."""
    path, index = tmp_path / "a", tmp_path / "index"
    path.write_text("one")
    settled(path)
    first = FileIndex(index)
    truth = first.digest(str(path))
    first.save()
    text = index.read_text().partition("\n")[2].replace(truth, "remembered")
    index.write_text(f"{digest.of_bytes(text.encode())}\n{text}")
    assert FileIndex(index).digest(str(path)) == "remembered"
    return path, index


def test_a_remembered_file_is_read_again_after_any_change_that_a_stat_shows(tmp_path: Path) -> None:
    path, index = known(tmp_path)
    before = path.stat()

    def same_size_and_old_time() -> None:
        path.write_text("two")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def replaced_by_another_file() -> None:
        (tmp_path / "b").write_text("two")
        os.utime(tmp_path / "b", ns=(before.st_atime_ns, before.st_mtime_ns))
        (tmp_path / "b").replace(path)

    for change in (same_size_and_old_time, replaced_by_another_file, path.touch, lambda: path.chmod(0o700)):
        change()
        assert FileIndex(index).digest(str(path)) == digest.of_bytes(path.read_bytes())


def test_saving_keeps_what_this_run_did_not_look_at(tmp_path: Path) -> None:
    path, index = known(tmp_path)
    other = tmp_path / "folder"
    other.mkdir()
    settled(other)
    second = FileIndex(index)
    second.listing(str(other))
    second.save()
    assert set(saved(index)["files"]) == {str(path)}
    assert set(saved(index)["folders"]) == {str(other)}


def test_an_index_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    settled(folder)
    index = FileIndex(folder / "file" / "index")
    (folder / "file").touch()
    index.listing(str(folder))
    settled(folder)
    index.save()
    assert not (folder / "file").is_dir()


def test_two_runs_that_save_at_once_lose_time_and_nothing_else(tmp_path: Path) -> None:
    path, index = known(tmp_path)
    runs = [FileIndex(index) for _ in range(8)]
    for number, run in enumerate(runs):
        (tmp_path / str(number)).mkdir()
        run.listing(str(tmp_path / str(number)))
        run.digest(str(path))
    threads = [threading.Thread(target=run.save) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert FileIndex(index).digest(str(path)) == "remembered"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff",
        b'{"format":2}',
        b'{"format":1,"files":{},"folders":{}}',
        b'{"format":2,"files":{"/a":1},"folders":{}}',
    ],
)
def test_a_damaged_index_is_an_empty_one(content: bytes, tmp_path: Path) -> None:
    path, index = tmp_path / "a", tmp_path / "index"
    path.write_text("one")
    index.write_bytes(content)
    assert FileIndex(index).digest(str(path)) == digest.of_bytes(b"one")


def test_an_index_cut_off_at_any_byte_gives_right_answers(tmp_path: Path) -> None:
    path, index = tmp_path / "a", tmp_path / "index"
    path.write_text("one")
    settled(path)
    whole = FileIndex(index)
    whole.digest(str(path))
    whole.save()
    text = index.read_bytes()
    for length in range(len(text)):
        index.write_bytes(text[:length])
        assert FileIndex(index).digest(str(path)) == digest.of_bytes(b"one")


# --- writing


def test_an_object_is_kept_under_the_digest_of_its_bytes_and_mended_when_torn(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    name = state.put_object(b"data")
    assert (name, state.object(name).read_bytes()) == (digest.of_bytes(b"data"), b"data")
    state.object(name).write_bytes(b"da")
    assert state.put_object(b"data") == name
    assert state.object(name).read_bytes() == b"data"


def test_a_file_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    write_unless_there(tmp_path / "a", b"data")
    before = (tmp_path / "a").stat()
    write_unless_there(tmp_path / "a", b"data")
    assert (tmp_path / "a").stat() == before


def test_a_write_that_fails_leaves_the_old_content_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(StateUnwritable) as caught:
        write_atomically(tmp_path / "a", b"new")
    assert caught.value.message == (f"{tmp_path}/a: cannot be written: Is a directory; {MEND}")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_is_a_file_cannot_be_written_into(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(StateUnwritable) as caught:
        write_atomically(tmp_path / "a" / "b", b"new")
    assert caught.value.message == (f"{tmp_path}/a/b: cannot be written: File exists; {MEND}")


def test_a_folder_that_may_not_be_written_is_named() -> None:
    with unprivileged() as folder:
        (folder / "state").mkdir(mode=0o500)
        with pytest.raises(StateUnwritable) as caught:
            StateFolder(folder / "state").create()
    path = folder / "state" / ".gitignore"
    assert caught.value.message == (f"{path}: cannot be written: Permission denied; {MEND}")


def test_a_file_that_may_not_be_read_has_an_empty_digest() -> None:
    with unprivileged() as folder:
        (folder / "a").write_text("secret")
        (folder / "a").chmod(0)
        assert FileIndex().digest(str(folder / "a")) == ""


@pytest.mark.parametrize("name", ["services/fraud", "a b", "ä", "a%2Fb", "a\\b"])
def test_every_target_has_a_folder_of_its_own_inside_the_state(name: str, tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    assert state.target(name).parent == tmp_path / "targets"
    others = ["services", "fraud", "a", "b", "services%2Ffraud", "a/b"]
    assert all(state.target(name) != state.target(other) for other in others if other != name)


def test_an_index_that_was_edited_is_not_believed(tmp_path: Path) -> None:
    path, index = known(tmp_path)
    index.write_text(index.read_text().replace("remembered", "remembers!"))
    assert FileIndex(index).digest(str(path)) == digest.of_bytes(b"one")
