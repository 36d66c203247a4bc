"""Plans of all pages: made in pieces, kept for a while, carried out as they were shown."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest
import trio

from hal.records import BodyId, Extent, SegmentId, VolumeId
from tests.standing_tiers import StandingTiering
from tests.unit.tiers.candidates import DAY_S, NOW, PAGE, policy_of
from tiers.errors import PlanBusy, PlanMissing, PlanStale
from tiers.memory_move_ledger import MemoryMoveLedger
from tiers.move_records import MovablePage, PageOwner
from tiers.plan_desk import PLAN_KEPT_S, PLANS_KEPT_MAX, WALK_PAGES, PlanDesk, Policies
from tiers.plan_records import Plan, TierState
from tiers.records import StoredPage

if TYPE_CHECKING:
    from tiers.scrub_records import ScrubPlace

SSD, HDD = VolumeId(1), VolumeId(2)
DRAIN = (
    '[[rule]]\nid = "down"\nfrom_pool = "ssd"\nto_pool = "hdd"\n'
    "threshold = { high = 0.8, low = 0.5, premigrate = 0.5 }\n"
)
PIN = '[[rule]]\nid = "pin"\nfilter = { prefix = "0" }\npin = "ssd"\npin_limit = "40MiB"\n'


class Bench:
    """A desk over 90 pages on a fast tier of 100, in a memory ledger."""

    def __init__(self, *, rules: str = DRAIN, pages: int = 90) -> None:
        self.now = NOW
        self.ledger = MemoryMoveLedger()
        self.control = StandingTiering(
            lambda: self.now,
            tiers=(
                TierState(name="ssd", used_bytes=pages * PAGE, total_bytes=pages * PAGE * 10 // 9),
                TierState(name="hdd", used_bytes=0, total_bytes=pages * PAGE * 10),
            ),
        )
        ids = count(1)
        self.desk = PlanDesk(
            self.ledger,
            self.control,
            volumes_of=lambda: {"ssd": [SSD], "hdd": [HDD]},
            mint_id=lambda: f"p{next(ids)}",
            now_s=lambda: self.now,
        )
        policy = policy_of(rules)
        self.policies = Policies(policy=policy, overlays={}, digest=b"1", is_active=True)
        self.pages = [self._add(number) for number in range(pages)]
        for number, page in enumerate(self.pages):
            self.control.priorities[page.page_id] = float(number)

    async def make(self) -> Plan:
        return await self.desk.make(self.policies)

    def _add(self, number: int) -> StoredPage:
        page = StoredPage(
            body_id=BodyId(1 << 32 | number * 2),
            page_index=0,
            payload_bytes=PAGE - 4096,
            blake3=bytes(32),
            extent=Extent(SSD, SegmentId(1 << 24), 4096 + number * PAGE, PAGE),
        )
        written_us = round((NOW - DAY_S) * 1e6)
        owner = PageOwner(tenant="acme", bucket="b", key=b"%05d" % number, written_us=written_us)
        self.ledger.add_page(page, owner=owner)
        return page


async def test_every_page_is_looked_at_in_bounded_pieces() -> None:
    bench = Bench(pages=2 * WALK_PAGES + 7)

    plan = await bench.make()

    assert plan.looked_at.pages == 2 * WALK_PAGES + 7
    assert {order.page_id for order in plan.iter_orders()} == {
        page.page_id for page in bench.pages[: plan.chosen_pages]
    }


async def test_what_a_pin_holds_is_counted_before_anything_is_chosen() -> None:
    plan = await Bench(rules=PIN + DRAIN).make()

    [pin] = [account for account in plan.rules if account.rule == "pin"]
    assert pin.matched.size_bytes == 40 << 20
    assert plan.chosen_pages == 40


async def test_a_plan_is_carried_out_once_as_it_was_shown() -> None:
    bench = Bench()
    plan = await bench.make()

    progress = await bench.desk.apply(plan.plan_id, active_digest=b"1")

    assert bench.control.submitted == {plan.plan_id: plan.runs}
    assert (progress.plan_id, progress.total_pages) == (plan.plan_id, 40)
    with pytest.raises(PlanMissing):
        await bench.desk.apply(plan.plan_id, active_digest=b"1")


async def test_a_plan_lasts_a_day_and_few_are_kept() -> None:
    bench = Bench()
    plans = [await bench.make() for _ in range(PLANS_KEPT_MAX + 1)]

    with pytest.raises(PlanMissing, match="no plan p1 is kept"):
        bench.desk.find(plans[0].plan_id)
    bench.now += PLAN_KEPT_S
    assert bench.desk.find(plans[-1].plan_id).plan is plans[-1]
    bench.now += 1
    with pytest.raises(PlanMissing):
        bench.desk.find(plans[-1].plan_id)
    with pytest.raises(PlanMissing):
        bench.desk.find("another")


async def test_a_plan_of_another_policy_is_not_carried_out() -> None:
    bench = Bench()
    active = await bench.make()
    bench.policies = replace(bench.policies, is_active=False, digest=b"2")
    proposed = await bench.make()

    with pytest.raises(PlanStale, match="the policy or an overlay changed"):
        await bench.desk.apply(active.plan_id, active_digest=b"3")
    with pytest.raises(PlanStale, match="put that policy in force with `policy apply` first"):
        await bench.desk.apply(proposed.plan_id, active_digest=b"1")
    assert bench.control.submitted == {}
    await bench.desk.apply(proposed.plan_id, active_digest=b"2")
    assert list(bench.control.submitted) == [proposed.plan_id]


async def test_a_fill_that_moved_by_more_than_a_twentieth_makes_a_plan_stale() -> None:
    bench = Bench()
    plan = await bench.make()
    bench.control.fill("ssd", 96 * PAGE)

    with pytest.raises(PlanStale, match=r"90\.0% full when it was made, and is 96\.0% full"):
        await bench.desk.apply(plan.plan_id, active_digest=b"1")

    bench.control.fill("ssd", 94 * PAGE)
    assert bench.desk.statistics().kept_pages == 40
    await bench.desk.apply(plan.plan_id, active_digest=b"1")
    counts = bench.desk.statistics()
    assert (counts.plans_made, counts.plans_applied, counts.plans_stale) == (1, 1, 1)
    assert (counts.looked_at_pages, counts.plans_kept, counts.kept_pages) == (90, 0, 0)


async def test_chosen_pages_that_are_gone_make_a_plan_stale() -> None:
    bench = Bench()
    plan = await bench.make()
    for page in bench.pages[:2]:
        bench.ledger.add_death(page.body_id)

    assert bench.desk.find(plan.plan_id).plan is plan
    bench.ledger.add_death(bench.pages[2].body_id)
    with pytest.raises(PlanStale, match=r"7\.5% of what it chose was moved, deleted or"):
        await bench.desk.apply(plan.plan_id, active_digest=b"1")


async def test_a_few_pages_that_are_gone_do_not_matter() -> None:
    bench = Bench()
    plan = await bench.make()
    for page in bench.pages[:2]:
        bench.ledger.add_death(page.body_id)

    await bench.desk.apply(plan.plan_id, active_digest=b"1")

    assert bench.control.submitted[plan.plan_id] == plan.runs


async def test_one_plan_is_made_at_a_time() -> None:
    bench = Bench()
    ready, go_on = trio.Event(), trio.Event()
    list_pages = bench.ledger.list_pages

    async def wait(volume_id: VolumeId, *, place: ScrubPlace, limit: int) -> list[MovablePage]:
        ready.set()
        await go_on.wait()
        return list(await list_pages(volume_id, place=place, limit=limit))

    bench.ledger.list_pages = wait  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.make)
        await ready.wait()
        with pytest.raises(PlanBusy):
            await bench.make()
        go_on.set()

    assert (await bench.make()).chosen_pages == 40
