"""A context holds the files that it should, in the same bytes wherever the repository lies; what it read is noted."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from flyte import Image
from hypothesis import given, settings
from hypothesis import strategies as st

from flyte_build.errors import ImageError, ImageFileMissing, ImageFileUnusable, ImageSourceEmpty
from flyte_build.images.context import Member, Seen, keep
from flyte_build.state import digest
from flyte_build.state.folder import StateFolder
from tests.image_planning import BASE, archive, contents, planned, state, write

FOLDER = {"src/a.py": "a\n", "src/data/b.csv": "b\n", "src/x.log": "x\n"}


def names(root: Path, ignore: str = "", *, folder: str = "src", files: dict[str, str] = FOLDER) -> list[str]:
    """What `with_source_folder(folder)` puts into the context."""
    write(root, {**files, **({".dockerignore": ignore} if ignore else {})})
    return sorted(contents(planned(BASE.with_source_folder(root / folder), root), root))


def of_dockerfile(root: Path) -> dict[str, bytes]:
    return contents(planned(Image.from_dockerfile(root / "docker/Dockerfile", "ghcr.io/org", "job"), root), root)


# --- which files


def test_patterns_start_from_the_root(tmp_path: Path) -> None:
    assert names(tmp_path, "src/data\na.py\n**/*.log\n") == ["layer1/src/a.py"]


def test_a_folder_outside_the_root_has_patterns_of_its_own(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, {".dockerignore": "data\n"})
    write(tmp_path, FOLDER)
    build = planned(BASE.with_source_folder(tmp_path / "src"), root)
    assert sorted(contents(build, root)) == ["layer1/src/a.py", "layer1/src/x.log"]


def test_what_is_taken_back_below_a_folder_that_is_left_out_is_there(tmp_path: Path) -> None:
    assert names(tmp_path, "*\n!src/data/b.csv\n") == ["layer1/src/data/b.csv"]


def test_a_file_that_is_named_is_there_whatever_is_ignored(tmp_path: Path) -> None:
    write(tmp_path, {".dockerignore": "*\n", "a.txt": "a"})
    assert contents(planned(BASE.with_source_file(tmp_path / "a.txt"), tmp_path), tmp_path) == {"layer1/a.txt": b"a"}


def test_the_last_ignore_file_that_a_layer_names_counts(tmp_path: Path) -> None:
    write(tmp_path, {**FOLDER, ".dockerignore": "**/*.py\n", "one": "**/*.csv\n", "two": "**/*.log\n"})
    image = BASE.with_dockerignore(tmp_path / "one").with_source_folder(tmp_path / "src")
    build = planned(image.with_dockerignore(tmp_path / "two"), tmp_path)
    assert sorted(contents(build, tmp_path)) == ["layer2/src/a.py", "layer2/src/data/b.csv"]


def test_caches_virtual_environments_and_our_own_state_are_never_there(tmp_path: Path) -> None:
    more = ("src/__pycache__/a.pyc", "src/.venv/pyvenv.cfg", "src/.venv/x", "src/.flyte-build/x", "src/.doit.db.dat")
    assert names(tmp_path, files={**FOLDER, **dict.fromkeys(more, "")}) == names(tmp_path, files=FOLDER)


def test_a_whole_project_has_its_lock_although_that_is_ignored(tmp_path: Path) -> None:
    write(tmp_path, {"app/pyproject.toml": "", "app/uv.lock": "", "app/x.py": "", ".dockerignore": "app/uv.lock\n"})
    image = BASE.with_uv_project(tmp_path / "app/pyproject.toml", project_install_mode="install_project")
    assert sorted(contents(planned(image, tmp_path), tmp_path)) == [
        "layer1/app/pyproject.toml",
        "layer1/app/uv.lock",
        "layer1/app/x.py",
    ]


def test_what_one_layer_copies_brings_along_nothing_of_another_s(tmp_path: Path) -> None:
    write(tmp_path, {"src/a.py": "", "src/secret.txt": "", ".dockerignore": "src/secret.txt\n"})
    image = BASE.with_source_file(tmp_path / "src/secret.txt", "/x/").with_source_folder(tmp_path / "src")
    assert sorted(contents(planned(image, tmp_path), tmp_path)) == ["layer1/src/secret.txt", "layer2/src/a.py"]


def test_paths_that_differ_only_in_how_they_are_escaped_are_kept_apart(tmp_path: Path) -> None:
    write(tmp_path, {"a b/x.py": "1", "a%20b/x.py": "2"})
    image = BASE.with_source_folder(tmp_path / "a b").with_source_folder(tmp_path / "a%20b")
    assert contents(planned(image, tmp_path), tmp_path) == {"layer1/a%20b/x.py": b"1", "layer2/a%2520b/x.py": b"2"}


def test_code_in_the_image_obeys_dockerignore(tmp_path: Path) -> None:
    write(tmp_path, {**FOLDER, "job.py": "", ".dockerignore": "src\n"})
    build = planned(BASE.with_code_bundle(), tmp_path, loaded=("job.py", "src/a.py"))
    assert sorted(contents(build, tmp_path)) == ["layer1/job.py"]


# --- the user's own Dockerfile


@pytest.mark.parametrize(
    ("ignore_files", "expected"),
    [
        ({}, {"Dockerfile", "a.txt", "b.txt"}),
        ({".dockerignore": "a.txt\n"}, {".dockerignore", "Dockerfile", "b.txt"}),
        (
            {".dockerignore": "a.txt\n", "Dockerfile.dockerignore": "b.txt\n"},
            {".dockerignore", "Dockerfile", "Dockerfile.dockerignore", "a.txt"},
        ),
        ({".dockerignore": "*\n!b.txt\n"}, {"b.txt"}),
    ],
)
def test_the_folder_of_a_dockerfile_is_its_context(
    ignore_files: dict[str, str], expected: set[str], tmp_path: Path
) -> None:
    files = {"Dockerfile": "FROM x\nCOPY . .\n", "a.txt": "", "b.txt": "", **ignore_files}
    write(tmp_path, {f"docker/{name}": text for name, text in files.items()})
    write(tmp_path, {".dockerignore": "**\n"})  # the root's does not count
    assert of_dockerfile(tmp_path).keys() == expected


def test_a_dockerfile_is_text_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, {"docker/Dockerfile": "FROM x\n# no end of line"})
    build = planned(Image.from_dockerfile(tmp_path / "docker/Dockerfile", "ghcr.io/org", "job"), tmp_path)
    assert (build.dockerfile, build.registry, build.name) == ("FROM x\n# no end of line", "ghcr.io/org", "job")


def test_links_and_empty_folders_stay_in_the_context_of_a_dockerfile(tmp_path: Path) -> None:
    write(tmp_path, {"docker/Dockerfile": "FROM x\n"})
    (tmp_path / "docker/empty").mkdir()
    os.symlink("nowhere", tmp_path / "docker/broken")
    build = planned(Image.from_dockerfile(tmp_path / "docker/Dockerfile", "ghcr.io/org", "job"), tmp_path)
    with archive(build, tmp_path) as tar:
        assert [(m.name, m.type, m.linkname) for m in tar] == [
            ("Dockerfile", tarfile.REGTYPE, ""),
            ("broken", tarfile.SYMTYPE, "nowhere"),
            ("empty", tarfile.DIRTYPE, ""),
        ]


# --- links of layers


def test_links_that_a_layer_copies_are_followed(tmp_path: Path) -> None:
    write(tmp_path, {"real/a.py": "a", "src/b.py": "b"})
    os.symlink("../real", tmp_path / "src/folder")
    os.symlink("../real/a.py", tmp_path / "src/file.py")
    build = planned(BASE.with_source_folder(tmp_path / "src"), tmp_path)
    assert contents(build, tmp_path) == {
        "layer1/src/b.py": b"b",
        "layer1/src/file.py": b"a",
        "layer1/src/folder/a.py": b"a",
    }


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("nowhere", "it is a symbolic link to `nowhere`, which does not exist"),
        ("..", "it is a symbolic link to `..`, which it is in"),
        ("odd", "it is a symbolic link to `odd`, which does not exist"),
    ],
)
def test_a_link_that_leads_nowhere_is_refused(target: str, reason: str, tmp_path: Path) -> None:
    write(tmp_path, {"src/a.py": ""})
    os.symlink(target, tmp_path / "src/odd")
    with pytest.raises(ImageFileUnusable) as raised:
        planned(BASE.with_source_folder(tmp_path / "src"), tmp_path)
    assert (raised.value.path, raised.value.reason) == (str(tmp_path / "src/odd"), reason)


@pytest.mark.parametrize("make", ["fifo", "name"])
def test_what_no_context_can_hold_is_refused_unless_it_is_left_out(make: str, tmp_path: Path) -> None:
    write(tmp_path, {"src/a.py": ""})
    if make == "fifo":
        os.mkfifo(tmp_path / "src/pipe")
        with pytest.raises(ImageFileUnusable, match="it is a FIFO"):
            planned(BASE.with_source_folder(tmp_path / "src"), tmp_path)
        assert names(tmp_path, "**/pipe\n", files={}) == ["layer1/src/a.py"]
    else:
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/src/\xff"))).touch()
        with pytest.raises(ImageFileUnusable, match="its name is not UTF-8"):
            planned(BASE.with_source_folder(tmp_path / "src"), tmp_path)


def test_a_folder_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageSourceEmpty) as raised:
        names(tmp_path, "src\n")
    assert raised.value.ignore_file == str(tmp_path / ".dockerignore")


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageFileMissing) as raised:
        names(tmp_path, folder="src/a.py")
    assert raised.value.found == "file"


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"a": "1"})
    seen = Seen()
    seen.read(str(tmp_path / "a"))
    write(tmp_path, {"a": "2"})
    with pytest.raises(ImageFileUnusable, match="it changed while it was read"):
        keep({"a": Member(source=str(tmp_path / "a"))}, seen, state(tmp_path))
    assert list((tmp_path / ".flyte-build/objects").iterdir()) == []


# --- the archive


def test_a_context_is_kept_under_its_digest_with_plain_headers(tmp_path: Path) -> None:
    write(tmp_path, FOLDER)
    os.chmod(tmp_path / "src/a.py", 0o750)
    build = planned(BASE.with_source_folder(tmp_path / "src"), tmp_path)
    assert digest.of_file(state(tmp_path).object(build.context)) == build.context
    assert (build.context_files, build.context_size) == (3, 6)
    with archive(build, tmp_path) as tar:
        assert [(m.name, m.mode, m.uid, m.gid, m.uname, m.mtime) for m in tar] == [
            ("layer1", 0o755, 0, 0, "", 0),
            ("layer1/src", 0o755, 0, 0, "", 0),
            ("layer1/src/a.py", 0o755, 0, 0, "", 0),
            ("layer1/src/data", 0o755, 0, 0, "", 0),
            ("layer1/src/data/b.csv", 0o644, 0, 0, "", 0),
            ("layer1/src/x.log", 0o644, 0, 0, "", 0),
        ]


def test_an_image_without_files_has_no_context(tmp_path: Path) -> None:
    build = planned(BASE.with_pip_packages("httpx"), tmp_path)
    assert (build.context, build.context_files, build.context_size) == ("", 0, 0)


def test_a_large_file_is_not_held_in_memory(tmp_path: Path) -> None:
    import tracemalloc

    with open(tmp_path / "large", "wb") as file:
        file.truncate(40_000_000)
    tracemalloc.start()
    keep({"large": Member(source=str(tmp_path / "large"))}, Seen(), StateFolder(tmp_path / "state"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


# --- laws

NAMES = st.text(alphabet="abé %", min_size=1, max_size=4).filter(lambda name: name.strip() == name)
TREES = st.dictionaries(NAMES, st.tuples(st.text(max_size=5), st.booleans()), min_size=1, max_size=4)


@given(tree=TREES, mtime=st.integers(0, 2_000_000_000))
@settings(max_examples=25, deadline=None)
def test_the_same_tree_in_another_checkout_gives_the_same_build(
    tree: dict[str, tuple[str, bool]], mtime: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def build(place: str, umask: int, reverse: bool) -> object:
        root = tmp_path_factory.mktemp(place) / place
        before = os.umask(umask)
        try:
            for name, (text, is_executable) in sorted(tree.items(), reverse=reverse):
                write(root, {f"repo/src/{name}": text, f"shared/{name}": text})
                (root / "repo/src" / name).chmod(0o700 if is_executable else 0o600)
                os.utime(root / "repo/src" / name, (mtime * umask, mtime))
        finally:
            os.umask(before)
        image = BASE.with_source_folder(root / "repo/src").with_source_folder(root / "shared")
        return planned(image.with_source_file(sorted((root / "shared").iterdir())), (root / "repo").resolve())

    assert build("here", 0o022, False) == build("some-where-else", 0o077, True)


WORDS = st.text(alphabet="ab$\"'\\ =", min_size=1, max_size=4)
LAYERS = st.one_of(
    st.tuples(st.just("pip"), st.lists(WORDS, min_size=1, max_size=3)),
    st.tuples(st.just("env"), st.lists(WORDS, min_size=1, max_size=2)),
    st.tuples(st.just("command"), st.lists(st.text(alphabet="ab", min_size=1, max_size=3), min_size=1, max_size=2)),
    st.tuples(st.just("workdir"), st.lists(st.text(alphabet="/a", min_size=1, max_size=3), min_size=1, max_size=1)),
)


def image_of(spec: list[tuple[str, list[str]]]) -> Image:
    image = BASE
    for kind, words in spec:
        match kind:
            case "pip":
                image = image.with_pip_packages(*words)
            case "env":
                image = image.with_env_vars({"AB"[at]: word for at, word in enumerate(words)})
            case "command":
                image = image.with_commands(list(words))
            case "workdir":
                image = image.with_workdir(words[0])
    return image


def meant(spec: list[tuple[str, list[str]]]) -> list[tuple[str, tuple[str, ...]]]:
    """One command or variable is one instruction, whichever layer it came in."""
    return [
        single
        for kind, words in spec
        for single in (
            [("pip", tuple(words))]
            if kind == "pip"
            else [(kind, (str(at) if kind == "env" else "", word)) for at, word in enumerate(words)]
        )
    ]


@given(st.lists(LAYERS, max_size=3), st.lists(LAYERS, max_size=3))
@settings(max_examples=100, deadline=None)
def test_images_that_mean_different_things_are_different_builds(
    one: list[tuple[str, list[str]]], other: list[tuple[str, list[str]]]
) -> None:
    root = Path("/nowhere")
    same = planned(image_of(one), root).dockerfile == planned(image_of(other), root).dockerfile
    assert same == (meant(one) == meant(other))


def test_an_error_knows_nothing_of_the_environment_until_it_is_told() -> None:
    error: ImageError = ImageFileMissing(kind="file", path="a.txt").of("env", "job.py")
    assert str(error) == (
        "job.py: the image of environment `env` needs the file `a.txt`, which does not exist; correct the path where "
        "the image is declared (relative ones start from the root)"
    )
