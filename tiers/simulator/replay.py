"""Runs a policy and the baselines over one trace and counts what each did.

Hits are reads that found their page on the fast tier. The first read of a page that was not written
in the trace finds it on the slow tier: everything starts there. Promoted and demoted bytes are
copies; a page that leaves while its copy below is still there costs nothing, under every policy.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from tiers.coalescing import Coalescer
from tiers.decisions import Action
from tiers.engine import HeatClock, TieringEngine
from tiers.policy import Demote, Policy, Promote
from tiers.profile_tuner import ProfileTuner
from tiers.scan_filter import Read, ScanFilter
from tiers.simulator.baselines import BASELINES, Lfu, Lru, MinBypass, S3Fifo, next_uses
from tiers.simulator.lots import EvenLots
from tiers.simulator.trace import DEFAULT_SPAN_S, READ

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tiers.engine import Move
    from tiers.simulator.baselines import Cache
    from tiers.simulator.trace import Trace

__all__ = ["CURVE_POINTS", "Observer", "Replay", "find_moves", "list_runs", "replay_policy"]

CURVE_POINTS = 100
"""Samples of the hit ratio along the trace, for the plot."""
PING_PONG_TURNS = 16.0  # a page back within a long half-life


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What one policy did with the trace.

    Attributes:
        hit_ratio: Of the reads, 0 to 1.
        byte_hit_ratio: Of the bytes read.
        promoted: Bytes copied up, in units of the footprint.
        demoted: Bytes copied down; written pages that left.
        ping_pong: Share of the promoted bytes that left unread and came again within a half-life.
        curve: Hit ratio of each hundredth of the reads.
    """

    name: str
    hit_ratio: float
    byte_hit_ratio: float
    promoted: float
    demoted: float
    ping_pong: float
    curve: tuple[float, ...]


