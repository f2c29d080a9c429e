""".dockerignore means here what it means to Docker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_build.images.dockerignore import parse


@pytest.mark.parametrize(
    ("text", "left_out", "kept"),
    [
        ("a.txt", ["a.txt", "a.txt/below"], ["b/a.txt", "a.txt2", "xa.txt"]),
        ("/a.txt", ["a.txt"], ["b/a.txt"]),
        ("./a/../b/", ["b", "b/c"], ["a"]),
        ("*.log", ["x.log"], ["a/x.log", "x.logs"]),
        ("**/*.log", ["x.log", "a/x.log", "a/b/x.log"], ["x.txt"]),
        ("a/*/c", ["a/b/c", "a/b/c/d"], ["a/c", "a/b/x/c"]),
        ("a/**/c", ["a/c", "a/b/c", "a/b/x/c"], ["c", "a/b"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "ab"]),
        ("**", ["a", "a/b"], []),
        ("?.txt", ["a.txt"], ["ab.txt", "/.txt"]),
        ("[a-c].txt", ["b.txt"], ["d.txt", "[a-c].txt"]),
        ("[^a].txt", ["b.txt"], ["a.txt"]),
        (r"\*.txt", ["*.txt"], ["a.txt"]),
        ("a+b(1).txt", ["a+b(1).txt"], ["aab1.txt"]),
        ("*\n!keep.txt", ["a", "keep.txt2"], ["keep.txt"]),
        ("*\n!src", ["a"], ["src", "src/a.py", "src/deep/a.py"]),
        ("*\n!src/**/*.py", ["a", "src/a.txt"], ["src/a.py", "src/x/a.py"]),
        ("!a\na", ["a"], []),
        ("a\n!a\na/b", ["a/b"], ["a", "a/c"]),
        ("A.txt", ["A.txt"], ["a.txt"]),
        ("  a.txt  \n\n", ["a.txt"], []),
        ("#a\n #b", [" #b".strip()], ["#a", "a"]),
        ("\ufeffa", ["a"], []),
        ("! a\n", [], ["a"]),
        ("a\r\nb\r\n", ["a", "b"], []),
    ],
)
def test_the_last_line_that_matches_counts(text: str, left_out: list[str], kept: list[str]) -> None:
    rules = parse(text)
    assert [path for path in left_out if not rules.leaves_out(path)] == []
    assert [path for path in kept if rules.leaves_out(path)] == []


@pytest.mark.parametrize("text", ["", "!", ".", "/", "# only words", "[z-a].txt"])
def test_a_line_without_sense_leaves_nothing_out(text: str) -> None:
    assert not parse(text).leaves_out("a.txt")


@pytest.mark.parametrize(
    ("text", "folder", "may"),
    [
        ("data", "data", False),
        ("data\n!data/keep", "data", True),
        ("data\n!data/keep", "data/other", False),
        ("*\n!src", ".venv", False),
        ("*\n!*/keep", ".venv", True),
        ("*\n!**/keep", "a/b/c", True),
        ("*\n!src/deep", "src", True),
        ("*\n!src", "src/deep", True),
    ],
)
def test_a_folder_is_entered_only_where_a_line_could_take_something_back(text: str, folder: str, may: bool) -> None:
    assert parse(text).may_take_back(folder) is may


PARTS = st.text(alphabet="ab*?", min_size=1, max_size=3)
LINES = st.builds(
    lambda sign, parts: sign + "/".join(parts), st.sampled_from(["", "!"]), st.lists(PARTS, min_size=1, max_size=3)
)
PATHS = st.lists(st.text(alphabet="ab", min_size=1, max_size=2), min_size=2, max_size=4)


@given(st.lists(LINES, max_size=4), PATHS)
def test_no_file_that_counts_is_in_a_folder_that_is_not_entered(lines: list[str], path: list[str]) -> None:
    rules = parse("\n".join(lines))
    if not rules.leaves_out("/".join(path)):
        folders = ["/".join(path[:count]) for count in range(1, len(path))]
        assert all(not rules.leaves_out(folder) or rules.may_take_back(folder) for folder in folders)
