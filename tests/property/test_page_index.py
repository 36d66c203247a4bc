"""A page index against a dictionary, while pages come and go and the table grows under them."""

from __future__ import annotations

from array import array
from random import Random

import pyarrow as pa
from hypothesis import given, settings, strategies as st

from tiers.heat_columns import values_of
from tiers.page_index import NO_PAGE, NO_ROW, PageIndex


class Rows:
    """Rows as a caller keeps them."""

    def __init__(self) -> None:
        self.pages = array("q")
        self.free: list[int] = []
        self.index = PageIndex(self.pages)
        self.model: dict[int, int] = {}

    def add(self, page: int) -> None:
        if self.free:
            row = self.free.pop()
            self.pages[row] = page
        else:
            row = len(self.pages)
            self.pages.append(page)
        self.index.add(page, row)
        self.model[page] = row

    def remove(self, page: int) -> None:
        row = self.model.pop(page)
        self.index.remove(page, row)
        self.pages[row] = NO_PAGE
        self.free.append(row)

    def check(self, absent: list[int]) -> None:
        wanted = [*self.model, *absent]
        expected = [self.model.get(page, NO_ROW) for page in wanted]
        assert [self.index.find(page) for page in wanted] == expected
        many = self.index.find_many(pa.array(wanted, pa.int64()))
        assert list(values_of(many, "q")) == expected


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 900), st.floats(0.1, 0.9))
def test_every_page_is_found_where_it_is(seed: int, steps: int, growth: float) -> None:
    random = Random(seed)
    rows = Rows()
    first = random.choice((0, 3 << 32, (1 << 62) + 7))
    spread = random.choice((1, 7, 1 << 20))
    for step in range(steps):
        page = first + spread * random.randrange(400)
        if page in rows.model:
            if random.random() > growth:
                rows.remove(page)
        else:
            rows.add(page)
        if step % 97 == 0:
            rows.check([first + 1 + spread * 400, 5])
    rows.check([first + 1 + spread * 400, 5])


def test_the_tables_stay_small_however_often_pages_change() -> None:
    rows = Rows()
    peak = 0
    for page in range(2000):
        rows.add(page)
    for page in range(2000, 60_000):
        rows.remove(page - 2000)
        rows.add(page)
        peak = max(peak, rows.index.nbytes)
    rows.check([1, 2, 70_000])

    assert peak < 24 * 2000


def test_a_page_that_comes_and_goes_is_found_as_fast_as_any() -> None:
    """Entries given up are taken again: their number is bounded, and so is every search."""
    rows = Rows()
    for _ in range(20_000):
        rows.add(7)
        rows.remove(7)

    assert rows.index.nbytes == 256
    rows.check([7])


def test_nothing_is_found_where_nothing_is() -> None:
    rows = Rows()

    rows.check([1, 2, 3])
