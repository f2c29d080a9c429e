"""Bundles of real trees: which files, which bytes, and what stops one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import msgspec
import pytest

from flyte_build import archive, errors, packing
from flyte_build.model import Bundle, BundleFile, CopyStyle, Discovery, EnvironmentDraft, ImageDraft, Target
from flyte_build.packing import Plan
from flyte_build.state import digest
from flyte_build.state.files import FileIndex
from flyte_build.state.trace import listing_digest
from tests.unprivileged import unprivileged

FILES: Mapping[str, str] = {
    "main.py": "import shared.base\n\ndef task():\n    from shared import lazy\n",
    "shared/__init__.py": "",
    "shared/base.py": "",
    "shared/lazy.py": "import shared.lazier\n",
    "shared/lazier.py": "",
    "shared/unused.py": "",
    "sql/one.sql": "select 1",
    "sql/two.sql": "select 2",
    "sql/deep/three.sql": "select 3",
    "tests/test_main.py": "import shared.unused\n",
    ".streamlit/config.toml": "",
    ".env": "PASSWORD=hunter2",
    "ignored.csv": "1",
    "notes.md": "",
    ".gitignore": "ignored.csv\n",
}
LOADED = ("main.py", "shared/__init__.py", "shared/base.py")


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "root", FILES)


def target(copy_style: CopyStyle = "loaded_modules", **more: object) -> Target:
    origin = {"table": "[targets.fraud]"}
    return msgspec.convert(
        {"name": "fraud", "path": "main.py", "origin": origin, "copy_style": copy_style, **more}, Target
    )


def discovery(*include: str, loaded: tuple[str, ...] = LOADED) -> Discovery:
    draft = EnvironmentDraft(
        name="prep", image=ImageDraft(kind="auto"), depends_on=(), tasks=(), file="main.py", include=include
    )
    return Discovery(environments=(draft,), loaded_files=loaded)


def plan(root: Path, copy_style: CopyStyle = "loaded_modules", *include: str, **more: object) -> Plan:
    """Of a target; `include` is the environment's, `more` the target's other keys."""
    return packing.plan(target(copy_style, **more), root, discovery(*include))


def built(root: Path, copy_style: CopyStyle = "all", **more: object) -> Bundle:
    return packing.pack(plan(root, copy_style, **more), root, root.parent / "out")


# --- which files


def test_loaded_modules_takes_what_was_imported_and_may_be_imported(root: Path) -> None:
    assert plan(root).files == (*LOADED, "shared/lazier.py", "shared/lazy.py")


def test_without_lazy_imports_only_what_was_imported(root: Path) -> None:
    found = plan(root, lazy_imports=False)
    assert found.files == LOADED
    assert found.watch_missing == ()


def test_all_takes_hidden_files_and_leaves_out_ignored_ones_and_secrets(root: Path) -> None:
    found = plan(root, "all")
    assert set(FILES) - set(found.files) == {".env", "ignored.csv"}
    assert found.secrets == (".env",)


def test_all_takes_an_imported_module_that_is_ignored(root: Path) -> None:
    write(root, {".gitignore": "*_pb2.py\n", "gen_pb2.py": ""})
    found = packing.plan(target("all"), root, discovery(loaded=("gen_pb2.py",)))
    assert "gen_pb2.py" in found.files


def test_none_takes_nothing(root: Path) -> None:
    assert plan(root, "none").files == ()


def test_none_takes_what_is_included_and_only_that(root: Path) -> None:
    assert plan(root, "none", "sql", include=["notes.md"]).files == (
        *("notes.md", "sql/deep/three.sql", "sql/one.sql", "sql/two.sql"),
    )


@pytest.mark.parametrize(
    ("include", "files"),
    [
        ("sql/one.sql", {"sql/one.sql"}),
        ("./sql/../sql/one.sql", {"sql/one.sql"}),
        ("sql/*.sql", {"sql/one.sql", "sql/two.sql"}),
        ("sql/**/*.sql", {"sql/one.sql", "sql/two.sql", "sql/deep/three.sql"}),
        ("sql/**", {"sql/one.sql", "sql/two.sql", "sql/deep/three.sql"}),
        ("**/t*.sql", {"sql/two.sql", "sql/deep/three.sql"}),
        ("sql/[no]?e.sql", {"sql/one.sql"}),
        ("sql", {"sql/one.sql", "sql/two.sql", "sql/deep/three.sql"}),
        ("sql/", {"sql/one.sql", "sql/two.sql", "sql/deep/three.sql"}),
    ],
)
def test_include_names_a_file_a_folder_or_a_glob(root: Path, include: str, files: set[str]) -> None:
    assert set(plan(root, "none", include=[include]).files) == files


def test_manifest_include_is_relative_to_the_manifest(root: Path) -> None:
    found = packing.plan(
        target("none", root_dir="services/root", include=["services/root/sql/*.sql"]), root, discovery()
    )
    assert found.files == ("sql/one.sql", "sql/two.sql")


def test_include_may_be_absolute(root: Path) -> None:
    assert plan(root, "none", include=[str(root / "notes.md")]).files == ("notes.md",)


def test_file_whose_name_looks_like_a_glob_is_taken(root: Path) -> None:
    write(root, {"data[1].csv": "", "data1.csv": ""})
    assert plan(root, "none", include=["data[1].csv"]).files == ("data[1].csv",)


@pytest.mark.parametrize("path", [".env", "ignored.csv", "tests/test_main.py"])
@pytest.mark.parametrize("copy_style", ["loaded_modules", "all", "none"])
def test_file_named_in_full_wins_over_every_rule(root: Path, copy_style: CopyStyle, path: str) -> None:
    found = plan(root, copy_style, include=[path], exclude=["tests/"])
    assert path in found.files
    assert path not in found.secrets


@pytest.mark.parametrize("include", [".", "**", "*"])
def test_folder_and_glob_are_under_the_rules(root: Path, include: str) -> None:
    found = plan(root, "none", include=[include], exclude=["*.md"])
    assert {"main.py", ".gitignore"} <= set(found.files)
    assert not {".env", "ignored.csv", "notes.md"} & set(found.files)
    assert found.secrets == (".env",)


def test_ignored_folder_may_be_included_by_name(root: Path) -> None:
    write(root, {".gitignore": "models/\n", "models/a.bin": "", "models/deep/b.bin": ""})
    assert plan(root, "none", include=["models"]).files == ("models/a.bin", "models/deep/b.bin")


@pytest.mark.parametrize("copy_style", ["loaded_modules", "all"])
def test_exclude_leaves_out_imported_and_lazily_imported_modules(root: Path, copy_style: CopyStyle) -> None:
    found = plan(root, copy_style, exclude=["shared/base.py", "**/lazy.py", "sql/"])
    assert not {"shared/base.py", "shared/lazy.py", "sql/one.sql"} & set(found.files)
    assert "main.py" in found.files


def test_lazy_import_of_an_ignored_module_is_taken(root: Path) -> None:
    write(root, {".gitignore": "lazy.py\n"})
    assert "shared/lazy.py" in plan(root).files


# --- what the choice depends on


def test_plan_of_loaded_modules_lists_no_folder(root: Path) -> None:
    found = plan(root)
    assert (found.watch_folders, found.watch_files) == ({}, {})
    assert {"shared/base", "shared/lazier/__init__.py"} & set(found.watch_missing) == {"shared/base"}


def test_plan_of_all_names_folders_ignore_files_and_ignore_files_that_are_not_there(root: Path) -> None:
    (root.parent / ".git").mkdir()
    write(root.parent, {".gitignore": ""})
    found = plan(root, "all")
    assert tuple(found.watch_folders) == (".", ".streamlit", "shared", "sql", "sql/deep", "tests")
    assert tuple(found.watch_files) == ("../.gitignore", ".gitignore")
    assert {"../.flyteignore", ".git"} <= set(found.watch_missing)


def test_plan_of_a_glob_names_the_folders_it_looked_in(root: Path) -> None:
    assert tuple(plan(root, "none", include=["sql/*.sql"]).watch_folders) == ("sql", "sql/deep")


def test_plan_describes_folders_and_ignore_files_as_the_walk_saw_them(root: Path) -> None:
    found = plan(root, "all")
    listed = listing_digest(FileIndex().listing(str(root / "sql")))
    assert found.watch_folders["sql"] == listed
    assert found.watch_files[".gitignore"] == digest.of_bytes(b"ignored.csv\n")
    write(root, {"sql/late.sql": "", ".gitignore": ""})
    packing.pack(found, root, root.parent / "out")
    assert found.watch_folders["sql"] == listed != listing_digest(FileIndex().listing(str(root / "sql")))


# --- the archive


def test_bundle_describes_its_archive(root: Path) -> None:
    (root / "main.py").chmod(0o700)
    made = built(root)
    path = root.parent / "out" / made.filename
    assert made.archive_size == path.stat().st_size
    assert made.size == sum(len(FILES[file.path]) for file in made.files)
    with tarfile.open(path) as tar:
        assert [info.name for info in tar] == [file.path for file in made.files]
    first = next(file for file in made.files if file.path == "main.py")
    content = FILES["main.py"].encode()
    assert first == BundleFile(path="main.py", digest=digest.of_bytes(content), size=len(content), executable=True)


def test_archive_extracts_to_the_same_files(root: Path, tmp_path: Path) -> None:
    made = built(root)
    (tmp_path / "pod").mkdir()
    packed = root.parent / "out" / made.filename
    subprocess.run(["tar", "--overwrite", "-xvf", packed, "-C", tmp_path / "pod"], check=True, capture_output=True)
    for file in made.files:
        assert (tmp_path / "pod" / file.path).read_text() == FILES[file.path]


def test_same_files_are_written_once(root: Path) -> None:
    made = built(root)
    written = (root.parent / "out" / made.filename).stat()
    (root / "main.py").touch()
    assert built(root) == made
    assert (root.parent / "out" / made.filename).stat().st_mtime_ns == written.st_mtime_ns
    assert os.listdir(root.parent / "out") == [made.filename]


SAME_BUNDLE: dict[str, Callable[[Path], object]] = {
    "touched": lambda root: os.utime(root / "main.py", (1, 1)),
    "readable-by-all": lambda root: (root / "main.py").chmod(0o666),
    "ignored-file": lambda root: write(root, {"ignored.csv": "2"}),
    "cache": lambda root: write(root, {"shared/__pycache__/base.pyc": "x", ".mypy_cache/a": "x"}),
    "secret": lambda root: write(root, {".env": "PASSWORD=other"}),
}
OTHER_BUNDLE: dict[str, Callable[[Path], object]] = {
    "edited": lambda root: write(root, {"main.py": "x"}),
    "executable": lambda root: (root / "main.py").chmod(0o755),
    "renamed": lambda root: (root / "main.py").rename(root / "renamed.py"),
    "added": lambda root: write(root, {"new.txt": ""}),
    "deleted": lambda root: (root / "notes.md").unlink(),
    "moved": lambda root: (root / "sql/one.sql").rename(root / "one.sql"),
}


@pytest.mark.parametrize("change", SAME_BUNDLE.values(), ids=SAME_BUNDLE.keys())
def test_change_leaves_the_bundle_as_it_was(root: Path, change: Callable[[Path], object]) -> None:
    before = packing.pack(plan_of_all(root), root, root.parent / "out")
    change(root)
    assert packing.pack(plan_of_all(root), root, root.parent / "out") == before


@pytest.mark.parametrize("change", OTHER_BUNDLE.values(), ids=OTHER_BUNDLE.keys())
def test_change_gives_another_bundle(root: Path, change: Callable[[Path], object]) -> None:
    before = packing.pack(plan_of_all(root), root, root.parent / "out")
    change(root)
    assert packing.pack(plan_of_all(root), root, root.parent / "out").digest != before.digest


def plan_of_all(root: Path) -> Plan:
    return packing.plan(target("all"), root, discovery(loaded=()))


SCRIPT = """
import os, sys
from pathlib import Path
os.umask(int(sys.argv[3], 8))
from flyte_build.model import Discovery, Target
from flyte_build import packing
root, out = Path(sys.argv[1]), Path(sys.argv[2])
target = Target(name="t", path="main.py", copy_style="all", include=("sql/*.sql", ".env"))
plan = packing.plan(target, root, Discovery(environments=(), loaded_files=("main.py",)))
print(packing.pack(plan, root, out).filename)
"""


def test_two_checkouts_give_the_same_bytes(tmp_path: Path) -> None:
    odd = {**FILES, "caf\u00e9/\u6570.txt": "x", "n" * 120 + ".txt": "y", "run.sh": "#!/bin/sh\n"}
    one = write(tmp_path / "one", odd)
    two = write(tmp_path / "a" / "much" / "longer path é" / "two", dict(reversed(odd.items())))
    for root, mode in ((one, 0o644), (two, 0o660)):
        for path in odd:
            (root / path).chmod(mode | (0o100 if path == "run.sh" else 0))
    for path in odd:
        os.utime(two / path, (86_400, 86_400))
    first = in_another_process(one, umask="022", TZ="UTC", LC_ALL="C.UTF-8", PYTHONHASHSEED="1")
    second = in_another_process(
        two, umask="077", TZ="Asia/Tokyo", LC_ALL="C", PYTHONHASHSEED="2", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"
    )
    assert first == second


def in_another_process(root: Path, umask: str, **environment: str) -> tuple[str, str]:
    """The archive's name and the digest of its bytes."""
    out = root.parent / f"out-{root.name}"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, root, out, umask],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(packing.__file__).parents[1]), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    name = done.stdout.strip()
    return name, hashlib.sha256((out / name).read_bytes()).hexdigest()


