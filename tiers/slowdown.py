"""How much slower moves make the foreground.

No absolute latency says anything: a busy store is slow without moves too. So the throttle stops
moves for a moment now and then, and like is compared with like: requests of one kind, of one size
and under one load form a stratum, and the slowdown is the ratio of the 99th percentiles, taken
stratum by stratum (TIERING 4.5).

What is measured fades, so that an answer is about the last ten cycles or so. Pure.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass

__all__ = ["SlowdownMeter", "SlowdownStatistics"]

SIZE_BYTES_MAX = 1 << 20
"""Of longer transfers the client's own speed is most of the time."""
SAMPLES_MIN = 100.0
"""A 99th percentile of fewer requests is that of its single slowest one."""
STRATA_MAX = 256  # kinds times sizes times loads: some forty in use
MEMORY = 0.9  # kept of what is measured from cycle to cycle
BUCKET_GROWTH = 1.05  # a latency bucket is 5 % wide: no ratio is known better than that
SECONDS_LEAST = 20e-6
BUCKETS = 320  # up to two minutes
PERCENTILE = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowdownStatistics:
    """What the meter knows.

    Attributes:
        slowdown: The ratio, 1 for none; 0 where too little was measured to tell.
        samples_moving: Requests remembered from while pages moved.
        samples_still: And from while none did.
    """

    slowdown: float
    samples_moving: float
    samples_still: float


class SlowdownMeter:
    """Latencies of the foreground in two situations, by strata."""

    def __init__(self) -> None:
        self._strata: dict[tuple[str, int, int], tuple[_Latencies, _Latencies]] = {}

    def note(
        self, kind: str, *, size_bytes: int, running: int, seconds: float, is_moving: bool
    ) -> None:
        """Note a request that began and ended in one situation.

        Args:
            kind: Name of the operation.
            size_bytes: Of its body and its answer's together; long ones are left out.
            running: Requests that were running, this one among them.
            seconds: How long it took.
            is_moving: Whether pages moved meanwhile.
        """
        if size_bytes > SIZE_BYTES_MAX or seconds < 0.0:
            return
        stratum = (kind, (size_bytes >> 12).bit_length() // 2, max(running, 1).bit_length())
        pair = self._strata.get(stratum)
        if pair is None:
            if len(self._strata) >= STRATA_MAX:
                return
            pair = self._strata[stratum] = (_Latencies(), _Latencies())
        pair[is_moving].add(seconds)

    def fade(self) -> None:
        """End a cycle: what was measured counts a little less from now on."""
        for stratum, pair in list(self._strata.items()):
            for latencies in pair:
                latencies.scale(MEMORY)
            if pair[0].count + pair[1].count < 1.0:
                del self._strata[stratum]

    def forget_moving(self) -> None:
        """Begin anew with what is measured while pages move: they move otherwise from now on."""
        self._strata = {name: (still, _Latencies()) for name, (still, _) in self._strata.items()}

    def find_slowdown(self) -> float | None:
        """The 99th percentile while pages move by that while none do; None where nobody knows.

        Strata count by what the thinner side of each has seen.
        """
        total = weighted = 0.0
        for still, moving in self._strata.values():
            weight = min(still.count, moving.count)
            if weight < SAMPLES_MIN:
                continue
            total += weight
            weighted += weight * math.log(moving.percentile() / still.percentile())
        return math.exp(weighted / total) if total else None

    def statistics(self) -> SlowdownStatistics:
        """What it knows."""
        return SlowdownStatistics(
            slowdown=self.find_slowdown() or 0.0,
            samples_moving=sum(moving.count for _, moving in self._strata.values()),
            samples_still=sum(still.count for still, _ in self._strata.values()),
        )


class _Latencies:
    """A histogram of buckets that grow by a factor."""

    def __init__(self) -> None:
        self.count = 0.0
        self._counts = array("d", bytes(8 * BUCKETS))

    def add(self, seconds: float) -> None:
        position = math.log(max(seconds, SECONDS_LEAST) / SECONDS_LEAST, BUCKET_GROWTH)
        self._counts[min(int(position), BUCKETS - 1)] += 1.0
        self.count += 1.0

    def scale(self, factor: float) -> None:
        self.count *= factor
        for bucket, count in enumerate(self._counts):
            if count:
                self._counts[bucket] = count * factor

    def percentile(self) -> float:
        left = self.count * PERCENTILE
        for bucket, count in enumerate(self._counts):
            left -= count
            if left <= 0.0:
                # In proportion inside its bucket, whose 5 % are all the slowdown allowed.
                share = 1.0 + left / count if count else 1.0
                return SECONDS_LEAST * math.pow(BUCKET_GROWTH, bucket + share)
        return SECONDS_LEAST * math.pow(BUCKET_GROWTH, BUCKETS)
