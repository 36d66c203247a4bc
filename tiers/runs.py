"""Puts what leaves a tier in the order in which the slower one wants it. Pure.

A disk writes in long runs and reads back what lies together: pages of one object side by side, in
their order, objects in the order of their names (TIERING 4.7).
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["RunPage", "iter_runs"]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RunPage:
    """A page on its way down; ordered by tenant, bucket, key and page.

    Attributes:
        page_index: 0-based position in the object.
        size_bytes: Of its record.
        page: The caller's id of it.
    """

    tenant: str
    bucket: str
    key: bytes
    page_index: int
    page: int
    size_bytes: int


_ORDER = attrgetter("tenant", "bucket", "key", "page_index", "page")


def iter_runs(pages: Iterable[RunPage], *, run_bytes: int) -> Iterator[list[RunPage]]:
    """Runs of at most `run_bytes`, in order; a longer page is a run of its own."""
    run: list[RunPage] = []
    filled = 0
    # A key is compared several times faster than the records themselves.
    for page in sorted(pages, key=_ORDER):
        if run and filled + page.size_bytes > run_bytes:
            yield run
            run, filled = [], 0
        run.append(page)
        filled += page.size_bytes
    if run:
        yield run