def test_root_may_itself_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(root)
    made = packing.pack(plan_of_all(tmp_path / "linked"), tmp_path / "linked", tmp_path / "out")
    assert made == packing.pack(plan_of_all(root), root, tmp_path / "out")


def test_links_inside_the_root_are_bundled_as_what_they_lead_to(root: Path, tmp_path: Path) -> None:
    (root / "alias.py").symlink_to("main.py")
    (root / "queries").symlink_to("sql")
    made = built(root)
    with tarfile.open(tmp_path / "out" / made.filename) as tar:
        assert all(info.isreg() for info in tar)
        assert {"alias.py", "queries/one.sql", "queries/deep/three.sql"} <= {info.name for info in tar}


# --- size


def test_largest_files_of_a_small_bundle_are_not_worth_a_word(root: Path) -> None:
    assert packing.largest(built(root)) == ()


def test_ten_largest_files_come_largest_first() -> None:
    files = tuple(BundleFile(path=f"{n:02}", digest="", size=n * 1_000_000) for n in range(12))
    shown = packing.largest(Bundle(digest="d", files=files, archive_size=1))
    assert [file.path for file in shown] == ["11", "10", "09", "08", "07", "06", "05", "04", "03", "02"]


def test_bundle_above_the_limit_lists_its_largest_files(root: Path) -> None:
    write(root, {"big.bin": bytes(2_500_000), "data/small.bin": bytes(60_000)})
    with pytest.raises(errors.BundleTooLarge) as caught:
        built(root, "none", include=["big.bin", "data"], max_bundle_size=1_000_000)
    assert str(caught.value) == (
        "[targets.fraud]: bundle of 2.6 MB is above the 1.0 MB allowed; leave files out with `exclude` or "
        ".flyteignore, or raise `max_bundle_size`; its largest files:\n"
        "      2.5 MB  big.bin\n"
        "      0.1 MB  data/small.bin"
    )
    assert not (root.parent / "out").exists()


