"""The migrator: what is read rises, what is cold sinks, and what the catalog says counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import pytest
import trio

from hal.records import VolumeId
from tests.unit.tiers.movers import HDD, SSD, MoverBench, make_devices, open_bench
from tiers.access_recorder import AccessRecorder
from tiers.decisions import Action
from tiers.errors import LedgerUnavailable
from tiers.fast_tier import FastTier
from tiers.heat_clock import HeatTime
from tiers.heat_table import HeatTable
from tiers.migrator import Migrator, MigratorParts
from tiers.move_records import PageOwner
from tiers.plan_desk import Policies
from tiers.policy import Demote, Policy, default_policy
from tiers.policy_file import parse_policy
from tiers.temperature import NEVER, HeatScale
from tiers.throttle import MoveThrottle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from trio.testing import MockClock

    from tiers.records import StoredPage

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MIB = 1 << 20
FULL = 4 * MIB
NOW = 1_795_000_000.0
RULES = """
[[rule]]
id = "rest"
managed = true
"""


def parse(text: str) -> Policy:
    return parse_policy(f"version = 1\n{text}{RULES}".encode(), file="policy.toml").policy


def marks(high: float, low: float, *, premigrate: float | None = None, more: str = "") -> Policy:
    """Marks as shares of 256 MiB, without waiting times."""
    return parse(
        f"""
        {more}
        [[rule]]
        id = "down"
        from_pool = "ssd"
        to_pool = "hdd"
        threshold = {{ high = {high}, low = {low}, premigrate = {premigrate or low} }}
        min_age = "0s"
        cooling = "0s"
        [[rule]]
        id = "up"
        from_pool = "hdd"
        to_pool = "ssd"
        stop_above = 0.97
        min_residency = "0s"
        """
    )


@dataclass
class Wall:
    """A wall clock that can be set."""

    skew_s: float = 0.0

    def now_s(self) -> float:
        return NOW + self.skew_s + trio.current_time()


@dataclass
class Server:
    """A migrator at work on simulated disks."""

    bench: MoverBench
    recorder: AccessRecorder
    policies: Policies
    wall: Wall
    clients: int = 0
    migrator: Migrator = field(init=False)

    def obey(self, policy: Policy, **overlays: Policy) -> None:
        self.policies = Policies(
            policy=policy, overlays=overlays, digest=repr(policy).encode(), is_active=True
        )

    async def put(self, *sizes: int, **options: object) -> list[StoredPage]:
        pages = await self.bench.put(*sizes, **options)  # type: ignore[arg-type]
        self.recorder.note_write(pages, trio.current_time())
        await self.bench.store.measure_rooms()
        return pages

    def read(self, pages: Sequence[StoredPage], *, times: int = 1) -> None:
        """Each time by another client, known from another read before, so that each counts."""
        for _ in range(times):
            self.clients += 1
            for page in pages:
                client = f"c{self.clients}-{page.page_id}"
                self.recorder.begin_read(client=client, name=b"z", offset=0, length=1, now=0.0)
                note = self.recorder.begin_read(
                    client=client,
                    name=b"acme/data/%d" % page.body_id,
                    offset=0,
                    length=page.payload_bytes,
                    now=trio.current_time(),
                )
                note.note(page, page.payload_bytes)

    async def tiers_of(self, pages: Sequence[StoredPage]) -> list[tuple[str, bool]]:
        """Where each page is, and whether it has a second place."""
        names = {SSD: "ssd", HDD: "hdd", VolumeId(3): "hdd"}
        places = [await self.bench.places(page) for page in pages]
        return [(names[first.volume_id], shadow is not None) for first, shadow in places]

    async def settle(self, seconds: float = 30.0) -> None:
        for _ in range(round(seconds / 5)):
            await trio.sleep(5.0)
            await self.bench.store.measure_rooms()
        await self.bench.check()


def make_server(bench: MoverBench, policy: Policy) -> Server:
    lots = Random(1)
    fast = FastTier(
        HeatTable(HeatScale(epoch=0.0, half_life=1e6), lots=lots),
        total_bytes=1,
        ghost_bytes=0,
        lots=lots,
    )
    recorder = AccessRecorder(policy.heat, fast_volumes={SSD}, room_bytes=1 << 30)
    wall = Wall()
    throttle = MoveThrottle(
        bench.store.volume,
        fast_tier="ssd",
        budget=policy.budget,
        windows=policy.windows,
        wall_s=wall.now_s,
    )
    parts = MigratorParts(
        store=bench.store,
        ledger=bench.ledger,
        mover=bench.mover,
        throttle=throttle,
        recorder=recorder,
        fast=fast,
        heat_time=HeatTime(fast, reads=0, seconds=NOW, monotonic=trio.current_time),
        lots=lots,
    )
    first = Policies(policy=policy, overlays={}, digest=b"", is_active=True)
    server = Server(bench, recorder, first, wall)
    ids = iter(range(10**6))
    server.migrator = Migrator(
        parts,
        policies=lambda: server.policies,
        tier_order=("ssd", "hdd"),
        now_s=wall.now_s,
        mint_id=lambda: f"plan-{next(ids)}",
    )
    return server


@pytest.fixture
async def bench() -> MoverBench:
    return await open_bench(make_devices(count=2))


Start = Callable[[Policy], Awaitable[Server]]


@pytest.fixture(autouse=True)
def in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads work in place: a clock that jumps would not wait for them."""

    async def run_sync(work: Callable[[*Ts], T], *arguments: *Ts, **_: object) -> T:
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)