class _Tally:
    """Counts for one run."""

    def __init__(self, name: str, trace: Trace, turn: float) -> None:
        self._name = name
        self._footprint = max(trace.footprint_bytes, 1)
        self._reads_total = max(sum(op == READ for op in trace.ops), 1)
        self._window = PING_PONG_TURNS * turn
        self._reads = self._hits = 0
        self._bytes = self._hit_bytes = 0
        self._promoted = self._demoted = self._returned = 0
        self._left_unread: dict[int, int] = {}
        self._points: list[list[int]] = [[0, 0] for _ in range(CURVE_POINTS)]

    def read(self, length: int, *, is_hit: bool) -> None:
        point = self._points[self._reads * CURVE_POINTS // self._reads_total]
        point[0] += 1
        self._reads += 1
        self._bytes += length
        if is_hit:
            point[1] += 1
            self._hits += 1
            self._hit_bytes += length

    def promote(self, page: int, size_bytes: int) -> None:
        self._promoted += size_bytes
        left = self._left_unread.pop(page, None)
        if left is not None and self._reads - left <= self._window:
            self._returned += size_bytes

    def demote(self, size_bytes: int) -> None:
        self._demoted += size_bytes

    def leave_unread(self, page: int) -> None:
        self._left_unread[page] = self._reads

    def note(self, moves: Sequence[Move]) -> None:
        """Moves of the engine: copies down, and pages that leave."""
        for move in moves:
            if move.verdict.action is not Action.RELEASE:
                self.demote(move.size_bytes)
            if move.verdict.action is not Action.PREMIGRATE and not move.was_read:
                self.leave_unread(move.page)

    def finish(self) -> Replay:
        return Replay(
            name=self._name,
            hit_ratio=self._hits / max(self._reads, 1),
            byte_hit_ratio=self._hit_bytes / max(self._bytes, 1),
            promoted=self._promoted / self._footprint,
            demoted=self._demoted / self._footprint,
            ping_pong=self._returned / max(self._promoted, 1),
            curve=tuple(hits / reads if reads else 0.0 for reads, hits in self._points),
        )


def find_moves(policy: Policy) -> tuple[Promote, Demote]:
    """The promotion and demotion between the two fastest tiers.

    A trace knows neither tenants nor buckets: the first rule of each kind counts, whatever its
    filter.

    Raises:
        LookupError: The policy does not promote into its fastest tier, or does not drain it.
    """
    fast = policy.tiers[0].name
    promote = next(
        (
            rule.action
            for rule in policy.rules
            if isinstance(rule.action, Promote) and rule.action.target == fast
        ),
        None,
    )
    demote = next(
        (
            rule.action
            for rule in policy.rules
            if isinstance(rule.action, Demote) and rule.action.source == fast
        ),
        None,
    )
    if promote is None or demote is None:
        raise LookupError(f"the policy must promote into {fast} and demote from it")
    return promote, demote


def list_runs(
    trace: Trace, policy: Policy, *, ssd_bytes: int
) -> list[tuple[str, Callable[[], Replay]]]:
    """Each run of a comparison, by name; the policy's is the first.

    Args:
        trace: What happened.
        policy: What is asked about.
        ssd_bytes: Size of the fast tier.

    Raises:
        LookupError: See `find_moves`.
    """
    find_moves(policy)
    turn = _turn_pages(trace, ssd_bytes)
    makers: dict[str, Callable[[], Cache]] = {
        "LRU": lambda: Lru(ssd_bytes),
        "LFU": lambda: Lfu(ssd_bytes),
        "S3-FIFO": lambda: S3Fifo(ssd_bytes),
        "MIN": lambda: MinBypass(ssd_bytes, next_uses(trace)),
    }
    runs: list[tuple[str, Callable[[], Replay]]] = [
        ("policy", lambda: replay_policy(trace, policy, ssd_bytes=ssd_bytes))
    ]
    runs += [(name, partial(_replay_maker, name, makers[name], trace, turn)) for name in BASELINES]
    return runs


def _replay_maker(name: str, make: Callable[[], Cache], trace: Trace, turn: float) -> Replay:
    return _replay_cache(name, make(), trace, turn)


def _turn_pages(trace: Trace, ssd_bytes: int) -> float:
    """Pages that the fast tier holds, at least 1."""
    return max(ssd_bytes * len(trace.sizes) / max(trace.footprint_bytes, 1), 1.0)


def _replay_cache(name: str, cache: Cache, trace: Trace, turn: float) -> Replay:
    tally = _Tally(name, trace, turn)
    dirty = bytearray(len(trace.sizes))
    arrived: dict[int, bool] = {}
    for number, page in enumerate(trace.pages):
        size = trace.sizes[page]
        is_read = trace.ops[number] == READ
        is_hit, came = cache.access(page, size, number)
        if is_read:
            tally.read(trace.lengths[number], is_hit=is_hit)
            if is_hit:
                arrived[page] = True
            elif dirty[page]:
                # It was written, and has left since: that was its copy down.
                tally.demote(size)
                dirty[page] = 0
        else:
            dirty[page] = 1
        if came and is_read:
            if arrived.get(page) is False:
                # It came before and was not read again: it left unread in between.
                tally.leave_unread(page)
            tally.promote(page, size)
            arrived[page] = False
    for page, is_dirty in enumerate(dirty):
        if is_dirty and not cache.is_resident(page):
            tally.demote(trace.sizes[page])
    return tally.finish()


def _weigh(trace: Trace, policy: Policy, ssd_bytes: int) -> tuple[array[float], bytearray]:
    """Weight of each access in the heat: scans out, a client's reads within a minute once.

    Returns:
        The weights, and 1 for each read by a client of whom nothing else is known.
    """
    half_life = policy.heat.half_life_s
    scans = ScanFilter(
        policy.heat.sequential,
        room_bytes=ssd_bytes,
        half_life_s=half_life if half_life is not None else DEFAULT_SPAN_S,
    )
    coalescer = Coalescer(policy.heat.coalesce_s)
    weights = array("d")
    strangers = bytearray(trace.strangers)
    for number, page in enumerate(trace.pages):
        if trace.ops[number] != READ:
            weights.append(policy.heat.write_heat)
            continue
        client, now = trace.clients[number], trace.times[number]
        read = Read(
            client=trace.client_names[client - 1] if client else None,
            name=trace.objects[page],
            offset=trace.offsets[number],
            length=trace.lengths[number],
        )
        weight = trace.weights[number]
        if math.isnan(weight):
            strangers[number] = not scans.knows(read.client)
            weight = scans.weigh(read, now=now)
        weight *= trace.shares[number]
        if client and weight > 0.0 and not coalescer.admits(hash((client, page)), now):
            weight = 0.0
        weights.append(weight)
    return weights, strangers


class Observer(Protocol):
    """Is told what came of each access of the policy's run."""

    def __call__(self, number: int, *, is_hit: bool, is_promoted: bool) -> None:
        """The `number`-th access of the trace, 0-based."""
        ...


def replay_policy(
    trace: Trace, policy: Policy, *, ssd_bytes: int, observe: Observer | None = None
) -> Replay:
    """The policy's run: the production decisions on the trace's clock.

    Args:
        trace: What happened.
        policy: What is asked about.
        ssd_bytes: Size of the fast tier.
        observe: Told of each access as well.

    Raises:
        LookupError: See `find_moves`.
    """
    promote, demote = find_moves(policy)
    turn = _turn_pages(trace, ssd_bytes)
    half_life = policy.heat.half_life_s
    lots = EvenLots()
    engine = TieringEngine(
        total_bytes=ssd_bytes,
        promote=promote,
        demote=demote,
        clock=HeatClock(half_life_s=half_life, turn_pages=turn),
        lots=lots,
    )
    tuner = ProfileTuner(
        total_bytes=ssd_bytes,
        pages=len(trace.sizes),
        promote=promote,
        demote=demote,
        turn_pages=turn,
        lots=lots,
    )
    weights, strangers = _weigh(trace, policy, ssd_bytes)
    tally = _Tally("policy", trace, turn)
    for number, page in enumerate(trace.pages):
        now, size, weight = trace.times[number], trace.sizes[page], weights[number]
        is_stranger = bool(strangers[number])
        if trace.ops[number] == READ:
            outcome = engine.read(page, size, now=now, weight=weight, is_stranger=is_stranger)
            tally.read(trace.lengths[number], is_hit=outcome.is_hit)
            is_promoted = outcome.verdict is not None and outcome.verdict.is_move
            if is_promoted:
                tally.promote(page, size)
            if observe is not None:
                observe(number, is_hit=outcome.is_hit, is_promoted=is_promoted)
        else:
            outcome = engine.write(page, size, now=now, weight=weight)
            tally.note(engine.premigrate())
        tally.note(outcome.moves)
        if half_life is None and tuner.note(
            page, size, now=now, weight=weight, is_stranger=is_stranger
        ):
            engine.weigh_short(tuner.short_weight)
    return tally.finish()
