"""How full the tiers are, as whoever decides about pages sees it.

Of the fast tier the pages are known one by one: its fill is theirs, and its size what they and the
free room come to, so that files of others make it smaller. Of slower tiers only the file systems
are asked. The unwritten rest of open segments counts as free, and so does what pages have left and
reclaim has not punched yet: were it missing, a tier that is drained would shrink by that and be
drained for it once more.

Room, pages and what is dead are not measured at one moment. So the size is the largest of the last
minute: it may not shrink because something was between two of them.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import TYPE_CHECKING

from tiers.plan_records import TierState
from tiers.policy import Promote
from tiers.promotions import find_entry, find_low_mark
from tiers.residents import UNIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hal.records import VolumeId
    from tiers.fast_tier import FastTier
    from tiers.page_store import PageStore
    from tiers.policy import Policy
    from tiers.ports import MoveLedger

__all__ = ["CopiedLately", "TierGauges", "WrittenToday", "is_filled"]

DAY_S = 86_400.0
MINUTE_S = 60.0
BIN_S = 900.0  # of the sliding day: a quarter of an hour's writes come free at once


def is_filled(state: TierState, share: float) -> bool:
    """Whether a tier, with what is on its way to it, is filled to a share."""
    return state.settled_bytes >= share * state.total_bytes


class WrittenToday:
    """What moves wrote to each tier within the last 24 hours, in bins of a quarter of an hour."""

    def __init__(self) -> None:
        self._bins: dict[str, deque[tuple[float, int]]] = {}

    def note(self, tier: str, size_bytes: int, now: float) -> None:
        """Note a copy."""
        bins = self._bins.setdefault(tier, deque())
        # A clock that was set back adds to the last bin rather than to one in between.
        if bins and now - bins[-1][0] < BIN_S:
            start, before = bins.pop()
            bins.append((start, before + size_bytes))
        else:
            bins.append((now, size_bytes))

    def sum(self, tier: str, now: float) -> int:
        """Bytes written to a tier within the last 24 hours."""
        bins = self._bins.get(tier, deque())
        while bins and bins[0][0] < now - DAY_S:
            bins.popleft()
        return sum(size for _, size in bins)


class CopiedLately:
    """What was copied from tier to tier within the last minute."""

    def __init__(self) -> None:
        self._copies: deque[tuple[float, tuple[str, str], int]] = deque()

    def note(self, hop: tuple[str, str], size_bytes: int, now: float) -> None:
        """Note a copy from one tier to another."""
        self._forget(now)
        self._copies.append((now, hop, size_bytes))

    def rates(self, now: float) -> dict[tuple[str, str], float]:
        """Bytes a second, by source and target tier."""
        self._forget(now)
        sums: Counter[tuple[str, str]] = Counter()
        for _, hop, size_bytes in self._copies:
            sums[hop] += size_bytes
        return {hop: size_bytes / MINUTE_S for hop, size_bytes in sums.items()}

    def _forget(self, now: float) -> None:
        while self._copies and not now - MINUTE_S <= self._copies[0][0] <= now:
            self._copies.popleft()


class TierGauges:
    """Reads the tiers of one server.

    Args:
        store: The volumes, with their room as last measured.
        fast: Pages of the fast tier.
        tier_order: Tier names, fastest first.
    """

    def __init__(self, store: PageStore, fast: FastTier, *, tier_order: Sequence[str]) -> None:
        self._store = store
        self._fast = fast
        self._order = tuple(tier_order)
        self._dead: Mapping[VolumeId, int] = {}
        self._sizes: deque[tuple[float, int]] = deque()
        self.written = WrittenToday()
        self.copied = CopiedLately()

    def tier_of(self, volume_id: VolumeId) -> str:
        """The tier of a volume."""
        return self._store.volume(volume_id).tier

    def volumes_of(self) -> dict[str, list[VolumeId]]:
        """Volumes by tier, fastest tier first; tiers without volumes are left out."""
        found: dict[str, list[VolumeId]] = {name: [] for name in self._order}
        for volume in self._store.volumes:
            found.setdefault(volume.tier, []).append(volume.volume_id)
        return {name: volumes for name, volumes in found.items() if volumes}

    async def measure_dead(self, ledger: MoveLedger) -> None:
        """Ask what waits for its punch.

        Raises:
            LedgerUnavailable: It cannot be asked; the last answer stands.
        """
        self._dead = await ledger.measure_dead()

    def fit_fast_tier(self, policy: Policy, *, now: float) -> None:
        """Let the fast tier have the room that its volumes have.

        Args:
            policy: Says how much of what is not there is remembered.
            now: On a clock that never goes back, seconds.
        """
        sizes = self._sizes
        sizes.append((now, self._fast.used_bytes + self._free_bytes(self._order[0])))
        while sizes[0][0] < now - MINUTE_S:
            sizes.popleft()
        total = max(size for _, size in sizes)
        ghosts = [rule.action.ghost for rule in policy.rules if isinstance(rule.action, Promote)]
        ghost = max(ghosts, default=0.0)
        self._fast.resize(total_bytes=max(total, 1), ghost_bytes=int(ghost * total))

    def read(
        self,
        policy: Policy,
        *,
        now: float,
        arriving: Mapping[str, int],
        leaving: Mapping[str, int],
        cleaning_bytes: int,
    ) -> tuple[TierState, ...]:
        """Every tier that has volumes, as it is now.

        Args:
            policy: Whose `write_budget_per_day` counts.
            now: Seconds since 1970.
            arriving: Bytes on their way to each tier.
            leaving: Bytes that will have left each tier by then.
            cleaning_bytes: Of pages on the fast tier that will have a copy below by then.
        """
        return tuple(
            self._read_tier(
                name,
                policy,
                now=now,
                arriving_bytes=arriving.get(name, 0),
                leaving_bytes=leaving.get(name, 0),
                cleaning_bytes=cleaning_bytes,
            )
            for name in self.volumes_of()
        )

    def _read_tier(
        self,
        name: str,
        policy: Policy,
        *,
        now: float,
        arriving_bytes: int,
        leaving_bytes: int,
        cleaning_bytes: int,
    ) -> TierState:
        declared = policy.find_tier(name)
        budget = declared.write_budget_bytes_per_day if declared is not None else None
        left = None if budget is None else max(budget - self.written.sum(name, now), 0)
        free = self._free_bytes(name)
        is_fast = name == self._order[0]
        if is_fast:
            used, total = self._fast.used_bytes, self._fast.total_bytes
        else:
            total = sum(self._room_total(volume_id) for volume_id in self.volumes_of()[name])
            used = max(total - free, 0)
        return TierState(
            name=name,
            used_bytes=used,
            total_bytes=max(total, 1),
            dirty_bytes=max(self._fast.dirty_bytes - cleaning_bytes, 0) if is_fast else 0,
            leaving_bytes=leaving_bytes,
            arriving_bytes=arriving_bytes,
            cut=self._find_cut(policy, arriving_bytes) if is_fast else -math.inf,
            write_budget_left_bytes=left,
            keep_free_bytes=sum(
                volume.keep_free_bytes for volume in self._store.volumes if volume.tier == name
            ),
            takes_writes=free > 0,
        )

    def _find_cut(self, policy: Policy, arriving_bytes: int) -> float:
        low = find_low_mark(policy, self._order[0])
        return find_entry(self._fast, UNIT_BYTES, low=low, arriving_bytes=arriving_bytes)

    def _free_bytes(self, tier: str) -> int:
        return sum(
            self._store.room(volume.volume_id).free_bytes
            + volume.unwritten_bytes()
            + self._dead.get(volume.volume_id, 0)
            for volume in self._store.volumes
            if volume.tier == tier
        )

    def _room_total(self, volume_id: VolumeId) -> int:
        return self._store.room(volume_id).total_bytes
