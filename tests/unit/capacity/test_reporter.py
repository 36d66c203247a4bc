"""Reports of a small real store, with moves, shadows and what nobody names: to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.capacity.reporter import CapacityReporter
from appliance.storage import TIER_ORDER
from hal.errors import DeviceError
from tests.unit.fsck.stores import OpenStore, Store, make_store
from tiers.report_facts import Cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.admin.report_documents import CapacityReport
    from tiers.records import StoredPage

pytestmark = pytest.mark.direct_io

BY_ALL = frozenset({"tenant", "bucket", "prefix", "tier"})


@pytest.fixture
async def store(tmp_path: Path) -> Store:
    return await make_store(tmp_path)


async def report(store: Store, opened: OpenStore, cut: Cut | None = None) -> CapacityReport:
    reporter = CapacityReporter(
        opened.catalog,
        opened.pages,
        tier_order=TIER_ORDER,
        clock=store.clock,
        computing=trio.CapacityLimiter(1),
    )
    return await reporter.report_capacity(cut or Cut(by=BY_ALL), names={})


def check(store: Store, found: CapacityReport) -> None:
    """Rows, volumes and file systems say the same."""
    for volume in found.volumes:
        files = [path.stat() for path in Path(volume.path).glob("*.segment")]
        assert volume.taken_bytes == sum(file.st_blocks * 512 for file in files)
        assert volume.size_bytes == sum(file.st_size for file in files)
        assert volume.difference_bytes == volume.fault_bytes == 0
        assert not volume.failure
    assert found.unmatched_live_bytes == found.unmatched_shadow_bytes == 0
    assert found.total.physical_bytes == sum(one.live_bytes for one in found.volumes)
    assert found.total.shadow_bytes == sum(one.shadow_bytes for one in found.volumes)
    assert found.total.dead_bytes == sum(one.dead_bytes for one in found.volumes)


async def test_moves_shadows_and_orphans_are_in_their_classes(store: Store) -> None:
    async with store.open() as opened:
        stay = await opened.put(b"a/stay", b"s" * 9000)
        down = await opened.put(b"a/down", b"d" * 20_000)
        both = await opened.put(
            b"b/both",
            b"b" * 30_000,
        )
        await opened.put(b"b/gone", b"g" * 7000)
        for page in down:
            await opened.move(page)
        for page in both:
            await opened.move(page, keeps_shadow=True)
        orphan = await opened.write(b"never", b"n" * 5000)
        await opened.delete(b"b/gone")
        before = await report(store, opened)
        check(store, before)
        await opened.reclaim()
        after = await report(store, opened)
        check(store, after)

    def size(pages: Sequence[StoredPage]) -> int:
        return sum(page.extent.length_bytes for page in pages)

    rows = {(row.prefix, row.tier): row for row in before.rows}
    assert rows["a/", "ssd"].physical_bytes == size(stay)
    assert rows["a/", "hdd"].physical_bytes == size(down)
    assert before.total.shadow_bytes == size(both)
    # What was deleted is its tenant's; the place that was left is nobody's.
    assert {(row.tenant, row.bucket) for row in before.rows if row.dead_bytes} == {
        ("acme", None),
        (None, None),
    }
    assert before.total.dead_bytes == size(down) + 8192
    assert sum(volume.unnamed_bytes for volume in before.volumes) == size(orphan)
    assert after.total.dead_bytes == 0
    assert after.total.physical_bytes == before.total.physical_bytes
    assert sum(volume.returned_bytes for volume in after.volumes) == before.total.dead_bytes


async def test_a_report_of_a_part_says_nothing_of_volumes(store: Store) -> None:
    async with store.open() as opened:
        await opened.put(b"a/x", b"x" * 100)
        await opened.put(b"b/x", b"x" * 100)
        bucket_id = store.bucket.bucket_id
        cut = Cut(by=BY_ALL, tenant_id=1, bucket_id=bucket_id, prefix=b"b/")
        found = await report(store, opened, cut)

    assert found.volumes == ()
    assert found.unmatched_live_bytes is None
    assert [(row.prefix, row.logical_bytes) for row in found.rows] == [("b/", 100)]


async def test_a_disk_that_is_gone_costs_its_own_balance_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with store.open() as opened:
        await opened.put(b"a", b"x" * 100)
        hdd = next(volume for volume in opened.pages.volumes if volume.tier == "hdd")

        async def fail() -> None:
            await trio.lowlevel.checkpoint()
            raise DeviceError("hdd", "unplugged")

        monkeypatch.setattr(hdd, "refresh", fail)
        found = await report(store, opened)

    sound, gone = found.volumes
    assert (sound.failure, gone.failure) == ("", "hdd: unplugged")
    assert sound.live_bytes == found.total.physical_bytes
    assert gone.taken_bytes == 0


async def test_an_empty_store_has_a_report(store: Store) -> None:
    async with store.open() as opened:
        found = await report(store, opened)

    assert found.rows == ()
    assert found.total.physical_bytes == 0
    assert [fill.outlook for fill in found.tiers] == ["too little history"] * 2
