"""Which line each key of a TOML file is on."""

from __future__ import annotations

import json

import tomli
from hypothesis import given
from hypothesis import strategies as st

from flyte_build.toml_lines import KeyPath, key_lines

TEXT = """\
# [comment]
top = "a # b" # [c]
dotted.inner . "quo.ted" = 1

[a.b]  # header
list = [
    "x]", # ]
    { deep = 1, "o\\u0074her" = [1,
      2] },
]
text = \"\"\"
[not.a.header]
key = "no" \\\"\"\" ""\"\"\"
raw = '''
c = 1''''
inline = { x = 1, y = { z = 2 } }
when = 1979-05-27 07:32:00

  [ a . 'b c' ]
  3.14 = true
  last = 'it'
[[rows]]
n = 1
[rows.sub]
m = 1
[[rows]]
n = 2
[rows.sub]
m = 2
"""

EXPECTED: dict[KeyPath, int] = {
    ("top",): 2,
    ("dotted",): 3,
    ("dotted", "inner"): 3,
    ("dotted", "inner", "quo.ted"): 3,
    ("a",): 5,
    ("a", "b"): 5,
    ("a", "b", "list"): 6,
    ("a", "b", "list", 0): 7,
    ("a", "b", "list", 1): 8,
    ("a", "b", "list", 1, "deep"): 8,
    ("a", "b", "list", 1, "other"): 8,
    ("a", "b", "list", 1, "other", 0): 8,
    ("a", "b", "list", 1, "other", 1): 9,
    ("a", "b", "text"): 11,
    ("a", "b", "raw"): 14,
    ("a", "b", "inline"): 16,
    ("a", "b", "inline", "x"): 16,
    ("a", "b", "inline", "y"): 16,
    ("a", "b", "inline", "y", "z"): 16,
    ("a", "b", "when"): 17,
    ("a", "b c"): 19,
    ("a", "b c", "3"): 20,
    ("a", "b c", "3", "14"): 20,
    ("a", "b c", "last"): 21,
    ("rows",): 22,
    ("rows", 0): 22,
    ("rows", 0, "n"): 23,
    ("rows", 0, "sub"): 24,
    ("rows", 0, "sub", "m"): 25,
    ("rows", 1): 26,
    ("rows", 1, "n"): 27,
    ("rows", 1, "sub"): 28,
    ("rows", 1, "sub", "m"): 29,
}


def test_every_form_of_a_key_is_found_on_its_line() -> None:
    tomli.loads(TEXT)
    assert key_lines(TEXT) == EXPECTED


def test_windows_line_ends_count_once() -> None:
    assert key_lines("a = 1\r\n\r\n[b]\r\nc = 2\r\n") == {("a",): 1, ("b",): 3, ("b", "c"): 4}


def test_an_empty_file_has_no_keys() -> None:
    assert key_lines("") == {}
    assert key_lines("  # only a comment") == {}


keys = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=6)
scalars = st.one_of(st.integers(-9, 99), st.booleans(), st.text("ab'\"\\#[]{}=,.\n", max_size=12))
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))
documents = st.dictionaries(keys, st.dictionaries(keys, values, max_size=4), max_size=4)


def rendered(document: dict[str, dict[str, object]], gap: int) -> tuple[str, dict[KeyPath, int]]:
    """A document as TOML, and the lines that its tables and keys were written on."""
    lines: list[str] = []
    expected: dict[KeyPath, int] = {}
    for name, table in document.items():
        lines += ["# [a] b = 1"] * gap
        lines.append(f"[{quoted(name)}] # comment")
        expected[name,] = len(lines)
        for key, value in table.items():
            expected[name, key] = len(lines) + 1
            lines += f"{quoted(key)} = {written(value)}".split("\n")
    return "\n".join(lines), expected


def quoted(key: str) -> str:
    return key if key.isascii() and key.isalnum() else json.dumps(key, ensure_ascii=False).replace("\x7f", "\\u007f")


def written(value: object) -> str:
    """TOML of a value, over several lines where TOML allows it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(key)} = {written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[\n" + "".join(f"{written(inner)}, # ]\n" for inner in value) + "]"
    if isinstance(value, str) and "\n" in value:
        return '"""\n' + value.replace("\\", "\\\\").replace('"', '\\"') + '"""'
    return json.dumps(value)


@given(documents, st.integers(0, 2))
def test_the_keys_of_any_document_are_found_where_they_were_written(
    document: dict[str, dict[str, object]], gap: int
) -> None:
    text, expected = rendered(document, gap)
    assert tomli.loads(text) == document
    found = key_lines(text)
    assert {path: line for path, line in found.items() if path in expected} == expected
    assert set(found) == set(paths(document))


def paths(value: object, above: KeyPath = ()) -> list[KeyPath]:
    """The path of every key and element."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, below in inner for path in ((*above, key), *paths(below, (*above, key)))]
