"""Places of keys in odd TOML."""

from __future__ import annotations

import tomllib

import pytest

from tiers.toml_positions import Path, PositionIndex

ODD = (
    """\
# a comment with [[rule]] and a = 1
top = 1 # behind
"quoted.key" = 'it"""
    "'"
    '''
a . b."c d" = """
[not.a.table]
x = 1 ""quoted"" \\
"""
\t[ spaced . out ]   # header
  deep = { x = { "y\\u0041" = 1 }, z = [ 1, [2,
    # inside
    "]" ], {q = 3} ] }

[[rule]]
id = "]]"
[rule.filter]
tag = {}
[[rule]]
id = \'\'\'
[[rule]]\'\'\'\'
filter.prefix = "#"
[[rule.sub]]
n = 1
[[rule.sub]]
n = 1979-05-27 07:32:00
'''
)


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("top",), (2, 1), (2, 7)),
        (("quoted.key",), (3, 1), (3, 16)),
        (("a",), (4, 1), (4, 1)),
        (("a", "b"), (4, 5), (4, 5)),
        (("a", "b", "c d"), (4, 7), (4, 15)),
        (("spaced", "out"), (8, 2), (8, 2)),
        (("spaced", "out", "deep"), (9, 3), (9, 10)),
        (("spaced", "out", "deep", "x", "yA"), (9, 18), (9, 30)),
        (("spaced", "out", "deep", "z", 1, 0), (9, 45), (9, 45)),
        (("spaced", "out", "deep", "z", 1, 1), (11, 5), (11, 5)),
        (("spaced", "out", "deep", "z", 2, "q"), (11, 13), (11, 17)),
        (("rule",), (13, 1), (13, 1)),
        (("rule", 0), (13, 1), (13, 1)),
        (("rule", 0, "id"), (14, 1), (14, 6)),
        (("rule", 0, "filter"), (15, 1), (15, 1)),
        (("rule", 0, "filter", "tag"), (16, 1), (16, 7)),
        (("rule", 1), (17, 1), (17, 1)),
        (("rule", 1, "id"), (18, 1), (18, 6)),
        (("rule", 1, "filter", "prefix"), (20, 8), (20, 17)),
        (("rule", 1, "sub", 1), (23, 1), (23, 1)),
        (("rule", 1, "sub", 1, "n"), (24, 1), (24, 5)),
        (("rule", 1, "missing", "deeper"), (17, 1), (17, 1)),
        (("nowhere",), (1, 1), (1, 1)),
    ],
)
def test_a_path_has_a_place(path: Path, key: tuple[int, int], value: tuple[int, int]) -> None:
    tomllib.loads(ODD)
    index = PositionIndex(ODD)

    found = index.find_key(path), index.find_value(path)

    assert [(place.line, place.column) for place in found] == [key, value]


def list_paths(value: object, path: Path = ()) -> list[Path]:
    inner: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(found for key, entry in inner for found in list_paths(entry, (*path, key)))]


def test_every_path_of_a_document_is_found_itself() -> None:
    index = PositionIndex(ODD)
    known = set(index._keys) | set(index._values)

    assert set(list_paths(tomllib.loads(ODD))) <= known