def test_bundle_of_exactly_the_limit_is_built(root: Path) -> None:
    write(root, {"big.bin": bytes(1_000)})
    assert built(root, "none", include=["big.bin"], max_bundle_size=1_000).size == 1_000


# --- what stops a bundle


def broken(root: Path) -> None:
    (root / "link.txt").symlink_to("nowhere.txt")


def looping(root: Path) -> None:
    (root / "link.txt").symlink_to("link.txt")


def looping_folder(root: Path) -> None:
    (root / "sql/up").symlink_to("..")


def leaving(root: Path) -> None:
    write(root.parent, {"outside.txt": ""})
    (root / "link.txt").symlink_to("../outside.txt")


def leaving_folder(root: Path) -> None:
    write(root.parent, {"outside/a.txt": ""})
    (root / "sql/link").symlink_to("../../outside")


def fifo(root: Path) -> None:
    os.mkfifo(root / "pipe")


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def bound_socket(root: Path) -> None:
    with _inside(root), socket.socket(socket.AF_UNIX) as it:  # the path of a socket may be 107 bytes long
        it.bind("sock")


def not_utf8(root: Path) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.txt")).touch()


STOPS: dict[str, tuple[Callable[[Path], None], str]] = {
    "broken-link": (
        broken,
        "link.txt: symbolic link to `nowhere.txt`, which does not exist; mend it, or leave it out with `exclude`",
    ),
    "looping-link": (
        looping,
        "link.txt: symbolic link to `link.txt` goes round in a loop; remove it, or leave it out with `exclude`",
    ),
    "link-to-a-folder-it-is-in": (
        looping_folder,
        "sql/up: symbolic link to `..` goes round in a loop; remove it, or leave it out with `exclude`",
    ),
    "link-that-leaves": (
        leaving,
        "link.txt: symbolic link leaves the root, for `../outside.txt`; copy what it leads to into the root, "
        "or leave it out with `exclude`",
    ),
    "link-to-a-folder-outside": (
        leaving_folder,
        "sql/link: symbolic link leaves the root, for `../../outside`; copy what it leads to into the root, "
        "or leave it out with `exclude`",
    ),
    "fifo": (fifo, "pipe: a FIFO, which cannot be bundled; remove it, or leave it out with `exclude`"),
    "socket": (bound_socket, "sock: a socket, which cannot be bundled; remove it, or leave it out with `exclude`"),
    "not-utf8": (
        not_utf8,
        "caf\\xe9.txt: name is not UTF-8; rename it, or leave out the folder that it is in with `exclude`",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), STOPS.values(), ids=STOPS.keys())