@pytest.fixture
async def start(
    bench: MoverBench, autojump_clock: MockClock, nursery: trio.Nursery
) -> AsyncIterator[Start]:
    async def begin(policy: Policy) -> Server:
        server = make_server(bench, policy)
        await nursery.start(server.migrator.run)
        await trio.sleep(3.0)
        return server

    yield begin
    nursery.cancel_scope.cancel()


async def test_a_page_that_is_read_rises_and_keeps_its_copy_below(
    start: Start, autojump_clock: MockClock
) -> None:
    server = await start(default_policy())
    pages = await server.put(FULL, 70_000, volume_id=HDD)
    cold = await server.put(FULL, volume_id=HDD)

    server.read(pages)
    await server.settle()

    assert await server.tiers_of(pages) == [("ssd", True)] * 2
    assert await server.tiers_of(cold) == [("hdd", False)]
    [move] = await server.bench.ledger.list_moves(pages[0].body_id, 0, limit=5)
    assert (move.entry.action, move.entry.rule) == (Action.PROMOTE, "promote")


async def test_a_full_tier_is_drained_to_its_low_mark_coldest_first(
    start: Start, autojump_clock: MockClock
) -> None:
    server = await start(marks(0.5, 0.3, premigrate=0.3))
    old = [(await server.put(FULL))[0] for _ in range(36)]
    hot = old[::6]
    server.read(hot, times=3)
    await server.settle(120.0)

    places = await server.tiers_of(old)
    [ssd, hdd] = server.migrator.status().tiers
    assert 0.2 < ssd.state.share <= 0.5
    assert hdd.state.used_bytes > 0
    assert {places[old.index(page)][0] for page in hot} == {"ssd"}
    # To the low mark and no further, although what has left is not punched here.
    sunk = sum(tier == "hdd" for tier, _ in places)
    assert 16 <= sunk <= 19


async def test_what_would_leave_next_is_copied_in_advance(
    start: Start, autojump_clock: MockClock
) -> None:
    server = await start(marks(0.9, 0.8, premigrate=0.1))
    pages = [(await server.put(FULL))[0] for _ in range(20)]
    await server.settle(60.0)

    places = await server.tiers_of(pages)
    assert {tier for tier, _ in places} == {"ssd"}
    dirty = sum(not has_copy for _, has_copy in places)
    # As many as may lack a copy, and no fewer: what is under way is not ordered twice.
    assert 0.06 * 256 * MIB <= dirty * 4 * MIB <= 0.10 * 256 * MIB


