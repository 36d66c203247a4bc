"""Volumes that are left in peace for a while because they failed: longer each time in a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from hal.errors import DeviceFull, HalError
from tiers.move_report import ParkedVolume

if TYPE_CHECKING:
    from hal.records import VolumeId

__all__ = ["PARKED_S_MAX", "PARKED_S_MIN", "Parking"]

PARKED_S_MIN = 5.0  # the same as for new bodies: what is only busy is back by then
PARKED_S_MAX = 300.0  # somebody who mends a disk sees moves go on within minutes


@dataclass(slots=True)
class _Parked:
    reason: str
    until: float
    failures: int


class Parking:
    """Remembers which volumes failed, and when each is tried again.

    Args:
        is_for_reads: What the volumes are not asked for: reads, or else writes.
    """

    def __init__(self, *, is_for_reads: bool) -> None:
        self._is_for_reads = is_for_reads
        self._parked: dict[VolumeId, _Parked] = {}

    def park(self, volume_id: VolumeId, error: HalError) -> None:
        """Leave a volume in peace for what it said."""
        known = self._parked.get(volume_id)
        if known is not None and known.until > trio.current_time():
            # One failure of a batch is as good as all that followed from it.
            return
        failures = 1 if known is None else known.failures + 1
        # Far below where doubling would overflow, and far above where it still matters.
        rest_s = min(PARKED_S_MIN * 2.0 ** min(failures - 1, 30), PARKED_S_MAX)
        self._parked[volume_id] = _Parked(
            reason="full" if isinstance(error, DeviceFull) else str(error),
            until=trio.current_time() + rest_s,
            failures=failures,
        )

    def praise(self, volume_id: VolumeId) -> None:
        """Take note that a volume does its work: failures before its last rest are past."""
        if self.find_reason(volume_id) is None:
            self._parked.pop(volume_id, None)

    def find_reason(self, volume_id: VolumeId) -> str | None:
        """Why a volume is left in peace now; None where it is not."""
        parked = self._parked.get(volume_id)
        return parked.reason if parked is not None and parked.until > trio.current_time() else None

    def list_parked(self) -> tuple[ParkedVolume, ...]:
        """Volumes that are left in peace now, by id."""
        return tuple(
            ParkedVolume(
                volume_id=volume_id,
                is_for_reads=self._is_for_reads,
                reason=parked.reason,
                until=parked.until,
                failures=parked.failures,
            )
            for volume_id, parked in sorted(self._parked.items())
            if parked.until > trio.current_time()
        )