def test_what_cannot_be_bundled_is_named(root: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(root)
    with pytest.raises(errors.StepError) as caught:
        built(root)
    assert str(caught.value) == message


@pytest.mark.parametrize("spoil", [spoil for spoil, _ in STOPS.values()], ids=STOPS.keys())
def test_what_cannot_be_bundled_does_no_harm_where_it_is_not_asked_for(
    root: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(root)
    assert built(root, "loaded_modules").files
    assert built(root, "none", include=["sql/*.sql"]).files


@pytest.mark.parametrize("spoil", [broken, looping, looping_folder, leaving, leaving_folder, fifo, bound_socket])
def test_exclude_mends_it(root: Path, spoil: Callable[[Path], None]) -> None:
    spoil(root)
    assert built(root, exclude=["link.txt", "sql/up", "sql/link", "pipe", "sock"]).files


@pytest.mark.parametrize(("spoil", "include"), [(broken, "link.txt"), (fifo, "pipe"), (leaving, "link.txt")])
def test_included_by_name_it_is_named_too(root: Path, spoil: Callable[[Path], None], include: str) -> None:
    spoil(root)
    expected = next(message for each, message in STOPS.values() if each is spoil)
    with pytest.raises(errors.StepError) as caught:
        plan(root, "none", include=[include])
    assert str(caught.value) == expected


def test_included_through_a_link_that_leaves_it_is_named(root: Path) -> None:
    leaving_folder(root)
    with pytest.raises(errors.SymlinkLeavesRoot) as caught:
        plan(root, "none", include=["sql/link/a.txt"])
    assert caught.value.path == "sql/link/a.txt"


def test_imported_module_that_is_a_link_out_of_the_root_is_named(root: Path) -> None:
    write(root.parent, {"outside.py": ""})
    (root / "linked.py").symlink_to("../outside.py")
    found = packing.plan(target(), root, discovery(loaded=("linked.py",)))
    with pytest.raises(errors.SymlinkLeavesRoot) as caught:
        packing.pack(found, root, root.parent / "out")
    assert str(caught.value) == (
        "linked.py: symbolic link leaves the root, for `../outside.py`; copy what it leads to into the root, "
        "or leave it out with `exclude`"
    )


def test_device_is_named(root: Path) -> None:
    with pytest.raises(errors.NotARegularFile) as caught:
        packing.read_whole(b"/dev", "null")
    assert str(caught.value) == (
        "null: a character device, which cannot be bundled; remove it, or leave it out with `exclude`"
    )


def test_unreadable_file_and_folder_are_named() -> None:
    archive.pack([])  # imports what it needs while it still can
    with unprivileged() as folder:
        root = write(folder / "root", {"a.py": "", "closed/b.py": ""})
        (root / "closed").chmod(0)
        with pytest.raises(errors.FileUnreadable) as closed:
            built(root)
        (root / "closed").chmod(0o700)
        (root / "a.py").chmod(0)
        with pytest.raises(errors.FileUnreadable) as unreadable:
            packing.pack(plan_of_all(root), root, folder / "out")
    mend = "cannot be read: Permission denied; make it readable, or leave it out with `exclude`"
    assert [str(closed.value), str(unreadable.value)] == [f"closed: {mend}", f"a.py: {mend}"]


def test_file_that_is_gone_is_named(root: Path) -> None:
    found = plan(root)
    (root / "shared/lazy.py").unlink()
    with pytest.raises(errors.FileVanished) as caught:
        packing.pack(found, root, root.parent / "out")
    assert str(caught.value) == (
        "shared/lazy.py: was there a moment ago, and is gone; deploy again, or leave it out with `exclude` if it comes "
        "and goes"
    )


def test_file_replaced_by_a_folder_is_named(root: Path) -> None:
    found = plan(root, lazy_imports=False)
    (root / "main.py").unlink()
    (root / "main.py").mkdir()
    with pytest.raises(errors.FileUnreadable) as caught:
        packing.pack(found, root, root.parent / "out")
    assert str(caught.value) == (
        "main.py: cannot be read: Is a directory; make it readable, or leave it out with `exclude`"
    )


def test_source_is_packed_as_it_was_when_its_imports_were_read(root: Path) -> None:
    found = plan(root)
    before = built(root, "loaded_modules")
    (root / "main.py").write_text("import shared.other\n")
    (root / "shared/lazy.py").chmod(0o755)
    assert packing.pack(found, root, root.parent / "out") == before


# --- a file that changes while it is read


def writing(path: Path, times: int, content: str) -> Callable[[BinaryIO], bytes]:
    """Reads as usual, while another program writes: in the middle of each of the first few readings."""
    left = [times]

    def read(file: BinaryIO) -> bytes:
        first = file.read(2)
        if left[0]:
            left[0] -= 1
            path.write_text(content + "x" * left[0])
        return first + file.read()

    return read


def test_file_that_changed_while_it_was_read_is_read_again(root: Path) -> None:
    path = root / "notes.md"
    path.write_text("old old old")
    content, _ = packing.read_whole(os.fsencode(root), "notes.md", writing(path, 2, "newer"))
    assert content == b"newer"


def test_file_that_never_holds_still_is_named(root: Path) -> None:
    with pytest.raises(errors.FileKeepsChanging) as caught:
        packing.read_whole(os.fsencode(root), "notes.md", writing(root / "notes.md", 100, "newer"))
    assert str(caught.value) == (
        "notes.md: changed each of the 5 times that it was read; stop what writes to it, or leave it out with `exclude`"
    )


def test_file_replaced_while_it_was_read_is_read_again(root: Path) -> None:
    def read(file: BinaryIO) -> bytes:
        content = file.read()
        if content == b"old":
            write(root, {"next.md": "new"})
            os.replace(root / "next.md", root / "notes.md")
        return content

    (root / "notes.md").write_text("old")
    assert packing.read_whole(os.fsencode(root), "notes.md", read)[0] == b"new"


# --- includes that name nothing


@pytest.mark.parametrize("include", ["sql/*.txt", "nowhere.sql", "nowhere/*.sql", "nowhere", "sql/[a", "main.py/x"])
def test_include_that_matches_nothing_is_an_error(root: Path, include: str) -> None:
    with pytest.raises(errors.IncludeMatchesNothing) as caught:
        plan(root, include=[include])
    assert str(caught.value) == f"[targets.fraud] include: `{include}` matches no file; correct it, or take it out"


def test_empty_folder_matches_nothing(root: Path) -> None:
    (root / "empty").mkdir()
    with pytest.raises(errors.IncludeMatchesNothing) as caught:
        plan(root, "loaded_modules", "empty")
    assert str(caught.value) == "environment `prep` include: `empty` matches no file; correct it, or take it out"


@pytest.mark.parametrize(
    ("include", "left_out"), [("*.csv", "`ignored.csv`"), (".env*", "`.env`"), ("tests", "`tests/test_main.py`")]
)
def test_include_that_matches_only_what_is_left_out_says_so(root: Path, include: str, left_out: str) -> None:
    with pytest.raises(errors.IncludeMatchesNothing) as caught:
        plan(root, include=[include], exclude=["**/tests/**"])
    assert str(caught.value) == (
        f"[targets.fraud] include: `{include}` matches only files that are left out, such as {left_out}; "
        "name each file in full to bundle it all the same"
    )


@pytest.mark.parametrize("include", ["notes.md", "..", "services/../x", "/x"])
def test_include_outside_the_root_is_an_error(root: Path, include: str) -> None:
    with pytest.raises(errors.IncludeOutsideRoot) as caught:
        packing.plan(target(root_dir="services", include=[include]), root, discovery())
    assert str(caught.value) == (
        f"[targets.fraud] include: `{include}` lies outside the root `services`, and a bundle holds only what is "
        "inside; set `root_dir` to a folder that holds both"
    )


def test_environment_include_outside_the_root_is_an_error(root: Path) -> None:
    with pytest.raises(errors.IncludeOutsideRoot) as caught:
        plan(root, "none", "../data.csv")
    assert str(caught.value) == (
        "environment `prep` include: `../data.csv` lies outside the root `.`, and a bundle holds only what is "
        "inside; set `root_dir` to a folder that holds both"
    )


def test_archive_that_cannot_be_written_is_named(root: Path, tmp_path: Path) -> None:
    write(tmp_path, {"file": ""})
    with pytest.raises(errors.StateUnwritable) as caught:
        packing.pack(plan(root), root, tmp_path / "file" / "out")
    assert caught.value.reason == "Not a directory"
