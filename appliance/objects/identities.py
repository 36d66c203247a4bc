"""Body ids of one server start: unique without asking anybody, known before the first write.

A body takes as many numbers as it will have pages, so that `body id + page index` names a page, and
the pages written together have numbers side by side (docs/decisions/0015-page-ids.md).
"""

from __future__ import annotations

from hal.records import BodyId
from tiers.records import count_pages

__all__ = ["BODY_COUNTER_BITS", "NUMBERS_PER_EPOCH_MAX", "BodyIds"]

BODY_COUNTER_BITS = 32
NUMBERS_PER_EPOCH_MAX = 1 << BODY_COUNTER_BITS
EPOCH_MAX = (1 << (63 - BODY_COUNTER_BITS)) - 1  # ids stay positive in a signed 64-bit column


class BodyIds:
    """Hands out `boot_epoch << 32 | number`.

    Args:
        boot_epoch: From the catalog, 1 to 2^31 - 1, never given to another start.
    """

    def __init__(self, boot_epoch: int) -> None:
        assert 0 < boot_epoch <= EPOCH_MAX
        self._epoch = boot_epoch
        self._next_number = 1

    def take(self, size_bytes: int) -> BodyId:
        """A body id never given before, with numbers for the pages of so many bytes.

        Args:
            size_bytes: Of the body, 0 or more. One that turns out longer than it was announced is
                refused, so that no page ever has another's number.
        """
        number = self._next_number
        self._next_number += count_pages(size_bytes)
        assert self._next_number <= NUMBERS_PER_EPOCH_MAX, "a restart gives a new epoch"
        return BodyId(self._epoch << BODY_COUNTER_BITS | number)
