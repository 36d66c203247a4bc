"""A mover over simulated devices, and what must hold of pages whatever it does."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hal.buffers import BufferPool
from hal.geometry import ANNEX_BYTES_MAX, HEADER_BYTES, record_bytes
from hal.memory_device import MemoryDevice
from hal.page_codec import annex_of, decode_header
from hal.records import BodyId, VolumeId
from tests.contract.device import aligned
from tests.unit.tiers.stores import open_volume
from tiers.decisions import Action
from tiers.memory_move_ledger import MemoryMoveLedger
from tiers.move_records import MoveEntry, MoveOrder, PageOwner
from tiers.mover import Mover
from tiers.page_store import PageStore, RecordIdentity
from tiers.record_check import check_record
from tiers.records import PageId
from tiers.scrub_records import Condition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hal.device import Device
    from hal.records import Extent
    from tiers.move_items import Throttle
    from tiers.move_report import BatchReport
    from tiers.ports import MoveLedger
    from tiers.records import StoredPage

__all__ = ["HDD", "HDD_TWO", "SSD", "MoverBench", "make_devices", "open_bench"]

SSD, HDD, HDD_TWO = VolumeId(1), VolumeId(2), VolumeId(3)
TIERS = ("ssd", "hdd")
POOL_BYTES = 64 * 1024 * 1024


def make_devices(*, count: int = 3, capacity_bytes: int = 256 << 20) -> list[MemoryDevice]:
    """Empty devices."""
    return [MemoryDevice(f"disk{n}", capacity_bytes=capacity_bytes) for n in range(1, count + 1)]


@dataclass(slots=True)
class Written:
    """What a page must hold."""

    payload: bytes
    annex: bytes


@dataclass(slots=True)
class MoverBench:
    """A store, its ledger and a mover, and pages with known bytes."""

    store: PageStore
    ledger: MemoryMoveLedger
    mover: Mover
    buffers: BufferPool
    suspects: list[StoredPage] = field(default_factory=list)
    written: dict[tuple[BodyId, int], Written] = field(default_factory=dict)
    bodies: itertools.count[int] = field(default_factory=lambda: itertools.count(1 << 32, 100))

    async def put(
        self,
        *sizes: int,
        volume_id: VolumeId = SSD,
        annex: bytes = b"who and what",
        owner: PageOwner | None = None,
    ) -> list[StoredPage]:
        """A body of pages with these sizes on a volume, committed."""
        body_id = BodyId(next(self.bodies))
        one = PageStore([self.store.volume(volume_id)], tier_order=TIERS)
        pages = []
        for index, size in enumerate(sizes):
            is_last = index == len(sizes) - 1
            payload = bytes([body_id % 251 + 1, index % 256]) * (size // 2) + b"x" * (size % 2)
            length = record_bytes(payload_bytes=size, annex_bytes=ANNEX_BYTES_MAX)
            record = aligned(bytes(length))
            record[HEADER_BYTES : HEADER_BYTES + size] = payload
            page = await one.write_page(
                record,
                payload_bytes=size,
                identity=RecordIdentity(
                    tenant_id=7,
                    body_id=body_id,
                    page_index=index,
                    is_last=is_last,
                    written_us=1234,
                ),
                annex=annex if is_last else b"",
            )
            self.written[body_id, index] = Written(payload, annex if is_last else b"")
            pages.append(page)
        assert await self.store.flush({page.extent.segment for page in pages}) == {}
        self.store.settle(pages)
        for page in pages:
            self.ledger.add_page(page, owner=owner or PageOwner(tenant="acme", key=b"%d" % body_id))
        return pages

    def another_mover(self) -> Mover:
        """A mover that knows nothing of the first, as another process would have one."""
        return Mover(
            self.store,
            self.ledger,
            buffers=self.buffers,
            tier_order=TIERS,
            now_us=lambda: 5,
            on_suspect=self.suspects.append,
        )

    def order(
        self,
        page: StoredPage,
        action: Action = Action.DEMOTE,
        *,
        tier: str | None = None,
        leave: VolumeId | None = None,
    ) -> MoveOrder:
        """An order for a page."""
        up = {Action.PROMOTE, Action.DROP_SHADOW, Action.HEAL}
        return MoveOrder(
            page_id=page.page_id,
            target_tier=tier or ("ssd" if action in up else "hdd"),
            entry=MoveEntry(action=action, rule="r1", reason="because"),
            leave_volume=leave,
        )

    async def move(
        self, pages: Sequence[StoredPage], action: Action = Action.DEMOTE
    ) -> BatchReport:
        """Order the same for pages, in one batch."""
        return await self.mover.run_batch([self.order(page, action) for page in pages])

    async def places(self, page: StoredPage) -> tuple[Extent, Extent | None]:
        """First and second place of a page now."""
        found = await self.ledger.find_pages([page.page_id], with_quarantined=True)
        return found[page.page_id].page.extent, found[page.page_id].shadow

    async def check(self) -> None:
        """Every place that the ledger names for a living page holds what was written there."""
        await check_places(self.store, self.ledger, self.written)
        assert self.buffers.statistics().outstanding_count == 0

    async def check_reads(self) -> None:
        """Every living page that is not in quarantine reads as it was written."""
        ids = [PageId(body_id + index) for body_id, index in self.written]
        for movable in (await self.ledger.find_pages(ids)).values():
            page = movable.page
            payload = await self.store.read_page(page, aligned(bytes(page.extent.length_bytes)))
            assert payload == self.written[page.body_id, page.page_index].payload

    async def check_nothing_leaks(self) -> None:
        """Every block of the volumes belongs to a place that the ledger names."""
        named = set(self.ledger.list_extents())
        for volume in self.store.volumes:
            for facts in volume.list_segments():
                held = sorted(
                    (extent.offset, extent.offset + extent.length_bytes)
                    for extent in named
                    if extent.volume_id == volume.volume_id
                    and extent.segment_id == facts.segment_id
                )
                blocks = (await volume.map_segment(facts.segment_id)).ranges
                end = facts.written_bytes or facts.size_bytes
                for first, last in blocks:
                    for offset in range(max(first, 4096), min(last, end), 4096):
                        assert any(a <= offset < b for a, b in held), (facts, offset)


async def check_places(
    store: PageStore,
    ledger: MoveLedger,
    written: dict[tuple[BodyId, int], Written],
    *,
    sound: bool = True,
) -> int:
    """See `MoverBench.check`; how many pages were looked at."""
    ids = [PageId(body_id + index) for body_id, index in written]
    found = await ledger.find_pages(ids, with_quarantined=True)
    for movable in found.values():
        page = movable.page
        expected = written[page.body_id, page.page_index]
        for place in (page.extent, movable.shadow):
            if place is None:
                continue
            at = type(page)(
                body_id=page.body_id,
                page_index=page.page_index,
                payload_bytes=page.payload_bytes,
                blake3=page.blake3,
                extent=place,
                generation=page.generation,
            )
            target = aligned(bytes(place.length_bytes))
            verdict = await check_record(store.volume(place.volume_id), at, target)
            if sound:
                assert verdict.condition is Condition.SOUND, (at, verdict)
            header = decode_header(target)
            payload = target[HEADER_BYTES : HEADER_BYTES + page.payload_bytes]
            assert payload == expected.payload
            assert annex_of(target, header) == expected.annex
            assert (header.tenant_id, header.written_us) == (7, 1234)
            assert header.is_last == bool(expected.annex)
    return len(found)


async def open_bench(
    devices: Sequence[Device],
    *,
    epoch: int = 1,
    ledger: MemoryMoveLedger | None = None,
    formats: bool = True,
    transfers_max: int = 4,
    throttle: Throttle | None = None,
) -> MoverBench:
    """A bench over devices: the first of tier `ssd`, the others of tier `hdd`."""
    volumes = [
        await open_volume(
            device,
            volume_id=number,
            tier="ssd" if number == 1 else "hdd",
            epoch=epoch,
            formats=formats,
        )
        for number, device in enumerate(devices, start=1)
    ]
    store = PageStore(volumes, tier_order=TIERS)
    await store.measure_rooms()
    suspects: list[StoredPage] = []
    buffers = BufferPool(POOL_BYTES)
    ledger = ledger or MemoryMoveLedger()
    clock = itertools.count(1000)
    mover = Mover(
        store,
        ledger,
        buffers=buffers,
        tier_order=TIERS,
        now_us=lambda: next(clock),
        transfers_max=transfers_max,
        throttle=throttle,
        on_suspect=suspects.append,
    )
    return MoverBench(store=store, ledger=ledger, mover=mover, buffers=buffers, suspects=suspects)