async def test_what_a_rule_keeps_stays_and_does_not_block_the_rest(
    start: Start, autojump_clock: MockClock
) -> None:
    kept = '[[rule]]\nid = "keep"\nfilter = { tenant = "acme", bucket = "db" }\nexclude = true\n'
    server = await start(marks(0.3, 0.1, more=kept))
    db = PageOwner(tenant="acme", bucket="db", key=b"a")
    held = [(await server.put(FULL, owner=db))[0] for _ in range(10)]
    free = [(await server.put(FULL))[0] for _ in range(20)]
    await server.settle(60.0)

    assert await server.tiers_of(held) == [("ssd", False)] * 10
    assert [tier for tier, _ in await server.tiers_of(free)].count("hdd") >= 10


async def test_a_pinned_page_is_brought_up_unread(start: Start, autojump_clock: MockClock) -> None:
    server = await start(default_policy())
    wal = PageOwner(tenant="acme", bucket="db", key=b"wal/1")
    pages = await server.put(FULL, 4096, volume_id=HDD, owner=wal)
    await server.settle()
    assert await server.tiers_of(pages) == [("hdd", False)] * 2

    pin = (
        '[[rule]]\nid = "wal"\npin = "ssd"\npin_limit = "50MiB"\n'
        'filter = { tenant = "acme", bucket = "db", prefix = "wal/" }\n'
    )
    server.obey(marks(0.9, 0.8, more=pin))
    await server.settle()

    assert await server.tiers_of(pages) == [("ssd", True)] * 2
    [move] = await server.bench.ledger.list_moves(pages[0].body_id, 0, limit=5)
    assert (move.entry.rule, move.entry.plan) == ("wal", None)


async def test_nothing_moves_while_paused_over_a_restart_as_well(
    start: Start, autojump_clock: MockClock
) -> None:
    server = await start(default_policy())
    await server.migrator.pause()
    pages = await server.put(FULL, volume_id=HDD)
    server.read(pages)
    await server.settle()
    assert await server.tiers_of(pages) == [("hdd", False)]
    assert server.migrator.status().is_paused

    again = await start(default_policy())
    again.read(pages)
    await again.settle()
    assert await again.tiers_of(pages) == [("hdd", False)]
    await again.migrator.resume()
    again.read(pages)
    await again.settle()
    assert await again.tiers_of(pages) == [("ssd", True)]


async def test_pages_of_earlier_starts_are_known(start: Start, autojump_clock: MockClock) -> None:
    server = await start(default_policy())
    pages = [(await server.put(FULL))[0] for _ in range(8)]
    await server.settle()

    again = await start(marks(0.05, 0.04))
    await again.settle(60.0)

    assert [tier for tier, _ in await again.tiers_of(pages)].count("hdd") >= 5


