"""Which bodies a reader of this process holds, and since when the oldest of them reads.

Reclaim asks before it punches. A reader that began before a delete thus ends with the bytes it
began with, however slow it is. Pins are taken within the grace after the catalog was read, which is
what makes the gap between the two harmless.

Another process that reclaims cannot ask; it is told since when anything here may have been read.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hal.records import BodyId

__all__ = ["BodyPins"]


class BodyPins:
    """Counts of readers by body; bounded by the number of connections times bodies of an object.

    Args:
        now_us: Wall clock, microseconds, as deaths are stamped by. Without one every hold counts as
            taken long ago, which keeps others from reclaim.
    """

    def __init__(self, *, now_us: Callable[[], int] = lambda: 0) -> None:
        self._now_us = now_us
        self._counts: Counter[BodyId] = Counter()
        self._since_us: dict[int, int] = {}
        self._holds = count()

    @contextmanager
    def hold(self, body_ids: Sequence[BodyId]) -> Iterator[None]:
        """Keep these bodies from reclaim inside the block."""
        self._counts.update(body_ids)
        number = next(self._holds)
        self._since_us[number] = self._now_us()
        try:
            yield
        finally:
            del self._since_us[number]
            for body_id in body_ids:
                self._counts[body_id] -= 1
                if not self._counts[body_id]:
                    del self._counts[body_id]

    def is_pinned(self, body_id: BodyId) -> bool:
        """True while any reader holds the body."""
        return body_id in self._counts

    def oldest_us(self) -> int:
        """When the oldest hold was taken, now where there is none.

        Complexity: one step per hold.
        """
        return min(self._since_us.values(), default=self._now_us())

    def statistics(self) -> int:
        """Bodies held now."""
        return len(self._counts)
