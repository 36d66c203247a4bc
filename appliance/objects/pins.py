"""Which bodies a reader of this process holds.

Reclaim asks before it punches. A reader that began before a delete thus ends with the bytes it
began with, however slow it is. Pins are taken within the grace after the catalog was read, which is
what makes the gap between the two harmless.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hal.records import BodyId

__all__ = ["BodyPins"]


class BodyPins:
    """Counts of readers by body; bounded by the number of connections times bodies of an object."""

    def __init__(self) -> None:
        self._counts: Counter[BodyId] = Counter()

    @contextmanager
    def hold(self, body_ids: Sequence[BodyId]) -> Iterator[None]:
        """Keep these bodies from reclaim inside the block."""
        self._counts.update(body_ids)
        try:
            yield
        finally:
            for body_id in body_ids:
                self._counts[body_id] -= 1
                if not self._counts[body_id]:
                    del self._counts[body_id]

    def is_pinned(self, body_id: BodyId) -> bool:
        """True while any reader holds the body."""
        return body_id in self._counts

    def statistics(self) -> int:
        """Bodies held now."""
        return len(self._counts)