async def test_a_catalog_that_cannot_be_asked_is_told_and_waited_for(
    start: Start, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start(default_policy())
    pages = await server.put(FULL, volume_id=HDD)
    find_pages = server.bench.ledger.find_pages

    async def refuse(*_arguments: object, **_options: object) -> None:
        await trio.lowlevel.checkpoint()
        raise LedgerUnavailable("no database")

    monkeypatch.setattr(server.bench.ledger, "find_pages", refuse)
    server.read(pages)
    await trio.sleep(10.0)
    assert server.migrator.status().failure == "no database"

    monkeypatch.setattr(server.bench.ledger, "find_pages", find_pages)
    server.read(pages)
    await server.settle()
    assert server.migrator.status().failure == ""
    assert await server.tiers_of(pages) == [("ssd", True)]


async def test_nothing_rises_where_no_room_can_be_made(
    start: Start, autojump_clock: MockClock
) -> None:
    server = await start(
        parse(
            """
        [[rule]]
        id = "down"
        from_pool = "ssd"
        to_pool = "hdd"
        threshold = { high = 0.2, low = 0.1, premigrate = 0.1 }
        min_age = "1h"
        [[rule]]
        id = "up"
        from_pool = "hdd"
        to_pool = "ssd"
        stop_above = 0.97
        """
        )
    )
    just_now = PageOwner(tenant="acme", key=b"k", written_us=round(NOW * 1e6))
    young = [(await server.put(FULL, owner=just_now))[0] for _ in range(20)]
    pages = await server.put(FULL, volume_id=HDD)
    await server.settle()

    server.read(pages)
    await server.settle()

    assert await server.tiers_of(pages) == [("hdd", False)]
    assert {tier for tier, _ in await server.tiers_of(young)} == {"ssd"}
    assert server.migrator.statistics().obstacles == 0, "it was not even tried"


async def test_a_page_that_somebody_else_moved_is_known_where_it_is(
    start: Start, autojump_clock: MockClock
) -> None:
    """Another process has moved it: nobody here is told."""
    server = await start(default_policy())
    pages = [(await server.put(FULL))[0] for _ in range(3)]
    await server.settle()
    await server.bench.move(pages)

    server.obey(marks(0.02, 0.01))
    await server.settle()

    assert server.migrator.status().tiers[0].state.used_bytes == 0


async def test_a_page_that_the_scrub_heals_is_looked_up_at_once(
    start: Start, autojump_clock: MockClock
) -> None:
    server = await start(default_policy())
    pages = [(await server.put(FULL))[0] for _ in range(3)]
    await server.settle()
    await server.bench.move(pages[:2])

    server.migrator.note_healed(pages[0])
    await trio.sleep(3.0)

    fast = server.migrator._fast
    assert [page.page_id in fast for page in pages] == [False, True, True]


async def test_accesses_that_pile_up_are_taken_before_the_next_tick_and_in_slices(
    start: Start, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start(default_policy())
    hot = [(await server.put(FULL))[0] for _ in range(4)]
    cold = [(await server.put(FULL, volume_id=HDD))[0] for _ in range(4)]
    await server.settle()
    for name in ("SLICE_READS", "SLICE_PAGES"):
        monkeypatch.setattr(f"tiers.migrator.{name}", 3)
    monkeypatch.setattr("tiers.access_recorder.DUE_COUNT", 20)
    monkeypatch.setattr("tiers.migrator.TICK_S", 1000.0)
    await trio.sleep(5.0)

    server.read([*hot, *cold], times=5)
    await trio.sleep(1.0)

    assert server.recorder.statistics().pending == 0
    fast = server.migrator._fast
    assert all(fast.heat.level(page.page_id) != NEVER for page in (*hot, *cold))


async def test_orders_of_a_policy_that_is_no_more_are_taken_back(
    start: Start, autojump_clock: MockClock
) -> None:
    server = await start(default_policy())
    [page] = await server.put(FULL)
    await server.settle()
    work = server.migrator.work
    work.pause()
    assert work.offer(server.bench.order(page), page.extent.length_bytes, source_tier="ssd")
    assert work.leaving["ssd"] == work.arriving["hdd"] == page.extent.length_bytes

    server.obey(marks(0.9, 0.8))
    await server.migrator.tick()

    assert not work.queue
    assert (work.leaving["ssd"], work.arriving["hdd"], work.cleaning_bytes) == (0, 0, 0)
    work.resume()
    await server.settle()
    assert await server.tiers_of([page]) == [("ssd", False)]


async def test_deleted_pages_are_forgotten(start: Start, autojump_clock: MockClock) -> None:
    server = await start(default_policy())
    pages = await server.put(FULL, 4096)
    await server.settle()
    [ssd, _] = server.migrator.status().tiers
    assert ssd.state.used_bytes == sum(page.extent.length_bytes for page in pages)

    server.bench.ledger.add_death(pages[0].body_id)
    server.bench.ledger.remove_body(pages[0].body_id)
    server.bench.written.clear()
    server.migrator.note_freed(pages)

    assert server.migrator.status().tiers[0].state.used_bytes == 0


async def test_a_volume_is_emptied_of_pages_and_shadows(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bench = await open_bench(make_devices(count=3))
    server = make_server(bench, default_policy())
    await nursery.start(server.migrator.run)
    low = await server.put(FULL, 9000, volume_id=HDD)
    shadowed = await server.put(FULL, volume_id=HDD)
    await server.bench.move(shadowed, Action.PROMOTE)
    server.bench.store.bar([HDD])

    server.migrator.obey_drains([HDD])
    await server.settle(60.0)

    [drain] = server.migrator.status().drains
    assert (drain.left_pages, drain.failure) == (0, "")
    assert drain.moved_bytes > 8 * MIB
    for page in (*low, *shadowed):
        first, shadow = await bench.places(page)
        assert HDD not in {first.volume_id, shadow.volume_id if shadow else None}
    nursery.cancel_scope.cancel()


async def test_a_wall_clock_that_jumps_moves_nothing_by_itself(
    start: Start, autojump_clock: MockClock
) -> None:
    server = await start(default_policy())
    pages = [(await server.put(FULL))[0] for _ in range(4)]
    await server.settle()
    for skew in (5 * 365 * 86_400.0, -10 * 365 * 86_400.0):
        server.wall.skew_s = skew
        await server.settle()
        assert await server.tiers_of(pages) == [("ssd", False)] * 4


async def test_pages_that_fit_no_line_are_looked_for_again(
    start: Start, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorder was full: what it dropped is found by a walk over the rows."""
    server = await start(default_policy())
    monkeypatch.setattr("tiers.access_recorder.PENDING_MAX", 2)
    pages = [(await server.bench.put(FULL))[0] for _ in range(5)]
    server.recorder.note_write(pages, trio.current_time())
    await server.settle()

    [ssd, _] = server.migrator.status().tiers
    assert ssd.state.used_bytes == sum(page.extent.length_bytes for page in pages)


async def test_a_plan_of_an_operator_is_carried_out_to_its_end(
    start: Start, autojump_clock: MockClock
) -> None:
    server = await start(default_policy())
    pages = [(await server.put(FULL))[0] for _ in range(8)]
    await server.settle()
    tight = Policies(policy=marks(0.05, 0.02), overlays={}, digest=b"x", is_active=True)
    plan = await server.migrator._surveyor._desk.make(tight)
    assert plan.chosen_pages >= 5

    await server.migrator.submit(plan.runs, plan.plan_id)
    await server.settle(60.0)

    progress = server.migrator.find_progress(plan.plan_id)
    assert progress is not None
    assert progress.is_done
    assert progress.done_pages == plan.chosen_pages
    assert progress.done_bytes == plan.chosen_bytes
    assert [tier for tier, _ in await server.tiers_of(pages)].count("hdd") == plan.chosen_pages


async def test_a_plan_stops_where_its_target_was_filled_meanwhile(
    start: Start, autojump_clock: MockClock
) -> None:
    def limited(policy: Policy) -> Policy:
        rules = [
            replace(rule, action=replace(rule.action, limit=0.2))
            if isinstance(rule.action, Demote)
            else rule
            for rule in policy.rules
        ]
        return replace(policy, rules=tuple(rules))

    server = await start(limited(marks(0.9, 0.8)))
    pages = [(await server.put(FULL))[0] for _ in range(8)]
    await server.settle()
    tight = Policies(policy=limited(marks(0.05, 0.02)), overlays={}, digest=b"x", is_active=True)
    plan = await server.migrator._surveyor._desk.make(tight)
    assert plan.chosen_pages >= 5

    server.migrator.work.pause()
    await server.migrator.submit(plan.runs, plan.plan_id)
    for _ in range(10):
        await server.put(FULL, volume_id=HDD)
    server.migrator.work.resume()
    await server.settle(60.0)

    progress = server.migrator.find_progress(plan.plan_id)
    assert progress is not None
    assert progress.is_done
    assert progress.failed_pages == 0
    assert progress.done_pages + progress.dropped_pages == plan.chosen_pages
    assert 0 < progress.dropped_pages < plan.chosen_pages
    assert [tier for tier, _ in await server.tiers_of(pages)].count("hdd") == progress.done_pages
    [_, hdd] = server.migrator.status().tiers
    assert hdd.state.share <= 0.2
