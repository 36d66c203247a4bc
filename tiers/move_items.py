"""A batch of moves in the making: its items, what became of each, and reading their records."""

from __future__ import annotations

from collections import defaultdict
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

from hal.errors import DeviceFailed, HalError
from hal.volume_format import load_superblock
from tiers.arm_pace import is_behind
from tiers.move_report import MoveOutcome, Stage
from tiers.record_copy import Copyable, Pieces, check_records
from tiers.scrub_records import Condition

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Collection,
        Iterable,
        Iterator,
        Sequence,
    )

    from hal.buffers import AlignedBuffer, BufferPool
    from hal.records import Extent, VolumeId
    from tiers.move_plan import MovePlan, Obstacle
    from tiers.move_targets import MoveTargets
    from tiers.page_store import PageStore
    from tiers.parking import Parking
    from tiers.ports import MoveLedger
    from tiers.records import StoredPage
    from tiers.scrub_records import RecordVerdict

__all__ = [
    "BatchLog",
    "BatchTools",
    "MoveItem",
    "Throttle",
    "ask_to_read",
    "find_starts",
    "for_each",
    "measure",
    "read_records",
]

_T = TypeVar("_T")


class Throttle(Protocol):
    """What moves may cost; see `tiers.throttle`."""

    async def spend(
        self, volume_id: VolumeId, *, read_bytes: int = 0, write_bytes: int = 0, seeks: int = 1
    ) -> None:
        """Wait until a transfer of a move may begin; for `seeks` see `tiers.arm_pace`."""
        ...

    async def give_way(self, volume_id: VolumeId) -> None:
        """Between two pieces of a transfer: let requests that wait for the device pass."""
        ...

    @property
    def io_bytes(self) -> int:
        """What a device is given or asked for at once."""
        ...

    @property
    def inflight_max(self) -> int:
        """Transfers at the same time, of all batches together."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTools:
    """What every batch of a mover works with; see `tiers.mover.Mover`."""

    store: PageStore
    ledger: MoveLedger
    targets: MoveTargets
    writes: Parking
    reads: Parking
    buffers: BufferPool
    throttle: Throttle
    transfers_max: int
    limiter: trio.CapacityLimiter
    now_us: Callable[[], int]
    on_suspect: Callable[[StoredPage], None]
    seconds: dict[Stage, float] = field(default_factory=lambda: dict.fromkeys(Stage, 0.0))

    @property
    def at_once(self) -> int:
        """How many transfers of one batch may be begun."""
        return min(self.transfers_max, self.throttle.inflight_max)

    @asynccontextmanager
    async def transferring(self, length_bytes: int) -> AsyncIterator[AlignedBuffer]:
        """Memory for one transfer, once there are no more under way than the policy allows."""
        self.limiter.total_tokens = self.throttle.inflight_max
        async with self.limiter:
            with await self.buffers.acquire(length_bytes) as buffer:
                yield buffer

    def pieces_for(self, volume_id: VolumeId) -> Pieces:
        """What a volume is given at once, and lets others pass in between."""
        return Pieces(
            bytes_max=self.throttle.io_bytes, between=partial(self.throttle.give_way, volume_id)
        )

    @contextmanager
    def timing(self, stage: Stage) -> Iterator[None]:
        """Count how long what happens within takes, of each task for itself."""
        began = trio.current_time()
        try:
            yield
        finally:
            self.seconds[stage] += trio.current_time() - began


@dataclass(slots=True, eq=False)
class MoveItem:
    """A plan on its way through a batch.

    Attributes:
        number: The order's position in the batch.
        target: Where the new record goes, once a place was found.
        copyable: How much of the source was sound.
    """

    number: int
    plan: MovePlan
    target: Extent | None = None
    copyable: Copyable = Copyable.WHOLE

    @property
    def source(self) -> Extent:
        """What is copied."""
        return self.plan.movable.page.extent

    @property
    def destination(self) -> Extent:
        """Where to; there is a place by now."""
        assert self.target is not None
        return self.target

    def page_at(self, place: Extent) -> StoredPage:
        """The page as if it lay there."""
        page = self.plan.movable.page
        return page if place == page.extent else replace(page, extent=place)


@dataclass(slots=True)
class BatchLog:
    """What became of a batch so far.

    Attributes:
        outcomes: By the order's number, of those that are done with.
        copied: Bytes written, by number.
        unnamed: Places taken that no commit names: to be given back.
        suspects: Bad records that were met, and where.
        fallbacks: What is tried next, in place of what could not be done.
    """

    outcomes: dict[int, MoveOutcome] = field(default_factory=dict)
    copied: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    unnamed: set[Extent] = field(default_factory=set)
    suspects: list[tuple[MoveItem, Extent]] = field(default_factory=list)
    fallbacks: list[MoveItem] = field(default_factory=list)

    def fail(self, item: MoveItem, obstacle: Obstacle, detail: str = "") -> None:
        """Go on with the item's fallback, or be done with it."""
        fallback = item.plan.fallback
        if fallback is None:
            self.give_up(item, obstacle, detail)
        else:
            self.fallbacks.append(MoveItem(item.number, fallback))

    def give_up(self, item: MoveItem, obstacle: Obstacle, detail: str = "") -> None:
        """Be done with an item, whatever fallback it has."""
        self.outcomes[item.number] = MoveOutcome(
            order=item.plan.order,
            obstacle=obstacle,
            detail=detail,
            copied_bytes=self.copied[item.number],
        )


