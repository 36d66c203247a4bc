"""One life of a simulated appliance: from a start on what the last one left to its end.

Real: S3 application, handlers, key ring, catalog units and group commit, volumes, page store,
reclaimer, scrubber and mover. Simulated: devices, database file, time, chance, and everything that
goes wrong (`tests.simulation.seeded.faults`).

Every operation of a device and every COMMIT is an event. At an event the life may end (kill, power
cut), and a crash image may be taken: what the devices and the catalog would be if it ended here.
"""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from appliance.assembly import Core, make_keyring, make_reclaimer, make_scrubber, make_service
from appliance.catalog.settings import begin_epoch
from appliance.http.asgi import S3Application
from appliance.objects.buffers import RequestBuffers
from appliance.objects.page_cache import PageCache
from appliance.rate import UNLIMITED, RateLimiter
from appliance.recovery import Recovery
from appliance.settings import RecoverySettings
from hal.faulty_device import Fault, FaultyDevice, Operation, OperationKind
from hal.geometry import RECORD_ALIGNMENT_BYTES, align_down
from hal.memory_device import MemoryDevice
from hal.memory_file import CrashLot
from hal.records import VolumeId
from hal.segment import format_segment_name
from hal.volume import Volume
from tests.simulation.seeded.database import CommitFate
from tests.simulation.seeded.faults import ERRNOS, FaultKind, make_error
from tests.simulation.seeded.moves import RandomMoves
from tests.simulation.world import APPLIANCE_UUID, GRACE_S, LIMITS_OF_S3
from tiers.page_store import PageStore
from tiers.volume_scrub import ScrubPlan

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection, Mapping, Sequence

    from appliance.catalog.engine import Catalog
    from appliance.keyring import KeyRing
    from appliance.secrets import SecretBox
    from hal.records import Extent, SegmentRef
    from tests.simulation.seeded.database import Database
    from tests.simulation.seeded.faults import Profile, Tally
    from tiers.reclaimer import Reclaimer
    from tiers.records import StoredPage
    from tiers.scrubber import Scrubber

__all__ = [
    "MOVERS",
    "SCRUB_RATE",
    "TIERS",
    "Damage",
    "Image",
    "Life",
    "SimulatedClock",
    "Violation",
    "format_devices",
]

MIB = 1024 * 1024
TIERS = ("ssd", "hdd")
SEGMENT_BYTES = 8 * MIB
CAPACITIES = {"ssd": 10 * SEGMENT_BYTES, "hdd": 64 * SEGMENT_BYTES}
BUFFER_BYTES = 96 * MIB
PAGE_CACHE_BYTES = 256 * 1024
RECLAIM_INTERVAL_S = 25.0
ROOMS_INTERVAL_S = 20.0
STALL_S_MAX = 120.0
SCRUB_RATE = 0.3  # of the lives, for it takes time from the clients' events
MOVERS = (0, 1, 1, 2)  # two of them race each other
ALERT_EVENTS = 30
ALERT_FACTOR = 5.0
SCRUB_PERIOD_S = 300.0
SCRUB_BYTES_PER_S = 64 * MIB
START_US = 1_795_000_000_000_000
SEGMENT_SUFFIX = ".segment"

Damage = set[tuple[str, str, int]]
"""Blocks whose stored bytes were changed: (tier, file, offset)."""


class Violation(AssertionError):
    """A promise was broken."""


