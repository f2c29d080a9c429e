"""Receipts: what is believed of them, and what a step is told."""

from __future__ import annotations

from pathlib import Path
from tempfile import NamedTemporaryFile

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_build.errors import StateUnwritable
from flyte_build.model import Cause, Fresh, Stale, Value, Verdict
from flyte_build.state import digest, receipts
from flyte_build.state.files import FileIndex
from flyte_build.state.receipts import FORMAT, Lost, Made, Receipt, World
from flyte_build.state.trace import Trace
from tests.unprivileged import unprivileged


class Key(Value, frozen=True):
    format: int = 1
    bundle_uri: str = "a"
    images: dict[str, str] = msgspec.field(default_factory=lambda: {"env": "image:1"})


class Result(Value, frozen=True):
    count: int


def receipt(**fields: object) -> Receipt:
    made = Receipt(
        format=FORMAT,
        key=msgspec.Raw(Key().json()),
        result=msgspec.Raw(Result(count=3).json()),
        reason="not done here yet",
    )
    return msgspec.structs.replace(made, **fields)


def judged(found: Receipt | Lost, folder: Path, key: Value | None = None) -> Verdict:
    return receipts.judge(key or Key(), found, World(folder, folder / "state", FileIndex(), {}))


def test_a_receipt_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = receipt(
        trace=Trace(files={"a": "1"}, environment={"É": ""}), outputs={"objects/1": "1"}, reason="`a` \n changed"
    )
    receipts.save(tmp_path / "deep" / "receipt.json", written)
    assert receipts.load(tmp_path / "deep" / "receipt.json") == written
    assert written.read(Result) == Result(count=3)


def test_no_receipt_is_lost(tmp_path: Path) -> None:
    assert receipts.load(tmp_path / "none.json") == Lost(reason="not done here yet")


def test_a_forgotten_receipt_is_lost_and_may_be_forgotten_twice(tmp_path: Path) -> None:
    path = tmp_path / "receipt.json"
    receipts.save(path, receipt())
    receipts.forget(path)
    receipts.forget(path)
    assert receipts.load(path) == Lost(reason="not done here yet")


@given(st.binary(max_size=200))
def test_no_content_makes_reading_fail(data: bytes) -> None:
    with NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        assert receipts.load(Path(file.name)) == Lost(reason="its receipt was damaged; starting over")


def test_a_receipt_whose_seal_is_another_ones_is_damaged(tmp_path: Path) -> None:
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    receipts.save(first, receipt())
    receipts.save(second, receipt(reason="asked for"))
    one, other = (digest.of_bytes(msgspec.json.encode(each)) for each in (receipt(), receipt(reason="asked for")))
    first.write_text(first.read_text().replace(one, other))
    assert receipts.load(first) == Lost(reason="its receipt was damaged; starting over")


@pytest.mark.parametrize("number", [0, FORMAT + 1, -1, 10**9])
def test_another_format_is_another_version(number: int, tmp_path: Path) -> None:
    receipts.save(tmp_path / "receipt.json", receipt(format=number))
    assert receipts.load(tmp_path / "receipt.json") == Lost(
        reason="its receipt is of another version of flyte_build; starting over"
    )


def test_another_format_with_other_fields_is_another_version(tmp_path: Path) -> None:
    text = b'{"format": 99, "what": "is to come"}'
    sealed = b'{"seal": "%s", "receipt": %s}' % (digest.of_bytes(text).encode(), text)
    (tmp_path / "receipt.json").write_bytes(sealed)
    assert receipts.load(tmp_path / "receipt.json") == Lost(
        reason="its receipt is of another version of flyte_build; starting over"
    )


def test_a_folder_in_the_place_of_a_receipt_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "receipt.json").mkdir()
    assert receipts.load(tmp_path / "receipt.json") == Lost(
        reason="its receipt cannot be read: Is a directory; starting over"
    )
    with pytest.raises(StateUnwritable) as caught:
        receipts.forget(tmp_path / "receipt.json")
    assert caught.value.message == (
        f"{tmp_path}/receipt.json: cannot be written: Is a directory; "
        "free some space, make the folder writable, or remove what is in its place"
    )


def test_a_receipt_that_may_not_be_read_is_lost() -> None:
    with unprivileged() as folder:
        receipts.save(folder / "receipt.json", receipt())
        (folder / "receipt.json").chmod(0)
        assert receipts.load(folder / "receipt.json") == Lost(
            reason="its receipt cannot be read: Permission denied; starting over"
        )


