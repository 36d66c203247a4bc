"""The listing fold against a model that looks at everything at once."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, strategies as st

from appliance.s3.listing import ListingFold, ListingPage, ListingQuery, Order

# Few letters, so that prefixes, delimiters and markers meet each other often.
TEXT = st.text(alphabet="ab/é", max_size=6).map(str.encode)
KEYS = st.lists(TEXT.filter(bool), max_size=40)
DELIMITERS = st.sampled_from([b"", b"/", b"a", b"//", "é".encode(), b"ab"])


@dataclass(frozen=True)
class Row:
    """A version: rows of one key are in descending order of their sequence."""

    key: bytes
    sequence: int


def sort_rows(rows: list[Row]) -> list[Row]:
    return sorted(set(rows), key=lambda row: (row.key, -row.sequence))


def answer(rows: list[Row], query: ListingQuery) -> list[Row]:
    def counts(row: Row) -> bool:
        if query.end is not None and row.key >= query.end:
            return False
        if row.key == query.start:
            assert query.after_order is None or isinstance(query.after_order, int)
            behind = query.after_order is not None and row.sequence < query.after_order
            return query.is_inclusive or behind
        return row.key > query.start

    return [row for row in rows if counts(row)][: query.limit]


def fold_page(
    rows: list[Row],
    prefix: bytes,
    delimiter: bytes,
    max_keys: int,
    after: tuple[bytes | None, Order | None] = (None, None),
) -> ListingPage[Row]:
    fold: ListingFold[Row] = ListingFold(
        prefix=prefix, delimiter=delimiter, after=after[0], after_order=after[1], max_keys=max_keys
    )
    while (query := fold.next_query()) is not None:
        found = answer(rows, query)
        fold.feed([row.key for row in found], found, orders=[row.sequence for row in found])
    return fold.page()


def model_entries(rows: list[Row], prefix: bytes, delimiter: bytes) -> list[Row | bytes]:
    """All items and common prefixes in the order in which pages give them."""
    entries: list[Row | bytes] = []
    for row in rows:
        if not row.key.startswith(prefix):
            continue
        found = row.key.find(delimiter, len(prefix)) if delimiter else -1
        if found < 0:
            entries.append(row)
        elif (rolled_up := row.key[: found + len(delimiter)]) not in entries:
            entries.append(rolled_up)
    return entries


def entry_key(entry: Row | bytes) -> bytes:
    return entry if isinstance(entry, bytes) else entry.key


def page_entries(page: ListingPage[Row]) -> list[Row | bytes]:
    return sorted(
        [*page.items, *page.common_prefixes],
        key=lambda entry: (entry_key(entry), 0 if isinstance(entry, bytes) else -entry.sequence),
    )


@given(keys=KEYS, prefix=TEXT, delimiter=DELIMITERS, max_keys=st.integers(1, 12))
def test_pages_walked_to_the_end_are_the_whole_listing(
    keys: list[bytes], prefix: bytes, delimiter: bytes, max_keys: int
) -> None:
    rows = sort_rows([Row(key, index % 4) for index, key in enumerate(keys)])
    expected = model_entries(rows, prefix, delimiter)

    walked: list[Row | bytes] = []
    after: tuple[bytes | None, Order | None] = (None, None)
    while True:
        page = fold_page(rows, prefix, delimiter, max_keys, after)
        entries = page_entries(page)
        walked += entries
        assert page.is_truncated == (len(walked) < len(expected))
        if not page.is_truncated:
            break
        assert len(entries) == max_keys
        assert page.next_marker == entry_key(entries[-1])
        after = (page.next_marker, page.next_order)

    assert walked == expected


@given(
    keys=KEYS,
    prefix=TEXT,
    delimiter=DELIMITERS,
    marker=TEXT,
    max_keys=st.sampled_from([0, 1, 3, 99]),
)
def test_any_marker_gives_the_entries_above_it(
    keys: list[bytes], prefix: bytes, delimiter: bytes, marker: bytes, max_keys: int
) -> None:
    rows = sort_rows([Row(key, 0) for key in keys])
    above = [
        entry
        for entry in model_entries(rows, prefix, delimiter)
        if not marker or entry_key(entry) > marker
    ]

    page = fold_page(rows, prefix, delimiter, max_keys, (marker, None))

    assert page_entries(page) == above[:max_keys]
    assert page.is_truncated == (0 < max_keys < len(above))


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=40),
    st.integers(1, 30),
    st.sampled_from([b"", b"f"]),
)
def test_folders_of_any_size_are_listed_exactly(
    sizes: list[int], max_keys: int, prefix: bytes
) -> None:
    rows = sort_rows(
        [
            Row(b"f%03d/%03d" % (folder, index) if size > 1 else b"f%03d" % folder, 0)
            for folder, size in enumerate(sizes)
            for index in range(size)
        ]
    )
    expected = model_entries(rows, prefix, b"/")

    page = fold_page(rows, prefix, b"/", max_keys)

    assert page_entries(page) == expected[:max_keys]
    assert page.is_truncated == (len(expected) > max_keys)
