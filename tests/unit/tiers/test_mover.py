"""The mover: what each action does to a page's places, in which order, and what it reports."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hal.records import WriteStream
from tests.unit.tiers.movers import HDD, HDD_TWO, SSD, MoverBench, make_devices, open_bench
from tiers.decisions import Action
from tiers.move_plan import Obstacle
from tiers.move_records import PageOwner

MIB = 1 << 20
FULL = 4 * MIB


@pytest.fixture
async def bench() -> MoverBench:
    return await open_bench(make_devices(count=2))


async def test_a_demoted_page_lies_below_with_all_that_its_record_said(bench: MoverBench) -> None:
    pages = await bench.put(FULL, 70_000)

    report = await bench.move(pages)

    assert [outcome.has_moved for outcome in report.outcomes] == [True, True]
    assert report.copied_bytes == report.moved_bytes == sum(p.extent.length_bytes for p in pages)
    for page in pages:
        first, shadow = await bench.places(page)
        assert (first.volume_id, shadow) == (HDD, None)
    assert list(bench.ledger.list_dead_extents()) == [page.extent for page in pages]
    await bench.check()
    await bench.check_nothing_leaks()
    [move] = await bench.ledger.list_moves(pages[0].body_id, 0, limit=9)
    assert (move.entry.action, move.from_volume, move.to_volume) == (Action.DEMOTE, SSD, HDD)


async def test_a_promoted_page_keeps_its_copy_below(bench: MoverBench) -> None:
    [page] = await bench.put(5000, volume_id=HDD)

    report = await bench.move([page], Action.PROMOTE)

    assert report.moved_pages == 1
    first, shadow = await bench.places(page)
    assert (first.volume_id, shadow) == (SSD, page.extent)
    assert not bench.ledger.list_dead_extents()
    await bench.check()


async def test_what_has_a_copy_below_sinks_without_being_copied(bench: MoverBench) -> None:
    [page] = await bench.put(5000)
    await bench.move([page], Action.PREMIGRATE)
    first, shadow = await bench.places(page)
    assert (first, shadow is not None) == (page.extent, True)

    report = await bench.move([page], Action.DEMOTE)

    assert (report.moved_pages, report.copied_bytes) == (1, 0)
    assert await bench.places(page) == (shadow, None)
    assert list(bench.ledger.list_dead_extents()) == [page.extent]
    moves = await bench.ledger.list_moves(page.body_id, 0, limit=9)
    assert [move.entry.action for move in moves] == [Action.RELEASE, Action.PREMIGRATE]
    await bench.check()


async def test_a_shadow_that_is_given_up_is_dead(bench: MoverBench) -> None:
    [page] = await bench.put(5000)
    await bench.move([page], Action.PREMIGRATE)
    _, shadow = await bench.places(page)

    report = await bench.move([page], Action.DROP_SHADOW)

    assert (report.moved_pages, report.copied_bytes) == (1, 0)
    assert await bench.places(page) == (page.extent, None)
    assert list(bench.ledger.list_dead_extents()) == [shadow]


async def test_a_run_lies_in_the_order_of_names_and_in_one_piece(bench: MoverBench) -> None:
    owners = [PageOwner(tenant="acme", bucket="b", key=key) for key in (b"c", b"a", b"b")]
    bodies = [await bench.put(9000, 9000, owner=owner) for owner in owners]
    pages = [page for body in bodies for page in body]
    await bench.put(9000, volume_id=HDD)  # a spilled PUT, in a segment of its own

    await bench.move(pages[::-1])

    extents = [(await bench.places(page))[0] for page in [*bodies[1], *bodies[2], *bodies[0]]]
    assert len({extent.segment for extent in extents}) == 1
    assert [extent.offset for extent in extents] == [4096 + n * 12288 for n in range(6)]
    await bench.check()


async def test_small_records_are_written_in_long_transfers(bench: MoverBench) -> None:
    pages = [page for _ in range(300) for page in await bench.put(3000)]
    device = bench.store.volume(HDD).device
    before = device.statistics()

    report = await bench.move(pages)

    after = device.statistics()
    assert report.moved_pages == 300
    assert after.writes - before.writes <= 3  # the segment's header, and one of 1.2 MiB
    assert after.reads - before.reads <= 3
    await bench.check()


async def test_promotions_are_read_in_the_order_of_the_disk(bench: MoverBench) -> None:
    pages = [page for _ in range(20) for page in await bench.put(60_000, volume_id=HDD)]
    device = bench.store.volume(HDD).device
    before = device.statistics().reads

    await bench.move(pages[::-1], Action.PROMOTE)

    assert device.statistics().reads - before == 1
    await bench.check()


async def test_orders_that_are_not_true_any_more_are_left_alone(bench: MoverBench) -> None:
    [there] = await bench.put(5000, volume_id=HDD)
    [plain] = await bench.put(5000)
    [dead] = await bench.put(5000)
    [bad] = await bench.put(5000)
    [shadowed] = await bench.put(5000)
    bench.ledger.add_death(dead.body_id)
    bench.ledger.set_aside(bad)
    await bench.move([shadowed], Action.PREMIGRATE)

    report = await bench.mover.run_batch(
        [
            bench.order(there),
            bench.order(plain, Action.RELEASE),
            bench.order(plain, Action.DROP_SHADOW),
            bench.order(plain, Action.PROMOTE),
            bench.order(plain, Action.DRAIN, leave=HDD),
            bench.order(plain, Action.HEAL),
            bench.order(dead),
            bench.order(bad),
            bench.order(shadowed, Action.PREMIGRATE),
            bench.order(replace(plain, page_index=1)),
        ]
    )

    assert [outcome.obstacle for outcome in report.outcomes] == [
        Obstacle.THERE,
        Obstacle.NO_SHADOW,
        Obstacle.NO_SHADOW,
        Obstacle.THERE,
        Obstacle.ELSEWHERE,
        Obstacle.NO_SHADOW,
        Obstacle.GONE,
        Obstacle.GONE,
        Obstacle.HAS_SHADOW,
        Obstacle.GONE,
    ]
    assert report.moved_bytes == 0


async def test_a_page_is_moved_once_at_a_time(bench: MoverBench) -> None:
    [page] = await bench.put(5000)

    report = await bench.mover.run_batch([bench.order(page), bench.order(page)])

    assert [outcome.obstacle for outcome in report.outcomes] == [None, Obstacle.UNDER_WAY]
    assert (await bench.mover.run_batch([bench.order(page)])).outcomes[0].obstacle is Obstacle.THERE


async def test_a_drained_volume_hands_its_pages_to_its_own_tier() -> None:
    bench = await open_bench(make_devices(count=3))
    [page] = await bench.put(5000, volume_id=HDD)

    report = await bench.mover.run_batch([bench.order(page, Action.DRAIN, leave=HDD)])

    assert report.moved_pages == 1
    assert (await bench.places(page))[0].volume_id == HDD_TWO
    await bench.check()


async def test_nothing_is_moved_to_a_volume_that_is_emptied() -> None:
    bench = await open_bench(make_devices(count=3))
    [page] = await bench.put(5000)
    bench.store.bar([HDD, HDD_TWO])

    [refused] = (await bench.mover.run_batch([bench.order(page)])).outcomes
    assert refused.obstacle is Obstacle.TARGET
    assert refused.detail == "volume 2: it is emptied; volume 3: it is emptied"
    bench.store.bar([HDD])
    assert (await bench.mover.run_batch([bench.order(page)])).moved_pages == 1
    assert (await bench.places(page))[0].volume_id == HDD_TWO


async def test_a_drain_takes_the_next_tier_where_its_own_has_no_other_volume(
    bench: MoverBench,
) -> None:
    [low] = await bench.put(5000, volume_id=HDD)
    [high] = await bench.put(5000, volume_id=SSD)

    report = await bench.mover.run_batch(
        [
            bench.order(low, Action.DRAIN, leave=HDD, tier="hdd"),
            bench.order(high, Action.DRAIN, leave=SSD, tier="ssd"),
        ]
    )

    assert report.moved_pages == 2
    assert (await bench.places(low))[0].volume_id == SSD
    assert (await bench.places(high))[0].volume_id == HDD
    await bench.check()


async def test_a_drained_page_with_a_copy_elsewhere_is_not_copied_to_another_tier(
    bench: MoverBench,
) -> None:
    [page] = await bench.put(5000)
    await bench.move([page], Action.PREMIGRATE)
    _, shadow = await bench.places(page)

    report = await bench.mover.run_batch([bench.order(page, Action.DRAIN, leave=SSD, tier="ssd")])

    assert (report.moved_pages, report.copied_bytes) == (1, 0)
    assert await bench.places(page) == (shadow, None)


async def test_a_drained_shadow_goes_to_another_volume_or_is_given_up() -> None:
    for count, expected in ((3, HDD_TWO), (2, None)):
        bench = await open_bench(make_devices(count=count))
        [page] = await bench.put(5000)
        if count == 3:
            await bench.put(*([FULL] * 4), volume_id=HDD_TWO)  # so that the other is chosen first
        await bench.move([page], Action.PREMIGRATE)
        _, shadow = await bench.places(page)
        assert shadow is not None
        assert shadow.volume_id == HDD

        report = await bench.mover.run_batch([bench.order(page, Action.DRAIN, leave=HDD)])

        assert report.moved_pages == 1
        first, now = await bench.places(page)
        assert first == page.extent
        assert (None if now is None else now.volume_id) == expected
        await bench.check()


async def test_statistics_tell_what_was_done(bench: MoverBench) -> None:
    pages = await bench.put(5000, 5000)
    await bench.move(pages)
    await bench.move(pages)

    statistics = bench.mover.statistics()

    length = sum(page.extent.length_bytes for page in pages)
    assert statistics.moved_pages == {Action.DEMOTE: 2}
    assert statistics.moved_bytes == {Action.DEMOTE: length}
    assert statistics.copied_bytes == {Action.DEMOTE: length}
    assert statistics.obstacles == {Obstacle.THERE: 2}
    assert (statistics.batches, statistics.pages_under_way) == (2, 0)
    moves = bench.store.volume(HDD).statistics()
    assert (moves.moves_reserved, moves.moves_reserved_bytes) == (2, length)


async def test_new_bodies_and_moves_are_written_apart(bench: MoverBench) -> None:
    [page] = await bench.put(5000)
    await bench.move([page])
    own = await bench.store.volume(HDD).reserve(4096)

    moved = (await bench.places(page))[0]

    assert own.segment_id != moved.segment_id
    again = await bench.store.volume(HDD).reserve(4096, stream=WriteStream.MOVES)
    assert again.segment_id == moved.segment_id


async def test_a_segment_of_moves_may_go_once_nothing_in_it_waits(bench: MoverBench) -> None:
    [page] = await bench.put(5000)
    [lost] = await bench.put(5000)
    volume = bench.store.volume(HDD)
    orders = [bench.order(page), bench.order(lost)]
    moves = [
        (order, bench.ledger.look_up(each))
        for order, each in zip(orders, (page, lost), strict=True)
    ]
    bench.ledger.add_death(lost.body_id)

    report = await bench.mover.run_found(moves)
    await volume.seal_open_segments()

    assert [outcome.obstacle for outcome in report.outcomes] == [None, Obstacle.RACE]
    assert volume.is_sealed((await bench.places(page))[0].segment_id)
