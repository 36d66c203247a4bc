from __future__ import annotations

from bisect import bisect_left

from appliance.s3.listing import ListingFold, ListingPage, ListingQuery, successor


class CountingKeys:
    """Sorted keys that answer a listing's queries and count what they cost."""

    def __init__(self, keys: list[bytes]) -> None:
        self.keys = sorted(keys)
        self.query_count = 0
        self.row_count = 0

    def answer(self, query: ListingQuery) -> list[bytes]:
        index = bisect_left(self.keys, query.start)
        if not query.is_inclusive and self.keys[index : index + 1] == [query.start]:
            index += 1
        rows = self.keys[index : index + query.limit]
        if query.end is not None:
            rows = rows[: bisect_left(rows, query.end)]
        self.query_count += 1
        self.row_count += len(rows)
        return rows


def list_page(
    keys: CountingKeys,
    *,
    prefix: bytes = b"",
    delimiter: bytes = b"",
    after: bytes | None = None,
    max_keys: int = 1000,
) -> ListingPage[bytes]:
    fold: ListingFold[bytes] = ListingFold(
        prefix=prefix, delimiter=delimiter, after=after, max_keys=max_keys
    )
    while (query := fold.next_query()) is not None:
        rows = keys.answer(query)
        fold.feed(rows, rows)
    return fold.page()


def test_the_successor_is_above_every_key_of_the_prefix() -> None:
    assert successor(b"a") == b"b"
    assert successor(b"a/") == b"a0"
    assert successor(b"a\xff\xff") == b"b"
    assert successor(b"\xff") is None
    assert successor(b"") is None


def test_a_page_without_delimiter_is_one_query_of_one_row_more() -> None:
    keys = CountingKeys([b"%05d" % index for index in range(5000)])

    page = list_page(keys, max_keys=1000)

    assert page.items == tuple(keys.keys[:1000])
    assert (page.is_truncated, page.next_marker) == (True, b"00999")
    assert (keys.query_count, keys.row_count) == (1, 1001)


def test_common_prefixes_and_items_share_the_limit() -> None:
    keys = CountingKeys([b"a", b"b/1", b"b/2", b"c", b"d/1"])

    page = list_page(keys, delimiter=b"/", max_keys=3)

    assert page == ListingPage(
        items=(b"a", b"c"), common_prefixes=(b"b/",), is_truncated=True, next_marker=b"c"
    )


def test_a_page_that_ends_on_a_common_prefix_continues_behind_all_of_it() -> None:
    keys = CountingKeys([b"a/1", b"a/2", b"b"])

    first = list_page(keys, delimiter=b"/", max_keys=1)
    second = list_page(keys, delimiter=b"/", max_keys=1, after=first.next_marker)

    assert (first.common_prefixes, first.next_marker) == ((b"a/",), b"a/")
    assert second == ListingPage(
        items=(b"b",), common_prefixes=(), is_truncated=False, next_marker=None
    )


def test_a_last_common_prefix_is_not_truncated_however_much_lies_under_it() -> None:
    keys = CountingKeys([b"a/%05d" % index for index in range(5000)])

    page = list_page(keys, delimiter=b"/", max_keys=1)

    assert (page.common_prefixes, page.is_truncated) == ((b"a/",), False)


def test_a_marker_under_a_common_prefix_stands_for_the_prefix() -> None:
    keys = CountingKeys([b"a/1", b"a/2", b"b/1"])

    assert list_page(keys, delimiter=b"/", after=b"a/1").common_prefixes == (b"b/",)
    assert list_page(keys, delimiter=b"/", after=b"a").common_prefixes == (b"a/", b"b/")


def test_markers_outside_the_prefix_begin_or_end_the_listing() -> None:
    keys = CountingKeys([b"a", b"b/", b"b/1", b"c"])

    assert list_page(keys, prefix=b"b/", after=b"a").items == (b"b/", b"b/1")
    assert list_page(keys, prefix=b"b/", after=b"b/").items == (b"b/1",)
    before = keys.query_count
    assert list_page(keys, prefix=b"b/", after=b"c").items == ()
    assert keys.query_count == before


def test_no_keys_asked_for_means_no_query_and_no_truncation() -> None:
    keys = CountingKeys([b"a"])

    page = list_page(keys, max_keys=0)

    assert page == ListingPage(items=(), common_prefixes=(), is_truncated=False, next_marker=None)
    assert keys.query_count == 0


def test_millions_of_keys_under_few_prefixes_cost_a_few_rows_each() -> None:
    keys = CountingKeys([b"%02d/%05d" % divmod(index, 20_000) for index in range(200_000)])

    page = list_page(keys, delimiter=b"/")

    assert len(page.common_prefixes) == 10
    assert keys.query_count <= 12
    assert keys.row_count <= 200


def test_many_small_prefixes_are_read_in_large_batches() -> None:
    keys = CountingKeys([b"%05d/%d" % divmod(index, 3) for index in range(30_000)])

    page = list_page(keys, delimiter=b"/")

    assert len(page.common_prefixes) == 1000
    assert keys.query_count <= 16
    assert keys.row_count <= 3100


def test_a_flat_folder_under_a_delimiter_costs_about_its_rows() -> None:
    keys = CountingKeys([b"p/%05d" % index for index in range(30_000)])

    page = list_page(keys, prefix=b"p/", delimiter=b"/")

    assert len(page.items) == 1000
    assert keys.query_count <= 4
    assert keys.row_count <= 1001


def test_rows_of_one_key_continue_by_their_order() -> None:
    fold: ListingFold[str] = ListingFold(prefix=b"", delimiter=b"", after=None, max_keys=2)
    assert fold.next_query() is not None

    fold.feed([b"k", b"k", b"k"], ["c", "b", "a"], orders=[30, 20, 10])

    assert fold.next_query() is None
    page = fold.page()
    assert (page.items, page.next_marker, page.next_order) == (("c", "b"), b"k", 20)
    again: ListingFold[str] = ListingFold(
        prefix=b"", delimiter=b"", after=page.next_marker, after_order=page.next_order, max_keys=2
    )
    assert again.next_query() == ListingQuery(
        start=b"k", is_inclusive=False, after_order=20, end=None, limit=3
    )