def measure(items: Sequence[MoveItem], place_of: Callable[[MoveItem], Extent]) -> int:
    """How long the items' records are together, bytes."""
    return sum(place_of(item).length_bytes for item in items)


async def for_each(
    groups: Sequence[_T], work: Callable[[_T], Awaitable[None]], *, at_once: int
) -> None:
    """Work on groups in their order, a few at a time."""
    waiting = iter(groups)

    async def take() -> None:
        for group in waiting:
            await work(group)

    async with trio.open_nursery() as nursery:
        for _ in range(min(at_once, len(groups))):
            nursery.start_soon(take)


def find_starts(
    items: Iterable[MoveItem], place_of: Callable[[MoveItem], Extent]
) -> frozenset[int]:
    """Numbers of the items to whose places an arm moves, asked for them in this order."""
    starts: set[int] = set()
    last: dict[VolumeId, Extent] = {}
    for item in items:
        place = place_of(item)
        if not is_behind(place, last.get(place.volume_id)):
            starts.add(item.number)
        last[place.volume_id] = place
    return frozenset(starts)


async def ask_to_read(
    tools: BatchTools,
    items: Sequence[MoveItem],
    place_of: Callable[[MoveItem], Extent],
    starts: Collection[int] | None = None,
) -> None:
    """Wait until the items' records may be read.

    Before the caller takes a buffer: memory that requests want as well is held for transfers, not
    for waiting.

    Args:
        tools: Of the batch.
        items: Read one after the other.
        place_of: From where.
        starts: See `find_starts`, of all that is read in a row; None for these items alone.
    """
    starts = find_starts(items, place_of) if starts is None else starts
    wanted: dict[VolumeId, int] = defaultdict(int)
    seeks: dict[VolumeId, int] = defaultdict(int)
    for item in items:
        place = place_of(item)
        wanted[place.volume_id] += place.length_bytes
        seeks[place.volume_id] += item.number in starts
    for volume_id, read_bytes in wanted.items():
        await tools.throttle.spend(volume_id, read_bytes=read_bytes, seeks=seeks[volume_id])


async def read_records(
    tools: BatchTools,
    items: Sequence[MoveItem],
    place_of: Callable[[MoveItem], Extent],
    target: memoryview,
) -> list[RecordVerdict]:
    """Read the items' adjacent records into `target` and say what each is.

    Where a device gives nothing out, its superblock is read: if that fails too it is the device
    and not the page. It is left in peace for a while, and nothing is said of its pages. The caller
    has asked for the transfer (`ask_to_read`).

    Raises:
        HalError: The device does not work.
    """
    places = [place_of(item) for item in items]
    volume = tools.store.volume(places[0].volume_id)
    reason = tools.reads.find_reason(volume.volume_id)
    if reason is not None:
        raise DeviceFailed(volume.device.name, reason)
    pages = [item.page_at(place) for item, place in zip(items, places, strict=True)]
    try:
        verdicts = await check_records(volume, pages, target, tools.pieces_for(volume.volume_id))
        if any(verdict.condition is Condition.UNREADABLE for verdict in verdicts):
            await load_superblock(volume.device)
    except HalError as error:
        tools.reads.park(volume.volume_id, error)
        raise
    tools.reads.praise(volume.volume_id)
    return verdicts
