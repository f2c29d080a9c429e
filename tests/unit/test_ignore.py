"""Which files count: the ignore rules, compared with git itself, and what is always left out."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyte_build.errors import FileUnreadable
from flyte_build.gitignore import parse
from flyte_build.ignore import Ignore, load, python_files, scan, walk
from tests.unprivileged import unprivileged

GIT_ENV = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/"}


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def git_lists(folder: Path) -> list[str]:
    """What git itself says is not ignored."""
    command = ["git", "ls-files", "-o", "-z", "--exclude-per-directory=.gitignore"]
    out = subprocess.run(command, cwd=folder, env=GIT_ENV, capture_output=True, check=True).stdout
    return sorted(out.decode().split("\0")[:-1])


@pytest.fixture(scope="module")
def checkout() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "init", "-q", folder], env=GIT_ENV, check=True)
        yield Path(folder)


def emptied(checkout: Path) -> Path:
    for path in checkout.iterdir():
        if path.is_dir() and path.name != ".git":
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
    return checkout


FOLDERS = ["/".join(parts) for depth in range(4) for parts in itertools.product(["a", "ab"], repeat=depth)]
TREE = [os.path.join(folder, name) for folder in FOLDERS for name in ("b", "ba")]
# not among them: `a**`, for git drops the literal start of a pattern first, and so departs from its own manual
PARTS = st.sampled_from(
    ["a", "b", "ab", "*", "**", "***", "a*", "*b", "*a*", "?", "b?", "?*", "[ab]", "[!a]", "[^b]*", "[a-", "\\a"]
)
RULES = st.tuples(
    st.sampled_from(["", "", "!", "/", "!/", "#"]),
    st.lists(PARTS, min_size=1, max_size=3).map("/".join),
    st.sampled_from(["", "", "/", "/**", "/*", " "]),
).map("".join)
IGNORE_TEXT = st.lists(RULES, min_size=1, max_size=5).map("\n".join)


@settings(max_examples=80, deadline=None)
@given(
    ignore_files=st.fixed_dictionaries(
        {"": IGNORE_TEXT}, optional=dict.fromkeys(["a", "ab", "a/ab", "a/a/ab"], IGNORE_TEXT)
    )
)
def test_walk_agrees_with_git(checkout: Path, ignore_files: dict[str, str]) -> None:
    write(emptied(checkout), dict.fromkeys(TREE, ""))
    write(checkout, {os.path.join(folder, ".gitignore"): text for folder, text in ignore_files.items()})
    assert list(walk(checkout, load(checkout))) == git_lists(checkout)
    # git lists nothing in a folder that it ignores; a target's root is walked whatever the rules say of it
    if expected := git_lists(checkout / "a"):
        assert list(walk(checkout / "a", load(checkout / "a"))) == expected


GIT_EDGE_CASES = {
    "only-python": "*\n!*/\n!*.py\n",
    "folder-then-file-inside": "a/\n!a/keep.py\n",
    "contents-then-file": "a/*\n!a/keep.py\n",
    "anchored": "/keep.py\n",
    "anchored-by-a-slash-inside": "a/b\n",
    "double-star-first": "**/b/keep.py\n",
    "double-star-middle": "a/**/keep.py\n",
    "double-star-last": "a/**\n!a/b/\n",
    "trailing-spaces": "keep.py   \n",
    "escaped-trailing-space": "c\\ \n",
    "escaped-marks": "\\!bang\n\\#hash\n",
    "byte-order-mark": "\ufeffkeep.py\n",
    "carriage-returns": "keep.py\r\n*.txt\r\n",
    "class": "[k-m]eep.[[:alpha:]]y\nx[]y]\n",
    "open-bracket": "[keep.py\n",
    "question-mark-is-one-byte": "?\n??\n",
    "later-line-wins": "*.py\n!keep.py\n*.py\n",
}


@pytest.mark.parametrize("text", GIT_EDGE_CASES.values(), ids=GIT_EDGE_CASES.keys())
def test_git_edge_case(checkout: Path, text: str) -> None:
    tree = ["keep.py", "drop.txt", "a/keep.py", "a/x.txt", "a/b/keep.py", "a/b/c/keep.py", "!bang", "#hash", "c ", "é"]
    write(emptied(checkout), dict.fromkeys([*tree, "x]", "[keep.py", "z"], ""))
    write(checkout, {".gitignore": text})
    assert list(walk(checkout, load(checkout))) == git_lists(checkout)


def test_deeper_ignore_file_wins(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "*.csv\n", "data/.gitignore": "!kept.csv\n", "data/kept.csv": "", "data/x.csv": ""})
    assert "data/kept.csv" in walk(tmp_path, load(tmp_path))
    assert "data/x.csv" not in walk(tmp_path, load(tmp_path))


def test_flyteignore_follows_the_gitignore_beside_it(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "*.csv\n", ".flyteignore": "!kept.csv\nnotes.md\n", "kept.csv": "", "notes.md": ""})
    assert list(walk(tmp_path, load(tmp_path))) == [".flyteignore", ".gitignore", "kept.csv"]


def test_ignore_files_above_the_root_count_up_to_the_git_root(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "a.txt\n", "repo/.gitignore": "/svc/b.txt\n", "repo/.git/HEAD": ""})
    root = write(tmp_path / "repo/svc", {"a.txt": "", "b.txt": "", "c.txt": ""})
    rules = load(root)
    assert list(walk(root, rules)) == ["a.txt", "c.txt"]
    assert tuple(rules.files) == ("../.gitignore",)
    assert rules.missing == (".git", "../.flyteignore")


def test_outside_a_repository_nothing_above_the_root_counts(tmp_path: Path) -> None:
    root = write(tmp_path / "svc", {"a.txt": ""})
    write(tmp_path, {".gitignore": "a.txt\n"})
    assert list(walk(root, load(root))) == ["a.txt"]


def test_exclude_is_stronger_than_ignore_files(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "!*.py\n", "a.py": "", "tests/test_a.py": "", "svc/tests/x/test_b.py": ""})
    rules = load(tmp_path, ["**/tests/**", "!a.py"])
    assert list(walk(tmp_path, rules)) == [".gitignore", "a.py"]


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("**/tests/**", "svc/tests/x/test_b.py", True),
        ("**/tests/**", "tests.py", False),
        ("tests/", "svc/tests/a.py", True),
        ("tests/", "svc/tests", False),
        ("/svc/*.py", "svc/a.py", True),
        ("/svc/*.py", "svc/b/a.py", False),
    ],
)
def test_exclude_leaves_out_a_path(tmp_path: Path, pattern: str, path: str, expected: bool) -> None:
    assert load(tmp_path, [pattern]).excludes(path) is expected


ALWAYS_LEFT_OUT = [
    *(".git/HEAD", ".hg/store", ".flyte-build/files.json", ".doit.db", "pkg/__pycache__/a.pyc", "old.pyc"),
    *(".venv/lib/a.py", ".mypy_cache/a.json", ".ruff_cache/a", ".pytest_cache/a"),
    *("pkg.egg-info/PKG-INFO", ".DS_Store", ".idea/workspace.xml"),
]


@pytest.mark.parametrize("path", ALWAYS_LEFT_OUT)
def test_always_left_out(tmp_path: Path, path: str) -> None:
    write(tmp_path, {"keep.py": "", path: "", ".gitignore": "!*\n"})
    found = [each for each in walk(tmp_path, load(tmp_path, ["!*"])) if each != ".gitignore"]
    assert path not in found
    assert "keep.py" in found


@pytest.mark.parametrize("marker", ["pyvenv.cfg", "conda-meta/history", "CACHEDIR.TAG"])
def test_marked_folder_is_an_environment_or_a_cache(tmp_path: Path, marker: str) -> None:
    write(tmp_path, {f"env/{marker}": "", "env/lib/a.py": "", "a.py": ""})
    assert list(walk(tmp_path, load(tmp_path))) == ["a.py"]


@pytest.mark.parametrize(
    "path",
    [
        *(".env", ".env.prod", ".envrc", "svc/.env", "tls/server.pem", "server.KEY", "id_rsa", "id_ed25519.old"),
        *("store.p12", "credentials.json", "gcp-credentials.json", "service-account-prod.json", ".netrc", ".pypirc"),
        *(".aws/config", ".ssh/known_hosts", ".kube/config", "kubeconfig", ".docker/config.json", "a/.npmrc"),
        *(".streamlit/secrets.toml", "ops/.config/gcloud/token"),
    ],
)
def test_secret_is_left_out_and_reported(tmp_path: Path, path: str) -> None:
    write(tmp_path, {path: "", ".gitignore": "!*\n"})
    seen = scan(tmp_path, load(tmp_path, ["!*"]))
    assert seen.files == (".gitignore",)
    assert len(seen.secrets) == 1
    assert path.startswith(seen.secrets[0])


@pytest.mark.parametrize(
    "path",
    [
        *("environment.py", "id_rsa_tools.py", "credentials/loader.py", "keys.py", "public.pub", "key/a.py"),
        *(".streamlit/config.toml", ".dockerignore", ".github/workflows/a.yml", "build/a.txt", "kubeconfig_tools.py"),
    ],
)
def test_neither_secret_nor_always_left_out(tmp_path: Path, path: str) -> None:
    write(tmp_path, {path: ""})
    assert list(walk(tmp_path, load(tmp_path))) == [path]


def test_ignored_secret_is_not_reported(tmp_path: Path) -> None:
    write(tmp_path, {".env": "", ".gitignore": ".env\n"})
    assert scan(tmp_path, load(tmp_path)).secrets == ()


def test_discovery_enters_no_hidden_folder_and_loads_no_package_file(tmp_path: Path) -> None:
    write(
        tmp_path, dict.fromkeys(["svc/b.py", "svc/a.py", "svc/__init__.py", "svc/.hid/c.py", "svc/n.txt", "d.py"], "")
    )
    assert python_files(tmp_path, "svc", load(tmp_path)) == ["svc/a.py", "svc/b.py"]


def test_rules_of_folders_between_root_and_start_count(tmp_path: Path) -> None:
    write(tmp_path, {"svc/.gitignore": "gen_*.py\n", "svc/in/a.py": "", "svc/in/gen_b.py": ""})
    assert python_files(tmp_path, "svc/in", load(tmp_path)) == ["svc/in/a.py"]


def test_start_folder_is_entered_though_it_is_ignored(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "gen/\n", "gen/a.py": ""})
    assert scan(tmp_path, load(tmp_path), "gen").files == ("gen/a.py",)


def test_ignored_folder_is_not_entered(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "big/\n", "big/deep/a.py": "", "a.py": ""})
    assert tuple(scan(tmp_path, load(tmp_path)).folders) == (".",)


def test_scan_names_all_that_it_depends_on(tmp_path: Path) -> None:
    write(tmp_path, {"a/.gitignore": "", "a/x.py": "", "b/y.py": ""})
    seen = scan(tmp_path, load(tmp_path))
    assert tuple(seen.folders) == (".", "a", "b")
    assert tuple(seen.ignore_files) == ("a/.gitignore",)


def test_linked_folder_is_followed_under_its_own_name(tmp_path: Path) -> None:
    write(tmp_path, {"real/x.py": ""})
    (tmp_path / "link").symlink_to("real")
    assert list(walk(tmp_path, load(tmp_path))) == ["link/x.py", "real/x.py"]


def test_links_in_circles_end(tmp_path: Path) -> None:
    write(tmp_path, {"a/x.py": "", "b/y.py": ""})
    (tmp_path / "a/to_b").symlink_to("../b")
    (tmp_path / "b/to_a").symlink_to("../a")
    (tmp_path / "a/self").symlink_to(".")
    seen = scan(tmp_path, load(tmp_path))
    assert seen.files == ("a/to_b/y.py", "a/x.py", "b/to_a/x.py", "b/y.py")
    assert seen.refused == ("a/self", "a/to_b/to_a", "b/to_a/self", "b/to_a/to_b")


def test_links_that_cannot_be_followed_are_named(tmp_path: Path) -> None:
    root = write(tmp_path / "root", {"a.py": ""})
    write(tmp_path, {"rooted/x.py": ""})
    (root / "broken").symlink_to("nowhere")
    (root / "loop").symlink_to("loop")
    (root / "outside").symlink_to("../rooted")
    (root / "outside.py").symlink_to("../rooted/x.py")
    assert scan(root, load(root)).refused == ("broken", "loop", "outside", "outside.py")


@pytest.mark.parametrize("leads_to", [".env", ".venv/lib/a.py", "keys/.ssh"])
def test_link_to_what_is_never_taken_is_left_out(tmp_path: Path, leads_to: str) -> None:
    write(tmp_path, {".env": "", ".venv/lib/a.py": "", "keys/.ssh/id": ""})
    (tmp_path / "link").symlink_to(leads_to)
    assert list(walk(tmp_path, load(tmp_path))) == []


def test_name_that_is_not_utf8_is_reported_apart(tmp_path: Path) -> None:
    (tmp_path / "a.py").touch()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).touch()
    seen = scan(tmp_path, load(tmp_path))
    assert (seen.files, seen.unnameable) == (("a.py",), (b"caf\xe9.txt",))


def test_malformed_pattern_matches_nothing() -> None:
    for text in (b"[a", b"a\\", b"[[:none:]]", b"/", b"!", b""):
        assert parse(text).verdict(b"a") is None


def test_unreadable_ignore_file_is_named() -> None:
    with unprivileged() as root:
        write(root, {"svc/a.py": "", "svc/.gitignore": "x"})
        (root / "svc/.gitignore").chmod(0)
        with pytest.raises(FileUnreadable) as caught:
            scan(root, Ignore())
    assert str(caught.value) == (
        "svc/.gitignore: cannot be read: Permission denied; make it readable, or leave it out with `exclude`"
    )


def test_closed_folder_is_refused() -> None:
    with unprivileged() as root:
        write(root, {"open/a.py": "", "closed/b.py": ""})
        (root / "closed").chmod(0)
        seen = scan(root, Ignore())
        (root / "closed").chmod(0o700)
    assert (seen.files, seen.refused) == (("open/a.py",), ("closed",))
