"""Folding sorted rows into a page of a listing: prefix, delimiter, marker, limit.

The caller alternates: `next_query` says which rows to read, `feed` takes them. A run of keys under
one common prefix is not read to its end but jumped over by the next query, so that a page costs
about as many rows as it has entries, however many keys lie under each prefix.

One fold serves objects (one row per key), versions and uploads (several rows per key, in the order
that the catalog gives them; `order` names a row among those of its key and is never compared here).

A marker, like the end of a page, is the last entry already given: a key, or a common prefix. A
marker that lies under a common prefix stands for that prefix, all of it.

Source: AWS, ListObjectsV2, ListObjectVersions, ListMultipartUploads.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ListingFold", "ListingPage", "ListingQuery", "Order", "successor"]

ItemT = TypeVar("ItemT")

Order = int | str
"""Names a row among those of one key: a version's sequence, an upload's id."""

# With a delimiter nobody knows how many rows a page takes. Begin small, grow while rows become
# entries, shrink when a query ended among rows that one common prefix swallows. Below 8 rows a
# query costs the same whatever it reads.
_BATCH_ROWS_FIRST = 64
_BATCH_ROWS_MIN = 8
_BATCH_ROWS_MAX = 1024  # about one page


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingQuery:
    """The rows to read next, in ascending order of keys.

    A row counts where its key is above `start`; where it equals `start` and `is_inclusive`; or
    where it equals `start` and the row comes after the one that `after_order` names (None: no such
    row).

    Attributes:
        start: Lower bound.
        is_inclusive: Whether all rows of the key `start` count.
        after_order: See above; only ever given with `is_inclusive` false.
        end: Exclusive upper bound, None for none.
        limit: How many rows at most, above 0. Fewer mean that there are no more.
    """

    start: bytes
    is_inclusive: bool
    end: bytes | None
    limit: int
    after_order: Order | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingPage(Generic[ItemT]):
    """A page.

    Attributes:
        items: What was fed for the rows of the page.
        common_prefixes: Ascending; they count against the limit like items.
        is_truncated: True where more follows; then `next_marker` is where.
        next_marker: The last key or common prefix of a truncated page, else None.
        next_order: With `next_marker`, the last row among those of that key; None after a common
            prefix, and where rows have no order.
    """

    items: tuple[ItemT, ...]
    common_prefixes: tuple[bytes, ...]
    is_truncated: bool
    next_marker: bytes | None
    next_order: Order | None = None


def successor(prefix: bytes) -> bytes | None:
    """The least key above all that begin with `prefix`; None where there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


class ListingFold(Generic[ItemT]):
    """One page in the making.

    Invariant: entries are added in strictly ascending order, at most `max_keys` of them; the first
    one beyond only sets `is_truncated`.
    """

    def __init__(
        self,
        *,
        prefix: bytes,
        delimiter: bytes,
        after: bytes | None,
        max_keys: int,
        after_order: Order | None = None,
    ) -> None:
        """Begin a page.

        Args:
            prefix: Only keys that begin with it.
            delimiter: Keys with it behind the prefix become common prefixes; empty for none.
            after: The marker, exclusive; None or empty to begin at the beginning.
            max_keys: Items and common prefixes together, not negative; 0 makes an empty page.
            after_order: With `after`, rows of that key behind this one still count.
        """
        assert max_keys >= 0
        self._prefix = prefix
        self._delimiter = delimiter
        self._max_keys = max_keys
        self._end = successor(prefix)
        self._items: list[ItemT] = []
        self._common_prefixes: list[bytes] = []
        self._last_key: bytes | None = None
        self._last_order: Order | None = None
        self._is_truncated = False
        self._batch_rows = _BATCH_ROWS_FIRST if delimiter else _BATCH_ROWS_MAX
        self._limit = 0
        self._start: bytes | None = prefix
        self._is_inclusive = True
        self._start_order: Order | None = None
        if max_keys == 0:
            self._start = None
        elif after and after >= prefix:
            self._skip_marker(after, after_order)

    def next_query(self) -> ListingQuery | None:
        """The rows to feed next; None where the page is complete."""
        if self._start is None or (self._end is not None and self._start >= self._end):
            return None
        wanted = self._max_keys + 1 - self._count()
        if self._delimiter:
            self._limit = min(self._batch_rows, max(wanted, _BATCH_ROWS_MIN))
        else:
            self._limit = min(self._batch_rows, wanted)
        return ListingQuery(
            start=self._start,
            is_inclusive=self._is_inclusive,
            end=self._end,
            limit=self._limit,
            after_order=self._start_order,
        )

    def feed(
        self,
        keys: Sequence[bytes],
        items: Sequence[ItemT],
        *,
        orders: Sequence[Order] | None = None,
    ) -> None:
        """Take the rows of the query that `next_query` gave last, all of them.

        Args:
            keys: Ascending, as queried.
            items: One for each key.
            orders: One for each key, where keys may have several rows.
        """
        assert self._start is not None
        assert len(keys) == len(items) <= self._limit
        assert orders is None or len(orders) == len(keys)
        index = swallowed_rows = 0
        rolled_up: bytes | None = None
        while index < len(keys):
            rolled_up = self._common_prefix(keys[index])
            if self._count() == self._max_keys:
                self._is_truncated = True
                self._start = None
                return
            if rolled_up is None:
                self._items.append(items[index])
                self._last_key = keys[index]
                self._last_order = orders[index] if orders is not None else None
                index += 1
                continue
            self._common_prefixes.append(rolled_up)
            self._last_key, self._last_order = rolled_up, None
            above = successor(rolled_up)
            behind = len(keys) if above is None else bisect_left(keys, above, lo=index + 1)
            swallowed_rows, index = behind - index, behind
        self._advance(len(keys), rolled_up, swallowed_rows)

    def page(self) -> ListingPage[ItemT]:
        """The page, once `next_query` has answered None."""
        return ListingPage(
            items=tuple(self._items),
            common_prefixes=tuple(self._common_prefixes),
            is_truncated=self._is_truncated,
            next_marker=self._last_key if self._is_truncated else None,
            next_order=self._last_order if self._is_truncated else None,
        )

    def _count(self) -> int:
        return len(self._items) + len(self._common_prefixes)

    def _common_prefix(self, key: bytes) -> bytes | None:
        if not self._delimiter:
            return None
        found = key.find(self._delimiter, len(self._prefix))
        return None if found < 0 else key[: found + len(self._delimiter)]

    def _skip_marker(self, after: bytes, after_order: Order | None) -> None:
        rolled_up = self._common_prefix(after) if after.startswith(self._prefix) else None
        if rolled_up is not None:
            self._start = successor(rolled_up)
            return
        self._start, self._is_inclusive, self._start_order = after, False, after_order

    def _advance(self, row_count: int, rolled_up: bytes | None, swallowed_rows: int) -> None:
        """Set where the next query starts, after a batch that did not fill the page."""
        if row_count < self._limit:
            self._start = None
            return
        assert self._last_key is not None
        if rolled_up is None:
            self._start, self._is_inclusive = self._last_key, False
            self._start_order = self._last_order
        else:
            self._start, self._is_inclusive = successor(rolled_up), True
            self._start_order = None
        if 2 * swallowed_rows > row_count and rolled_up is not None:
            self._batch_rows = max(_BATCH_ROWS_MIN, self._batch_rows // 4)
        else:
            self._batch_rows = min(_BATCH_ROWS_MAX, self._batch_rows * 4)