class SimulatedClock:
    """The virtual clock of the loop as wall and monotonic time. See `appliance.clock.Clock`."""

    def __init__(self, step_us: int = 0) -> None:
        self.step_us = step_us

    def now(self) -> float:
        """See `Clock.now`."""
        return self.now_us() / 1_000_000

    def now_us(self) -> int:
        """See `Clock.now_us`."""
        return START_US + self.step_us + round(trio.current_time() * 1_000_000)

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return trio.current_time()


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What a crash leaves.

    Attributes:
        at: The event it was taken at, see `Life.event`.
        damage: Blocks that do not hold what was written there.
    """

    at: int
    devices: Mapping[str, MemoryDevice]
    catalog: bytes
    damage: Damage


async def format_devices() -> dict[str, MemoryDevice]:
    """A formatted device per tier."""
    devices = {tier: MemoryDevice(tier, capacity_bytes=CAPACITIES[tier]) for tier in TIERS}
    for number, (tier, device) in enumerate(devices.items(), start=1):
        await Volume.format(
            device,
            volume_id=VolumeId(number),
            volume_uuid=uuid.UUID(int=100 + number),
            appliance_uuid=APPLIANCE_UUID,
            tier=tier,
            segment_bytes=SEGMENT_BYTES,
            created_us=1,
        )
    return devices


class Life:
    """One start of the server; `start` before anything else, one ending after.

    Args:
        image: What it starts on; its devices are used up.
        database: For the catalog; loaded with the image's.
        box: Opens the secrets.
        random: Every lot of this life.
        profile: What goes wrong.
        clock: Wall time, on over all lives.
        tally: Counts what went wrong.
        next_event: Of the whole history.
        crash_image_rate: How often an event is a crash point as well.
        crash_images_max: How many are taken at most.
        ends_at: The event at which the life ends with `ending`; None for never.
        ending: KILL or POWER_CUT.
        volatile_commits: Sabotage: how many of the last commits a power cut may take along.
        scrub_rate: How often a life scrubs, 0 to 1.
        movers: Of these one says how many tasks move pages.
    """

    def __init__(  # the voyage names each
        self,
        image: Image,
        *,
        database: Database,
        box: SecretBox,
        random: random.Random,
        profile: Profile,
        clock: SimulatedClock,
        tally: Tally,
        next_event: Callable[[], int],
        crash_image_rate: float = 0.0,
        crash_images_max: int = 0,
        ends_at: int | None = None,
        ending: FaultKind = FaultKind.POWER_CUT,
        volatile_commits: int = 0,
        scrub_rate: float = SCRUB_RATE,
        movers: Sequence[int] = MOVERS,
    ) -> None:
        self._database = database
        self._box = box
        self._random = random
        self._clock = clock
        self._tally = tally
        self._next_event = next_event
        self._crash_image_rate = crash_image_rate
        self._crash_images_max = crash_images_max
        self._events_left = ends_at
        self._ending = ending
        self._recent_images = [image.catalog]
        self._volatile_commits = volatile_commits
        self._scrub_rate = scrub_rate
        self._movers = movers
        self._devices = dict(image.devices)
        self._is_armed = False
        self._has_failed = False
        self._alert_events = 0
        self._nursery: trio.Nursery
        self.profile = profile
        self.damage: Damage = set(image.damage)
        self._unwritten: Damage = set()
        # When each came, by the events of this life; what was there before came at its start.
        self._damaged_at = dict.fromkeys(self.damage, image.at)
        self.event = image.at
        self.images: list[Image] = []
        self.end: Image | None = None
        self.ended = trio.Event()
        self.lost_pages: list[StoredPage] = []
        database.load(image.catalog)
        self.catalog: Catalog
        self.store: PageStore
        self.core: Core
        self.keyring: KeyRing
        self.reclaimer: Reclaimer
        self.scrubber: Scrubber
        self.application: S3Application

    async def start(self, nursery: trio.Nursery, *, with_background: bool = True) -> None:
        """Open catalog and volumes as `appliance.runtime` does, and start the background work."""
        self._nursery = nursery
        self.catalog = self._database.open(
            self._flush, decide=self._decide_commit, noticed=self._notice_commit
        )
        await nursery.start(self._commit_until_failure)
        epoch = await self.catalog.commit(begin_epoch)
        uuids = (uuid.UUID(int=self._random.getrandbits(128)) for _ in iter(int, 1))
        volumes = [
            await Volume.open(
                FaultyDevice(self._devices[tier], partial(self._plan, tier)),
                appliance_uuid=APPLIANCE_UUID,
                boot_epoch=epoch,
                keep_free_bytes=0,
                random_uuid=lambda: next(uuids),
                now_us=self._clock.now_us,
            )
            for tier in TIERS
        ]
        self.store = PageStore(volumes, tier_order=TIERS, on_lost=self._note_lost)
        await self.store.measure_rooms()
        self.core = Core(
            catalog=self.catalog,
            store=self.store,
            box=self._box,
            boot_epoch=epoch,
            clock=self._clock,
            random_bytes=self._random.randbytes,
            buffers=RequestBuffers(BUFFER_BYTES),
            # In two lives of three every read goes to the devices, where the faults are.
            page_cache=PageCache(0 if epoch % 3 else PAGE_CACHE_BYTES),
        )
        self.reclaimer = make_reclaimer(self.core, grace_s=GRACE_S)
        self.scrubber = make_scrubber(
            self.core,
            plan_of=lambda _tier: ScrubPlan(
                period_s=SCRUB_PERIOD_S, rate_max=SCRUB_BYTES_PER_S, is_scheduled=True
            ),
            on_event=lambda _event: None,
        )
        if with_background:
            await self._recover()
            await self._serve()

    async def _recover(self) -> None:
        """Read again what was written last; nothing of it may be bad but what was damaged."""
        recovery = Recovery(self.core, self.scrubber, RecoverySettings())
        await recovery.recheck()
        bad_pages = recovery.statistics().recheck.bad_pages
        if bad_pages and not self.damage:
            raise Violation(f"{bad_pages} of the last pages are bad, and nothing damaged them")

    async def _serve(self) -> None:
        self.keyring = make_keyring(self.core)
        await self.keyring.poll()
        service = make_service(
            self.core,
            self.keyring,
            limits=LIMITS_OF_S3,
            limiter=RateLimiter(),
            rates=UNLIMITED,
        )
        self.application = S3Application(
            service.handle,
            mint_request_id=lambda: "0" * 16,
            now_us=self._clock.now_us,
            host_id="host",
        )
        if self._random.random() < self._scrub_rate:
            await self._nursery.start(self.scrubber.run)
        self._is_armed = True
        self._nursery.start_soon(
            partial(
                self.reclaimer.run, interval_s=RECLAIM_INTERVAL_S, on_failure=lambda _error: None
            )
        )
        self._nursery.start_soon(self._measure_rooms)
        for _ in range(self._random.choice(self._movers)):
            moves = RandomMoves(
                self.core,
                on_suspect=self.scrubber.suspect,
                tiers=TIERS,
                random=self._random,
                check_named=self.check_named,
                event=lambda: self.event,
            )
            self._nursery.start_soon(moves.run)

    async def seal(self) -> None:
        """Begin to end cleanly: no more faults, and the open segments are sealed."""
        self._is_armed = False
        for volume in self.store.volumes:
            await volume.seal_open_segments()

    async def close(self) -> Image:
        """End cleanly, once no task of it runs any more; what is left, all of it durable or not."""
        await self.catalog.aclose()
        return Image(
            at=self.event,
            devices=self._devices,
            catalog=self._database.image,
            damage=self.damage,
        )

    def cut_power(self) -> None:
        """End now, at whatever is under way."""
        self._finish(FaultKind.POWER_CUT)

    def crash_image(self) -> Image:
        """What a power cut at this moment leaves."""
        lots = Counter[CrashLot]()
        devices = {
            tier: device.crash_image(self._random, tally=lots)
            for tier, device in self._devices.items()
        }
        self._tally.count_crash(lots)
        return Image(
            at=self.event,
            devices=devices,
            catalog=self._random.choice(self._recent_images),
            damage=set(self.damage),
        )

    def jump_clock(self) -> None:
        """Set the wall clock, as NTP or an administrator does."""
        self._tally.faults[FaultKind.CLOCK_JUMP] += 1
        self._clock.step_us += self._random.randint(-86_400, 86_400) * 1_000_000

    def check_named(self, extent: Extent, *, since: int, is_new: bool) -> None:
        """A move that began at an event has made the catalog name this record, or it alone.

        It verified it on the device before.

        Raises:
            Violation: It was bad already, or never got there.
        """
        if is_new and self._has_blocks_in(extent, self._unwritten):
            raise Violation(f"a move named {extent}, which was never written")
        bad = {place for place, at in self._damaged_at.items() if at < since}
        if not is_new and self._has_blocks_in(extent, bad):
            raise Violation(f"a move left {extent} alone, which was bad before")

    def is_damaged(self, extent: Extent) -> bool:
        """Whether any block of a record holds something else than what was written."""
        return self._has_blocks_in(extent, self.damage)

    def _has_blocks_in(self, extent: Extent, places: Damage) -> bool:
        volume = self.store.volume(extent.volume_id)
        names = {
            format_segment_name(facts.segment_id, facts.segment_uuid)
            for facts in volume.list_segments()
            if facts.segment_id == extent.segment_id
        }
        blocks = range(extent.offset, extent.offset + extent.length_bytes, RECORD_ALIGNMENT_BYTES)
        return any((volume.tier, name, block) in places for name in names for block in blocks)

    def allocated_bytes(self, segment: SegmentRef) -> int:
        """What a segment takes beyond its header."""
        volume = self.store.volume(segment.volume_id)
        [name] = (
            format_segment_name(facts.segment_id, facts.segment_uuid)
            for facts in volume.list_segments()
            if facts.segment_id == segment.segment_id
        )
        taken = self._devices[volume.tier].allocated_bytes()
        return taken[name] - RECORD_ALIGNMENT_BYTES

    async def _flush(self, segments: Collection[SegmentRef]) -> Mapping[SegmentRef, Exception]:
        return await self.store.flush(segments)

    async def _commit_until_failure(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """A failed commit ends the process, as `appliance.runtime` has it."""
        try:
            await self.catalog.run(task_status=task_status)
        except Exception:
            if not self._has_failed and not self.ended.is_set():
                raise
            # Requests that wait for the commit are told, and do what they do, before it is over.
            with trio.CancelScope(shield=True):
                await trio.sleep(self._random.random())
            self._finish(FaultKind.KILL)

    async def _measure_rooms(self) -> None:
        while True:
            await trio.sleep(ROOMS_INTERVAL_S)
            await self.store.measure_rooms()

    def _note_lost(self, page: StoredPage) -> None:
        self.lost_pages.append(page)
        self.scrubber.suspect(page)
        may_flip = self.profile.rates.get(FaultKind.READ_FLIP) or self.profile.rates.get(
            FaultKind.ERRNO
        )
        if not self.ended.is_set() and not may_flip and not self.is_damaged(page.extent):
            raise Violation(f"{page.extent} is lost, and nothing damaged it")

    def _tick(self) -> None:
        """One event: perhaps a crash point, perhaps the end."""
        if self.ended.is_set():
            return
        self.event = self._next_event()
        rate = self._crash_image_rate
        if self._alert_events:
            # What goes wrong in the wake of a fault shows in a crash soon after.
            self._alert_events -= 1
            rate *= ALERT_FACTOR
        is_crash_point = self._random.random() < rate
        if is_crash_point and len(self.images) < self._crash_images_max:
            self.images.append(self.crash_image())
        if self._events_left is not None and self._is_armed:
            self._events_left -= 1
            if self._events_left <= 0:
                self._finish(self._ending)

    def _finish(self, ending: FaultKind) -> None:
        if self.ended.is_set():
            return
        self._tally.faults[ending] += 1
        if ending is FaultKind.KILL:
            # The kernel keeps what it was given: the next start reads it, durable or not.
            self.end = Image(
                at=self.event,
                devices={tier: device.copy() for tier, device in self._devices.items()},
                catalog=self._database.image,
                damage=set(self.damage),
            )
        else:
            self.end = self.crash_image()
        self.ended.set()

    def _decide_commit(self) -> CommitFate:
        self._tick()
        if self.ended.is_set():
            self._has_failed = True
            return CommitFate.FAILED_UNDONE
        if not self._is_armed:
            return CommitFate.DONE
        if self.profile.draws(FaultKind.CATALOG_FULL, self._random):
            self._tally.faults[FaultKind.CATALOG_FULL] += 1
            return CommitFate.FULL
        if self.profile.draws(FaultKind.COMMIT_FAILED, self._random):
            self._tally.faults[FaultKind.COMMIT_FAILED] += 1
            self._has_failed = True
            return self._random.choice((CommitFate.FAILED_DONE, CommitFate.FAILED_UNDONE))
        return CommitFate.DONE

    def _notice_commit(self) -> None:
        if self.ended.is_set():
            return
        self._recent_images.append(self._database.image)
        del self._recent_images[: -1 - self._volatile_commits]
        self._tick()

    def _plan(self, tier: str, operation: Operation) -> Fault | None:
        """What meets one operation of a device."""
        self._tick()
        if self.ended.is_set():
            return Fault(error=make_error(operation, ERRNOS[0], device=tier))
        if not self._is_armed:
            return None
        device = self._devices[tier]
        if self.profile.draws(FaultKind.ROT, self._random):
            self._rot(tier, device)
        fault = self._draw_fault(tier, device, operation)
        if self.profile.draws(FaultKind.STALL, self._random):
            self._tally.faults[FaultKind.STALL] += 1
            fault = fault or Fault()
            fault = Fault(
                error=fault.error,
                is_done=fault.is_done,
                written_bytes=fault.written_bytes,
                delay_seconds=self._random.uniform(0.0, STALL_S_MAX),
            )
        return fault

    def _draw_fault(self, tier: str, device: MemoryDevice, operation: Operation) -> Fault | None:
        random, kind = self._random, operation.kind
        if self.profile.draws(FaultKind.ERRNO, random):
            return self._fault(FaultKind.ERRNO, tier, operation)
        if self.profile.draws(FaultKind.ANSWER_LOST, random):
            return self._fault(FaultKind.ANSWER_LOST, tier, operation, is_done=True)
        if kind is OperationKind.WRITE:
            return self._draw_write_fault(tier, device, operation)
        if kind is OperationKind.FLUSH and self.profile.draws(FaultKind.FLUSH_FORGOTTEN, random):
            device.lose_unflushed(operation.name, random)
            return self._fault(FaultKind.FLUSH_FORGOTTEN, tier, operation)
        if kind is OperationKind.READ and self.profile.draws(FaultKind.READ_FLIP, random):
            self._tally.faults[FaultKind.READ_FLIP] += 1
            position = random.randrange(operation.length_bytes)
            return Fault(flipped_bits=((position, random.randrange(8)),))
        return None

    def _draw_write_fault(
        self, tier: str, device: MemoryDevice, operation: Operation
    ) -> Fault | None:
        random = self._random
        if self.profile.draws(FaultKind.SHORT_WRITE, random):
            part = align_down(random.randrange(operation.length_bytes))
            return self._fault(FaultKind.SHORT_WRITE, tier, operation, written_bytes=part)
        if self.profile.draws(FaultKind.PHANTOM_WRITE, random):
            self._tally.faults[FaultKind.PHANTOM_WRITE] += 1
            self._leave_unwritten(tier, operation.name, operation.offset, operation.length_bytes)
            return Fault(is_phantom=True)
        if self.profile.draws(FaultKind.MISDIRECTED_WRITE, random):
            return self._misdirect(tier, device, operation)
        return None

    def _fault(
        self,
        kind: FaultKind,
        tier: str,
        operation: Operation,
        *,
        is_done: bool = False,
        written_bytes: int = 0,
    ) -> Fault:
        self._tally.faults[kind] += 1
        self._alert_events = ALERT_EVENTS
        error = make_error(operation, self._random.choice(ERRNOS), device=tier)
        return Fault(error=error, is_done=is_done, written_bytes=written_bytes)

    def _misdirect(self, tier: str, device: MemoryDevice, operation: Operation) -> Fault | None:
        """Send a write over something that is stored, if anything is long enough."""
        length = operation.length_bytes
        stored = {
            (name, offset)
            for name, offsets in device.stored_blocks().items()
            for offset in offsets
            if name.endswith(SEGMENT_SUFFIX)
        }
        places = sorted(
            (name, offset)
            for name, offset in stored
            if all(
                (name, block) in stored
                for block in range(offset, offset + length, RECORD_ALIGNMENT_BYTES)
            )
        )
        if not places:
            return None
        name, offset = self._random.choice(places)
        self._tally.faults[FaultKind.MISDIRECTED_WRITE] += 1
        self._leave_unwritten(tier, operation.name, operation.offset, length)
        self._damage(tier, name, offset, length)
        return Fault(misdirected_to=(name, offset))

    def _rot(self, tier: str, device: MemoryDevice) -> None:
        blocks = [
            (name, offset)
            for name, offsets in device.stored_blocks().items()
            for offset in offsets
            if name.endswith(SEGMENT_SUFFIX)
        ]
        if not blocks:
            return
        name, offset = self._random.choice(blocks)
        self._tally.faults[FaultKind.ROT] += 1
        device.flip_bit(name, offset + self._random.randrange(4096), self._random.randrange(8))
        self._damage(tier, name, offset, RECORD_ALIGNMENT_BYTES)

    def _leave_unwritten(self, tier: str, name: str, offset: int, length_bytes: int) -> None:
        self._damage(tier, name, offset, length_bytes)
        blocks = range(offset, offset + length_bytes, RECORD_ALIGNMENT_BYTES)
        self._unwritten.update((tier, name, block) for block in blocks)

    def _damage(self, tier: str, name: str, offset: int, length_bytes: int) -> None:
        blocks = range(offset, offset + length_bytes, RECORD_ALIGNMENT_BYTES)
        places = [(tier, name, block) for block in blocks]
        self.damage.update(places)
        self._damaged_at |= dict.fromkeys(places, self.event)
