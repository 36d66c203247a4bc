"""What a plan foretells is what a real mover makes of it, to the byte."""

from __future__ import annotations

from itertools import count
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.standing_tiers import StandingTiering
from tests.unit.tiers.candidates import DAY_S, NOW, policy_of
from tests.unit.tiers.movers import HDD, SSD, MoverBench, make_devices, open_bench
from tiers.decisions import Action
from tiers.move_records import MoveOrder, PageOwner
from tiers.plan_desk import PlanDesk, Policies
from tiers.plan_records import TierState
from tiers.scrub_records import FIRST_PLACE

if TYPE_CHECKING:
    from hal.records import VolumeId
    from tiers.plan_records import Plan

TOTAL = {"ssd": 4 << 20, "hdd": 16 << 20}
RULES = (
    '[[rule]]\nid = "pin"\nfilter = { prefix = "hot/" }\npin = "ssd"\npin_limit = "512KiB"\n'
    '[[rule]]\nid = "old"\nfilter = { prefix = "old/" }\nfrom_pool = "ssd"\nto_pool = "hdd"\n'
    "transition_days = 5\n"
    '[[rule]]\nid = "down"\nfrom_pool = "ssd"\nto_pool = "hdd"\nmin_age = "1h"\n'
    "threshold = { high = 0.3, low = 0.2, premigrate = 0.1 }\n"
)
ALL = 10_000


async def measure(bench: MoverBench) -> dict[str, tuple[int, int]]:
    """Bytes on each tier, and of first places without a shadow."""
    found: dict[str, tuple[int, int]] = {}
    for tier, volume_id in (("ssd", SSD), ("hdd", HDD)):
        pages = await bench.ledger.list_pages(volume_id, place=FIRST_PLACE, limit=ALL)
        shadows = await bench.ledger.list_shadows(volume_id, place=FIRST_PLACE, limit=ALL)
        used = sum(item.page.extent.length_bytes for item in pages)
        used += sum(item.shadow.length_bytes for item in shadows if item.shadow)
        dirty = sum(item.page.extent.length_bytes for item in pages if item.shadow is None)
        found[tier] = (used, dirty)
    return found


async def situate(bench: MoverBench, control: StandingTiering) -> None:
    """Let the tiers be as full as the ledger says."""
    control.tiers = tuple(
        TierState(name=tier, used_bytes=used, total_bytes=TOTAL[tier], dirty_bytes=dirty)
        for tier, (used, dirty) in (await measure(bench)).items()
    )


async def fill(bench: MoverBench, control: StandingTiering, random: Random) -> None:
    """Pages of all kinds: pinned, old, young, with and without a shadow, on both tiers."""
    for number in range(60):
        owner = PageOwner(
            tenant="acme",
            bucket="b",
            key=(random.choice(["hot/", "old/", "x/"]) + f"{number:03}").encode(),
            written_us=round((NOW - random.choice([60.0, 2 * DAY_S, 9 * DAY_S])) * 1e6),
        )
        size = random.randint(1, 100_000)
        volume_id: VolumeId = random.choice([SSD, SSD, HDD])
        [page] = await bench.put(size, volume_id=volume_id, owner=owner)
        control.priorities[page.page_id] = random.uniform(-5, 5)
        if volume_id == SSD and random.random() < 0.3:
            await bench.move([page], Action.PREMIGRATE)


async def make_plan(bench: MoverBench, control: StandingTiering) -> Plan:
    ids = count(1)
    desk = PlanDesk(
        bench.ledger,
        control,
        volumes_of=lambda: {"ssd": [SSD], "hdd": [HDD]},
        mint_id=lambda: f"p{next(ids)}",
        now_s=lambda: NOW,
    )
    policies = Policies(policy=policy_of(RULES), overlays={}, digest=b"", is_active=True)
    return await desk.make(policies)


@pytest.mark.parametrize("seed", range(6))
async def test_bytes_and_fills_are_those_that_were_foretold(seed: int) -> None:
    bench = await open_bench(make_devices(count=2))
    control = StandingTiering(lambda: NOW)
    await fill(bench, control, Random(seed))
    await situate(bench, control)

    plan = await make_plan(bench, control)
    copied = 0
    orders: list[MoveOrder] = []
    for run in plan.runs:
        report = await bench.mover.run_batch(run.orders)
        assert [outcome.obstacle for outcome in report.outcomes] == [None] * len(run.orders)
        assert sum(outcome.copied_bytes for outcome in report.outcomes) == run.copied_bytes
        copied += run.copied_bytes
        orders += run.orders

    assert {order.entry.action for order in orders} >= {Action.DEMOTE, Action.RELEASE}
    assert copied == sum(hop.copied_bytes for hop in plan.hops)
    after = await measure(bench)
    for forecast in plan.tiers:
        assert after[forecast.name][0] == forecast.used_after_bytes, forecast
    await bench.check()


async def test_a_plan_that_was_carried_out_leaves_nothing_to_plan() -> None:
    bench = await open_bench(make_devices(count=2))
    control = StandingTiering(lambda: NOW)
    await fill(bench, control, Random(7))
    await situate(bench, control)
    for run in (await make_plan(bench, control)).runs:
        await bench.mover.run_batch(run.orders)
    await situate(bench, control)

    again = await make_plan(bench, control)

    assert again.chosen_pages == 0, again.rules