# --- judging


def test_the_same_key_and_world_are_fresh(tmp_path: Path) -> None:
    assert judged(receipt(), tmp_path) == Fresh()


def test_a_lost_receipt_gives_its_reason(tmp_path: Path) -> None:
    assert judged(Lost(reason="not done here yet"), tmp_path) == Stale(
        reason="not done here yet", cause=Cause(kind="missing")
    )
    assert judged(Lost(reason="its receipt was damaged; starting over"), tmp_path) == Stale(
        reason="its receipt was damaged; starting over", cause=Cause(kind="receipt")
    )


def test_where_a_receipt_was_made_is_kept_and_makes_nothing_stale(tmp_path: Path) -> None:
    made = Made(time="2026-01-02T03:04:05+00:00", commit="c0ffee", machine="builder")
    receipts.save(tmp_path / "receipt.json", receipt(made=made))
    found = receipts.load(tmp_path / "receipt.json")
    assert isinstance(found, Receipt)
    assert found.made == made
    assert judged(found, tmp_path) == Fresh()


def setting(reason: str, name: str, old: str, new: str) -> Stale:
    """`old` and `new`: JSON of what is digested; empty: nothing."""
    before, after = (digest.of_bytes(text.encode()) if text else "" for text in (old, new))
    return Stale(reason=reason, cause=Cause(kind="setting", name=name, old=before, new=after))


OTHER_URI = setting("bundle uri changed", "bundle_uri", '"a"', '"b"')


@pytest.mark.parametrize(
    ("key", "verdict"),
    [
        (Key(bundle_uri="b"), OTHER_URI),
        (
            Key(images={"env": "image:2"}),
            setting("`env` of images changed", "images.env", '"image:1"', '"image:2"'),
        ),
        (Key(images={"env": "image:1", "more": ""}), setting("`more` of images changed", "images.more", "", '""')),
        (Key(images={}), setting("`env` of images changed", "images.env", '"image:1"', "")),
        (Key(format=2, bundle_uri="b"), setting("format changed", "format", "1", "2")),
    ],
)
def test_the_first_field_that_differs_is_named(key: Key, verdict: Verdict, tmp_path: Path) -> None:
    assert judged(receipt(), tmp_path, key) == verdict


def test_the_key_is_looked_at_before_the_world(tmp_path: Path) -> None:
    found = receipt(trace=Trace(files={"gone": "1"}), outputs={"gone": "1"})
    assert judged(found, tmp_path, Key(bundle_uri="b")) == OTHER_URI
    assert judged(found, tmp_path) == gone("gone", "1")


def gone(path: str, content: str) -> Stale:
    return Stale(reason=f"its result {path} is gone", cause=Cause(kind="output", name=path, old=content))


def test_a_value_that_is_a_digest_is_told_as_it_is(tmp_path: Path) -> None:
    old, new = digest.of_bytes(b"1"), digest.of_bytes(b"2")
    found = receipt(key=msgspec.Raw(Key(bundle_uri=old).json()))
    assert judged(found, tmp_path, Key(bundle_uri=new)) == Stale(
        reason="bundle uri changed", cause=Cause(kind="setting", name="bundle_uri", old=old, new=new)
    )


def test_outputs_are_below_the_state_folder_or_absolute(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "inside").write_text("1")
    (tmp_path / "outside").write_text("2")
    good = {"inside": digest.of_bytes(b"1"), f"{tmp_path}/outside": digest.of_bytes(b"2")}
    assert judged(receipt(outputs=good), tmp_path) == Fresh()
    (tmp_path / "outside").write_text("3")
    outside = f"{tmp_path}/outside"
    assert judged(receipt(outputs=good), tmp_path) == Stale(
        reason=f"its result {outside} was changed",
        cause=Cause(kind="output", name=outside, old=good[outside], new=digest.of_bytes(b"3")),
    )
    (tmp_path / "state" / "inside").unlink()
    assert judged(receipt(outputs=good), tmp_path) == gone("inside", good["inside"])


def test_a_difference_of_the_world_is_the_reason(tmp_path: Path) -> None:
    assert judged(receipt(trace=Trace(exists={"a": "file"})), tmp_path) == Stale(
        reason="a is now gone", cause=Cause(kind="path", name="a", old="file")
    )
