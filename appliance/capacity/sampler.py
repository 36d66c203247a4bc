"""Takes a sample of capacity every hour, and publishes what it found until the next one.

What volumes and tenants hold is summed by the database, bodies in pieces, so that no transaction is
long; the sample is one commit. Of several processes on one catalog one takes each sample. What
tenants kept since the sample before is added to their months in the same commit: see
`appliance.catalog.capacity_history`.

Time between two samples of this process is measured with the monotonic clock, so that a wall clock
that is set does not bill anybody for hours that never were. Over a restart the wall clock counts:
what was stored was stored while the server was down as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from appliance.capacity.outlook import describe_fill, load_history
from appliance.capacity.reporter import measure_rooms
from appliance.capacity.walk import MOVES_US
from appliance.catalog.capacity_history import (
    TenantSample,
    VolumeSample,
    claim_sample,
    find_last_sample,
    insert_sample,
    thin_samples,
)
from appliance.catalog.capacity_sums import (
    sum_dead_places,
    sum_manifests,
    sum_moves,
    sum_pages,
    sum_shadows,
)
from appliance.catalog.errors import CatalogError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from appliance.admin.report_documents import TierFill
    from appliance.catalog.capacity_sums import MoveSum, VolumeSum
    from appliance.catalog.engine import Catalog
    from appliance.catalog.unit import Connection
    from appliance.clock import Clock
    from tiers.page_store import PageStore

__all__ = ["SAMPLE_INTERVAL_S", "CapacitySampler", "SamplerStatistics", "TierGauges"]

SAMPLE_INTERVAL_S = 3600.0
RETRY_S = 300.0  # after a sample that the catalog refused
SLACK_S = 60.0  # a task that wakes a little early must not wait for another hour
PIECE_BODIES = 10_000  # of one sum: some 40 ms of a reading connection


@dataclass(frozen=True, slots=True, kw_only=True)
class TierGauges:
    """A tier as of the last sample, moves of the 7 days before; None where that is not known.

    The measures are those of `tiers.report_columns`.
    """

    logical_bytes: int
    physical_bytes: int
    padding_bytes: int
    shadow_bytes: int
    dead_bytes: int
    moved_bytes: int
    promoted_bytes: int
    demoted_bytes: int
    released_bytes: int
    ping_pong_bytes: int
    total_bytes: int
    room_bytes: int
    growth_bytes_per_day: float | None
    days_until_full: float | None
    days_until_full_low: float | None
    days_until_full_high: float | None


_NOTHING = TierGauges(
    logical_bytes=0,
    physical_bytes=0,
    padding_bytes=0,
    shadow_bytes=0,
    dead_bytes=0,
    moved_bytes=0,
    promoted_bytes=0,
    demoted_bytes=0,
    released_bytes=0,
    ping_pong_bytes=0,
    total_bytes=0,
    room_bytes=0,
    growth_bytes_per_day=None,
    days_until_full=None,
    days_until_full_low=None,
    days_until_full_high=None,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerStatistics:
    """What the sampler did.

    Attributes:
        last_sample_s: Seconds since 1970 of the newest sample that is known, whoever took it.
    """

    samples: int
    failures: int
    last_sample_s: float
    last_duration_s: float


@dataclass(slots=True)
class _Held:
    """What is on a volume, or a tenant has on a tier."""

    logical: int = 0
    live: int = 0
    padding: int = 0
    shadow: int = 0
    dead: int = 0
    moved: int = 0
    promoted: int = 0
    demoted: int = 0
    released: int = 0
    ping_pong: int = 0


class _Sums:
    """Totals by volume, and by tenant and tier."""

    def __init__(self, tiers: Mapping[int, str]) -> None:
        self._tiers = tiers
        self.volumes: dict[int, _Held] = {volume_id: _Held() for volume_id in tiers}
        self.tenants: dict[tuple[int, str], _Held] = {}

    def add_pages(self, found: VolumeSum) -> None:
        volume = self.volumes.setdefault(found.volume_id, _Held())
        if found.is_dead:
            volume.dead += found.record_bytes
            return
        tenant = self._tenant(found)
        for held in (volume, tenant):
            held.live += found.record_bytes
            held.padding += found.padding_bytes
            held.logical += found.payload_bytes

    def add_shadows(self, found: VolumeSum) -> None:
        volume = self.volumes.setdefault(found.volume_id, _Held())
        if found.is_dead:
            volume.dead += found.record_bytes
        else:
            volume.shadow += found.record_bytes

    def take_manifests(self, found: VolumeSum) -> None:
        """Manifests are stored, but nothing that S3 shows."""
        volume = self.volumes.setdefault(found.volume_id, _Held())
        for held in (volume, self._tenant(found)):
            held.logical -= found.payload_bytes

    def add_moves(self, found: MoveSum) -> None:
        """Count as `tiers.report` does: copies where they went, the rest where it left."""
        source = self.volumes.setdefault(found.from_volume_id, _Held())
        target = self.volumes.setdefault(found.to_volume_id, _Held())
        source.ping_pong += found.return_bytes
        if found.action == "release":
            source.released += found.record_bytes
            return
        target.moved += found.record_bytes
        if found.action == "promote":
            target.promoted += found.record_bytes
        elif found.action in {"demote", "premigrate"}:
            target.demoted += found.record_bytes

    def _tenant(self, found: VolumeSum) -> _Held:
        tier = self._tiers.get(found.volume_id, f"#{found.volume_id}")
        return self.tenants.setdefault((found.tenant_id, tier), _Held())


class CapacitySampler:
    """The sampler of one process.

    Args:
        catalog: Open and running.
        store: Of the open volumes.
        clock: Moments of samples.
        computing: Threads for the arithmetic of forecasts.
        on_failure: Told of a sample that could not be taken.
    """

    def __init__(
        self,
        catalog: Catalog,
        store: PageStore,
        *,
        clock: Clock,
        computing: trio.CapacityLimiter,
        on_failure: Callable[[CatalogError], None],
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._clock = clock
        self._on_failure = on_failure
        self._computing = computing
        self._tiers: dict[int, str] = {volume.volume_id: volume.tier for volume in store.volumes}
        self._gauges = dict.fromkeys(self._tiers.values(), _NOTHING)
        self._tenant_bytes: Mapping[tuple[int, str], int] = {}
        self._own_sample: tuple[int, float] | None = None
        self._samples = 0
        self._failures = 0
        self._last_sample_s = 0.0
        self._last_duration_s = 0.0

    def statistics(self) -> SamplerStatistics:
        """What it did since the start."""
        return SamplerStatistics(
            samples=self._samples,
            failures=self._failures,
            last_sample_s=self._last_sample_s,
            last_duration_s=self._last_duration_s,
        )

    def gauges(self, tier: str) -> TierGauges:
        """A tier as of the last look at it."""
        return self._gauges[tier]

    async def run(
        self, *, on_sample: Callable[[Mapping[tuple[int, str], int]], Awaitable[None]]
    ) -> None:
        """Sample every hour until cancelled. A sample that fails is tried again in minutes.

        Args:
            on_sample: Given the logical bytes of every tenant id and tier after each sample; may
                raise `CatalogError`.
        """
        while True:
            try:
                await self.sample()
                await on_sample(self._tenant_bytes)
            except CatalogError as error:
                self._failures += 1
                self._on_failure(error)
                await trio.sleep(RETRY_S)
            else:
                await trio.sleep(SAMPLE_INTERVAL_S)

    async def sample(self) -> bool:
        """Look at everything, and store it unless there is a sample of this hour already.

        Returns:
            Whether this process took the sample.

        Raises:
            CatalogError: The catalog cannot be read, or refused the sample.
        """
        clock = self._clock
        began = clock.monotonic()
        sums = await self._sum()
        now_us, now = clock.now_us(), clock.monotonic()
        last_us = await self._catalog.read(find_last_sample)
        since_us = self._find_since(last_us, now_us, now)
        unit = self._make_unit(sums, now_us, last_us=last_us, since_us=since_us)
        is_taken = await self._catalog.commit(unit)
        if is_taken:
            self._own_sample = (now_us, now)
            self._samples += 1
            last_us = now_us
        # Also of a sample that another process took, or this one before its restart.
        self._last_sample_s = (last_us or 0) / 1e6
        await self._publish(sums, now_us)
        self._last_duration_s = clock.monotonic() - began
        return is_taken

    async def _sum(self) -> _Sums:
        sums = _Sums(self._tiers)
        after = 0
        while True:
            found, last = await self._catalog.read(
                partial(sum_pages, after=after, body_limit=PIECE_BODIES)
            )
            manifests = await self._catalog.read(partial(sum_manifests, after=after, last=last))
            shadows = await self._catalog.read(partial(sum_shadows, after=after, last=last))
            for each in found:
                sums.add_pages(each)
            for each in manifests:
                sums.take_manifests(each)
            for each in shadows:
                sums.add_shadows(each)
            if last is None:
                break
            after = last
        for volume_id, dead in (await self._catalog.read(sum_dead_places)).items():
            sums.volumes.setdefault(volume_id, _Held()).dead += dead
        since_us = self._clock.now_us() - MOVES_US
        for moved in await self._catalog.read(partial(sum_moves, since_us=since_us)):
            sums.add_moves(moved)
        return sums

    def _find_since(self, last_us: int | None, now_us: int, now: float) -> int | None:
        """When the time since the last sample begins, on the clock of `now_us`."""
        if last_us is None:
            return None
        if self._own_sample is not None and self._own_sample[0] == last_us:
            return now_us - round((now - self._own_sample[1]) * 1e6)
        return last_us if last_us < now_us else None

    def _make_unit(
        self, sums: _Sums, now_us: int, *, last_us: int | None, since_us: int | None
    ) -> Callable[[Connection], bool]:
        volumes = [
            VolumeSample(
                now_us,
                room.volume_id,
                room.tier,
                room.total_bytes,
                room.free_bytes,
                sums.volumes[room.volume_id].live,
                sums.volumes[room.volume_id].shadow,
                sums.volumes[room.volume_id].dead,
            )
            for room in measure_rooms(self._store)
        ]
        tenants = [
            TenantSample(now_us, tenant_id, tier, held.logical, held.live)
            for (tenant_id, tier), held in sorted(sums.tenants.items())
        ]
        due_us = now_us - round((SAMPLE_INTERVAL_S - SLACK_S) * 1e6)

        def take(connection: Connection) -> bool:
            if not claim_sample(connection, now_us=now_us, due_us=due_us):
                return False
            insert_sample(connection, volumes, tenants, last_us=last_us, since_us=since_us)
            thin_samples(connection, now_us=now_us)
            return True

        return take

    async def _publish(self, sums: _Sums, now_us: int) -> None:
        history = await self._catalog.read(partial(load_history, now_us=now_us))
        rooms = measure_rooms(self._store)
        for tier in self._gauges:
            volumes = [room for room in rooms if room.tier == tier]
            held = [sums.volumes[room.volume_id] for room in volumes]
            fill = await trio.to_thread.run_sync(
                describe_fill, tier, volumes, history.volumes, limiter=self._computing
            )
            self._gauges[tier] = _describe(held, fill)
        self._tenant_bytes = {key: held.logical for key, held in sums.tenants.items()}


def _describe(held: Sequence[_Held], fill: TierFill) -> TierGauges:
    return TierGauges(
        logical_bytes=sum(one.logical for one in held),
        physical_bytes=sum(one.live for one in held),
        padding_bytes=sum(one.padding for one in held),
        shadow_bytes=sum(one.shadow for one in held),
        dead_bytes=sum(one.dead for one in held),
        moved_bytes=sum(one.moved for one in held),
        promoted_bytes=sum(one.promoted for one in held),
        demoted_bytes=sum(one.demoted for one in held),
        released_bytes=sum(one.released for one in held),
        ping_pong_bytes=sum(one.ping_pong for one in held),
        total_bytes=fill.total_bytes,
        room_bytes=fill.room_bytes,
        growth_bytes_per_day=fill.growth_bytes_per_day,
        days_until_full=fill.days_until_full,
        days_until_full_low=fill.days_until_full_low,
        days_until_full_high=fill.days_until_full_high,
    )
