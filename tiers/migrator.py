"""Decides, all the time, which pages move: the one task that does.

Each tick it takes what was read and written, lets it into heat and cut line, and decides: pages
that were read on the slow tier may rise, and what the fast tier's marks ask for must sink. Rules
that do not follow from reads (pins, transitions by age, shadows in the way) are looked at in a
survey of all pages, now and then and when the policy changes. Orders go to `tiers.move_work`; what
came of them comes back here.

It holds no page and no row: losing all that it knows costs speed, and a walk over the fast tier's
rows at the next start. What the catalog says of a page always counts more than what is known here.

Where only one tier has volumes it has nothing to decide, and only takes notes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from tiers.errors import LedgerUnavailable
from tiers.fill_lines import find_room
from tiers.migrator_status import count_actions, count_migrator, describe_status
from tiers.move_work import MoveWork
from tiers.page_gauges import PageGauges
from tiers.plan_desk import PlanDesk
from tiers.plan_records import Situation
from tiers.policy import Demote
from tiers.promotions import PromotionDesk, open_promotion
from tiers.records import PageId
from tiers.residency import Residency
from tiers.sinks import SinkDesk, find_wanted
from tiers.surveyor import Surveyor
from tiers.tier_gauges import TierGauges
from tiers.volume_emptier import VolumeEmptier
from tiers.weight_tuning import WeightTuning

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from hal.records import VolumeId
    from tiers.access_recorder import AccessRecorder, NotedReads, NotedWrites
    from tiers.decisions import Action
    from tiers.fast_tier import FastTier
    from tiers.heat_clock import HeatTime
    from tiers.migrator_status import ActionCounts, MigratorStatistics
    from tiers.move_records import MovablePage, MoveOrder
    from tiers.mover import Mover
    from tiers.page_store import PageStore
    from tiers.plan_desk import Policies
    from tiers.plan_records import Candidate, MoveRun
    from tiers.policy import Policy
    from tiers.ports import MoveLedger
    from tiers.records import StoredPage
    from tiers.temperature import Lots
    from tiers.throttle import MoveThrottle
    from tiers.tiering_views import PageHeat, PlanProgress, TieringStatus

__all__ = ["Migrator", "MigratorParts"]

TICK_S = 1.0
DAY_S = 86_400.0
PRUNE_S = 3600.0
SURVEY_MOVES_MAX = 65_536  # what is left comes with the next survey
VISITS_PER_READ = 3  # pages whose fading is noted, see `tiers.engine`
VISITS_PER_TICK_MAX = 16_384
SLICE_READS = 8192  # folded in one go, and pages visited: some ten milliseconds of the loop
SLICE_PAGES = 512  # looked at one by one: the same
JOURNAL_KEPT_S = 30 * DAY_S
JOURNAL_PRUNED = 10_000  # lines a commit


@dataclass(frozen=True, slots=True, kw_only=True)
class MigratorParts:
    """What a migrator works with.

    Attributes:
        store: The volumes.
        ledger: Which pages there are.
        mover: Carries orders out.
        throttle: What that may cost; follows the policy in force.
        recorder: What was read and written.
        fast: Pages of the fast tier, empty at first.
        heat_time: Heat's clock.
        lots: For the rounding of heat.
        is_busy: Whether requests come now, which the look over all pages makes way for.
    """

    store: PageStore
    ledger: MoveLedger
    mover: Mover
    throttle: MoveThrottle
    recorder: AccessRecorder
    fast: FastTier
    heat_time: HeatTime
    lots: Lots
    is_busy: Callable[[], bool] = lambda: False


class Migrator:
    """See the module, and `tiers.tiering_views.TieringControl`, which this is.

    Args:
        parts: What it works with.
        policies: What is in force now; another object once it is another.
        tier_order: Tier names, fastest first.
        now_s: Seconds since 1970.
        mint_id: Ids for surveys, unlike every other.
    """

    def __init__(
        self,
        parts: MigratorParts,
        *,
        policies: Callable[[], Policies],
        tier_order: Sequence[str],
        now_s: Callable[[], float],
        mint_id: Callable[[], str],
    ) -> None:
        store, ledger, mover, fast = parts.store, parts.ledger, parts.mover, parts.fast
        self._ledger = ledger
        self._mover = mover
        self._throttle = parts.throttle
        self._store = store
        self._recorder = parts.recorder
        self._fast = fast
        self._heat_time = parts.heat_time
        self._policies = policies
        self._obeyed: Policies | None = None
        self._now_s = now_s
        self._fast_name, *slower = tier_order
        self._slow_name = slower[0] if slower else self._fast_name
        self.gauges = TierGauges(store, fast, tier_order=tier_order)
        self.residency = Residency(
            fast,
            ledger,
            gauges=self.gauges,
            fast_tier=self._fast_name,
            now_s=now_s,
            is_busy=parts.is_busy,
        )
        self.work = MoveWork(
            mover,
            fast_tier=self._fast_name,
            run_bytes=_run_bytes(policies().policy, self._slow_name),
            on_done=self.residency.note_outcomes,
            on_unsure=self.residency.note_unsure,
            find_room=self._find_room,
        )
        self._pages = PageGauges(
            fast, self.gauges, fast_tier=self._fast_name, heat_time=parts.heat_time, now_s=now_s
        )
        self._tuning = WeightTuning(fast, lots=parts.lots)
        self._promotions = PromotionDesk(fast, source=self._slow_name, target=self._fast_name)
        self._sinks = SinkDesk(
            fast,
            ledger,
            tier=self._fast_name,
            describe=self._pages.describe,
            on_elsewhere=self.residency.adopt,
        )
        self._drains = VolumeEmptier(
            store, ledger, mover, may_move=self.work.wait, on_done=self.residency.note_outcomes
        )
        self._surveyor = Surveyor(
            PlanDesk(
                parts.ledger,
                self,
                volumes_of=self.gauges.volumes_of,
                mint_id=mint_id,
                now_s=now_s,
                moves_max=SURVEY_MOVES_MAX,
            ),
            self,
            work=self.work,
            fast_tier=self._fast_name,
        )
        self._failure = ""

    # --- tasks

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Decide and move until cancelled; started once it knows whether moves are paused."""
        if await self._ledger.load_paused():
            self.work.pause()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.residency.run)
            nursery.start_soon(self._tick_forever)
            nursery.start_soon(self.work.run)
            nursery.start_soon(self._drains.run)
            nursery.start_soon(self._throttle.run)
            nursery.start_soon(self._prune_forever)
            task_status.started()

    async def _tick_forever(self) -> None:
        while True:
            await self._wait_for_tick()
            try:
                await self.tick()
            except LedgerUnavailable as error:
                self._failure = str(error)
            else:
                self._failure = ""

    async def _wait_for_tick(self) -> None:
        """Until the next decisions; so many accesses that they might be lost are taken at once."""
        with trio.move_on_after(TICK_S):
            while True:
                await self._recorder.wait_due()
                await self._take_accesses(self._obey_policies())

    async def tick(self) -> None:
        """Decide once about everything that has happened since the last time.

        Raises:
            LedgerUnavailable: The catalog cannot be read now; nothing is lost but time.
        """
        policies = self._obey_policies()
        self.gauges.fit_fast_tier(policies.policy, now=trio.current_time())
        await self._take_accesses(policies)
        if not self.residency.is_loaded or not self._has_two_tiers():
            return
        self._follow_traffic(policies.policy)
        await self.gauges.measure_dead(self._ledger)
        await self.residency.ask_again()
        self._sinks.let_go(self._now_s())
        if self.work.is_paused:
            return
        await self._order_promotions(policies)
        await self._order_sinks(policies)
        await self._surveyor.survey(policies)

    async def _prune_forever(self) -> None:
        while True:
            before_us = round((self._now_s() - JOURNAL_KEPT_S) * 1e6)
            try:
                while await self._ledger.prune_moves(before_us=before_us, limit=JOURNAL_PRUNED):
                    continue
            except LedgerUnavailable as error:
                self._failure = str(error)
            await trio.sleep(PRUNE_S)

    # --- what happened outside

    def note_healed(self, page: StoredPage) -> None:
        """The scrub has given up a place of a page: what it is now, the catalog says."""
        self.residency.note_changed(page)

    def note_freed(self, pages: Iterable[StoredPage]) -> None:
        """Pages are gone: their rows are removed."""
        self.residency.note_freed(pages)

    async def _take_accesses(self, policies: Policies) -> None:
        """Let what was noted into heat and cut line, a slice at a time: others want the loop too.

        Cancellation: what was taken and not let in is lost, which costs heat.
        """
        taken = self._recorder.take()
        if taken.lost_writes:
            self.residency.look_again()
        reads = len(taken.hits) + len(taken.misses)
        self._heat_time.advance(reads)
        for writes in taken.writes.iter_slices(SLICE_PAGES):
            self._note_writes(writes, weight=policies.policy.heat.write_heat)
            await trio.lowlevel.checkpoint()
        for hits in taken.hits.iter_slices(SLICE_READS):
            self._fast.fold_reads(self._heat_time.translate(hits.accesses))
            self._tuning.note(hits, now=self._now_s())
            await trio.lowlevel.checkpoint()
        for misses in taken.misses.iter_slices(SLICE_PAGES):
            self._note_misses(misses, policies)
            self._tuning.note(misses, now=self._now_s())
            await trio.lowlevel.checkpoint()
        left = min(VISITS_PER_READ * reads, VISITS_PER_TICK_MAX)
        while left > 0:
            self._fast.visit(min(left, SLICE_READS))
            left -= SLICE_READS
            await trio.lowlevel.checkpoint()

    def _note_misses(self, misses: NotedReads, policies: Policies) -> None:
        now = self._now_s()
        factor = self.residency.breaker.factor(now)
        arriving = self.work.arriving.get(self._fast_name, 0)
        accesses = misses.accesses
        for slot, weight, size_bytes, stranger in zip(
            accesses.slots, accesses.weights, misses.sizes, misses.strangers, strict=True
        ):
            page_id = PageId(slot)
            if page_id in self._fast:  # it has risen since
                self._fast.note_read(page_id, weight)
                continue
            facts = self._fast.note_miss(
                page_id, size_bytes, weight=weight, now=now, is_stranger=bool(stranger)
            )
            if self.residency.is_loaded and page_id not in self.work.queue:
                self._promotions.consider(
                    page_id,
                    facts,
                    policies,
                    factor=factor,
                    arriving_bytes=arriving,
                    now=now,
                )

    def _note_writes(self, writes: NotedWrites, *, weight: float) -> None:
        now = self._now_s()
        for page, size_bytes, is_fast in zip(
            writes.pages, writes.sizes, writes.on_fast, strict=True
        ):
            if not is_fast:
                if weight > 0.0:
                    self._fast.note_spilled(page, weight)
                continue
            if page not in self._fast:
                self._fast.add(page, size_bytes, arrived_at=None, written_at=now, has_shadow=False)
            if weight > 0.0:
                self._fast.note_write(page, weight)

    def _obey_policies(self) -> Policies:
        policies = self._policies()
        if policies is not self._obeyed:
            self._obeyed = policies
            policy = policies.policy
            for order in self.work.withdraw():
                if order.page_id in self._fast:
                    self._fast.mark_in_flight(order.page_id, is_in_flight=False)
            self._throttle.obey(policy.budget, policy.windows)
            self._recorder.follow(policy.heat, room_bytes=self._fast.total_bytes)
            self.work.run_bytes = _run_bytes(policy, self._slow_name)
            self._heat_time.obey(policy.heat)
            self._sinks.let_go(self._now_s(), is_all=True)
            self._surveyor.hurry()
        return policies

    def _follow_traffic(self, policy: Policy) -> None:
        """Tune for the tier as it is, by the rules that most pages go by."""
        demotes = [rule.action for rule in policy.rules if isinstance(rule.action, Demote)]
        used = sum(state.used_bytes for state in self.situate(policy, lambda _: policy).tiers)
        share = used / max(self._fast.used_bytes, 1)
        self._tuning.follow(
            open_promotion(policy, source=self._slow_name, target=self._fast_name),
            next((one for one in demotes if one.source == self._fast_name), None),
            pages=len(self._fast) * share,
        )

    # --- what shall happen

    async def _order_promotions(self, policies: Policies) -> None:
        facts = self._promotions.take()
        if not facts:
            return
        try:
            found = await self._ledger.find_pages(list(facts))
        except LedgerUnavailable:
            self._promotions.put_back(facts)
            raise
        now = self._now_s()
        factor = self.residency.breaker.factor(now)
        self._throttle.write_price = factor
        orders = self._promotions.order(
            [
                movable
                for movable in found.values()
                if self.gauges.tier_of(movable.page.extent.volume_id) == self._slow_name
            ],
            facts,
            policies,
            factor=factor,
            arriving_bytes=self.work.arriving.get(self._fast_name, 0),
            now=now,
        )
        for order, size_bytes in orders:
            self.work.offer(order, size_bytes, source_tier=self._slow_name)

    async def _order_sinks(self, policies: Policies) -> None:
        situation = self.situate(policies.policy, policies.policy_of)
        state = next(tier for tier in situation.tiers if tier.name == self._fast_name)
        wanted = find_wanted(policies, state)
        room = self.work.sink_room_bytes
        if not wanted or room == 0:
            return
        self._offer_runs(await self._sinks.choose(situation, wanted, bytes_max=room))

    def _offer_runs(self, runs: Iterable[MoveRun]) -> None:
        for run in runs:
            for order, size_bytes in zip(run.orders, run.sizes, strict=True):
                is_taken = self.work.offer(order, size_bytes, source_tier=run.source_tier)
                if is_taken and order.page_id in self._fast:
                    self._fast.mark_in_flight(order.page_id, is_in_flight=True)

    def _has_two_tiers(self) -> bool:
        return {self._fast_name, self._slow_name} <= self.gauges.volumes_of().keys()

    def statistics(self) -> MigratorStatistics:
        """Counts of all parts."""
        return count_migrator(
            self.work,
            self._mover.statistics(),
            overlooked=self._promotions.overlooked,
            breaker_factor=self.residency.breaker.factor(self._now_s()),
        )

    def count_moved(self, action: Action) -> ActionCounts:
        """What moved by one action since start."""
        return count_actions(self._mover.statistics(), action)

    # --- TieringControl

    def status(self) -> TieringStatus:
        """See `TieringControl.status`."""
        policies = self._policies()
        return describe_status(
            policies=policies,
            situation=self.situate(policies.policy, policies.policy_of),
            work=self.work,
            mover=self._mover.statistics(),
            throttle=self._throttle.statistics(),
            drains=self._drains.list_progress(),
            shadow_bytes={self._slow_name: self._fast.used_bytes - self._fast.dirty_bytes},
            copied_per_s=self.gauges.copied.rates(self._now_s()),
            breaker_factor=self.residency.breaker.factor(self._now_s()),
            now_s=self._now_s(),
            clock_s=trio.current_time(),
            failure=self._failure or self.residency.failure,
        )

    def _find_room(self, order: MoveOrder) -> float:
        """Bytes that may still go where an order leads, by the policy in force and the fill of now.

        No limit on a tier without volumes: the mover says what is in the way.
        """
        policies = self._policies()
        situation = self.situate(policies.policy, policies.policy_of)
        for state in situation.tiers:
            if state.name == order.target_tier:
                return find_room(policies, order, state)
        return math.inf

    async def pause(self) -> None:
        """See `TieringControl.pause`."""
        await self._ledger.store_paused(is_paused=True)
        self.work.pause()

    async def resume(self) -> None:
        """See `TieringControl.resume`."""
        await self._ledger.store_paused(is_paused=False)
        self._mover.resume()
        self.work.resume()

    def situate(self, policy: Policy, policy_of: Callable[[str], Policy]) -> Situation:
        """See `TieringControl.situate`."""
        return Situation(
            policy=policy,
            policy_of=policy_of,
            tiers=self.gauges.read(
                policy,
                now=self._now_s(),
                arriving=self.work.arriving,
                leaving=self.work.leaving,
                cleaning_bytes=self.work.cleaning_bytes,
            ),
            now=self._now_s(),
            rates=self._throttle.hop_rates(fast=self._fast_name, slow=self._slow_name),
            arm=self._throttle.find_arm_pace(self._slow_name, self._store.volumes),
        )

    def describe(self, pages: Sequence[MovablePage]) -> Sequence[Candidate]:
        """See `TieringControl.describe`."""
        return self._pages.describe(pages)

    def gauge(self, page: Candidate) -> PageHeat:
        """See `TieringControl.gauge`."""
        return self._pages.gauge(page)

    async def submit(self, runs: Sequence[MoveRun], plan_id: str) -> None:
        """See `MoveRunner.submit`."""
        await trio.lowlevel.checkpoint()
        self.work.submit(runs, plan_id)

    def find_progress(self, plan_id: str) -> PlanProgress | None:
        """See `MoveRunner.find_progress`."""
        return self.work.find_progress(plan_id)

    def obey_drains(self, volumes: Collection[VolumeId]) -> None:
        """See `TieringControl.obey_drains`."""
        self._drains.obey(volumes)


def _run_bytes(policy: Policy, tier: str) -> int:
    declared = policy.find_tier(tier)
    return declared.run_bytes if declared is not None else 64 << 20
