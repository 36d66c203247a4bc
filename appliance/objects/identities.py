"""Body ids of one server start: unique without asking anybody, known before the first write."""

from __future__ import annotations

import itertools

from hal.records import BodyId

__all__ = ["BODIES_PER_EPOCH_MAX", "BodyIds"]

BODY_COUNTER_BITS = 32
BODIES_PER_EPOCH_MAX = 1 << BODY_COUNTER_BITS
EPOCH_MAX = (1 << (63 - BODY_COUNTER_BITS)) - 1  # ids stay positive in a signed 64-bit column


class BodyIds:
    """Hands out `boot_epoch << 32 | counter`.

    Args:
        boot_epoch: From the catalog, 1 to 2^31 - 1, never given to another start.
    """

    def __init__(self, boot_epoch: int) -> None:
        assert 0 < boot_epoch <= EPOCH_MAX
        self._epoch = boot_epoch
        self._counter = itertools.count(1)

    def take(self) -> BodyId:
        """A body id never given before."""
        counter = next(self._counter)
        assert counter < BODIES_PER_EPOCH_MAX, "a restart gives a new epoch"
        return BodyId(self._epoch << BODY_COUNTER_BITS | counter)
