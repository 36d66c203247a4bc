"""What a capacity report counts, and how it is cut: one pivot of rows and measures. Pure.

A *tally* counts what one group of pages takes on one volume. Groups are cut by tenant, bucket and
prefix as wanted; volumes become tiers at the end. Every record on the volumes is in exactly one
tally, so the physical measures of all rows add up to what the volumes hold:

- a living page belongs to the oldest living version that names its body (the one with the lowest
  sequence), where none does to the upload whose part it is, else to the version or bucket that the
  manifest states;
- a dead page belongs to the tenant that wrote it, and to no bucket any more: what is dead has lost
  its name; a place that a page left by a move belongs to nobody.

Logical bytes count for every version that names a body: they are what S3 shows.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, NamedTuple

from tiers.report_columns import DECILES, IDLE_DAYS
from tiers.temperature import NEVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tiers.heat_view import HeatView
    from tiers.report_facts import BodyFact, BodyUse, Cut, GroupKey, MoveFact, PageFact, Use

__all__ = [
    "GROUPS_MAX",
    "ReportFold",
    "Tally",
    "TooManyGroups",
    "split_deciles",
]

DAY_US = 86_400 * 1_000_000
GROUPS_MAX = 10_000
"""Rows of a report before tiers: more are no report, and a reader of JSON must hold them all."""
HEAT_BUCKET_BITS = 12
"""A bin of heat is 2^12 steps of a level, a sixteenth of a half-life."""


class TooManyGroups(Exception):
    """A cut that makes more rows than `GROUPS_MAX`."""

    def __init__(self) -> None:
        super().__init__(
            f"more than {GROUPS_MAX} rows; name a tenant or a bucket, or a smaller prefix depth"
        )


class Tally:
    """Sums of one group on one volume; see `tiers.report_columns` for what they mean."""

    __slots__ = (
        "dead_bytes",
        "demoted_bytes",
        "heat",
        "idle",
        "logical_bytes",
        "manifest_bytes",
        "moved_bytes",
        "padding_bytes",
        "page_count",
        "physical_bytes",
        "ping_pong_bytes",
        "promoted_bytes",
        "promoted_unread_bytes",
        "released_bytes",
        "shadow_bytes",
        "upload_bytes",
        "version_count",
    )

    def __init__(self) -> None:
        self.logical_bytes = 0
        self.version_count = 0
        self.page_count = 0
        self.physical_bytes = 0
        self.padding_bytes = 0
        self.manifest_bytes = 0
        self.upload_bytes = 0
        self.shadow_bytes = 0
        self.dead_bytes = 0
        self.moved_bytes = 0
        self.promoted_bytes = 0
        self.demoted_bytes = 0
        self.released_bytes = 0
        self.ping_pong_bytes = 0
        self.promoted_unread_bytes = 0
        self.idle = [0] * len(IDLE_DAYS)
        self.heat: dict[int, int] = {}

    def add(self, other: Tally) -> None:
        """Take the other's sums in."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for number, idle_bytes in enumerate(other.idle):
            self.idle[number] += idle_bytes
        for bucket, size in other.heat.items():
            self.heat[bucket] = self.heat.get(bucket, 0) + size


_SUMS = tuple(name for name in Tally.__slots__ if name not in {"heat", "idle"})


class ReportFold:
    """Counts pages and moves into tallies, chunk after chunk.

    Args:
        cut: How they are grouped.
        now_us: The moment of the report.
        heat: Where it is kept; None where nobody keeps any.
    """

    def __init__(
        self,
        cut: Cut,
        *,
        now_us: int,
        heat: HeatView | None,
    ) -> None:
        self.tallies: dict[GroupKey, Tally] = {}
        self._cut = cut
        self._now_us = now_us
        self._heat = heat
        self._groups: set[tuple[int | None, int | None, bytes | None]] = set()

    def choose(self, bodies: Mapping[int, BodyFact]) -> Mapping[int, BodyFact]:
        """Those of the bodies whose uses have to be found: of the cut's tenant, or all."""
        wanted = self._cut.tenant_id
        if wanted is None:
            return bodies
        return {body_id: fact for body_id, fact in bodies.items() if fact.tenant_id == wanted}

    def add_pages(self, pages: Sequence[PageFact], uses: Mapping[int, BodyUse]) -> None:
        """Count records of pages.

        Args:
            pages: Each once, in the order of their bodies and indexes.
            uses: By body id, of those that `choose` leaves; others do not count.

        Raises:
            TooManyGroups: See `GROUPS_MAX`.
        """
        counted: list[tuple[int, int, Tally, int]] = []
        current, body = -1, None
        # Unpacked once: this loop runs for every page of the store.
        for body_id, index, payload, record, volume, below, below_bytes, *_ in pages:
            if body_id != current:
                current, use = body_id, uses.get(body_id)
                body = None if use is None else _Body(self, use)
            if body is None:
                continue
            place = body.places.get(volume) or body.open_place(volume)
            for tally in place.namers:
                tally.logical_bytes += payload
            if index == 0:
                for tally in place.firsts:
                    tally.version_count += 1
            if below is not None:
                body.add_shadow(below, below_bytes)
            owner = place.owner
            if owner is not None and body.add_record(owner, payload, record):
                counted.append((body_id + index, record, owner, body.written_us))
        self._add_activity(counted)

    def add_dead_places(self, places: Iterable[tuple[int, int]]) -> None:
        """Count places that pages left by moves: volume id and length of each."""
        if not self._cut.is_whole:
            return
        for volume_id, length in places:
            self._find(self._cut.group(None, None, None, volume_id)).dead_bytes += length

    def add_moves(self, moves: Sequence[MoveFact], uses: Mapping[int, BodyUse]) -> None:
        """Count moves.

        Args:
            moves: Of the span that the report speaks of, each once.
            uses: By body id; a body that is gone has none, and its moves are nobody's.

        Raises:
            TooManyGroups: See `GROUPS_MAX`.
        """
        promoted: list[tuple[MoveFact, Tally]] = []
        for move in moves:
            use = uses.get(move.body_id)
            owner = use.uses[0] if use is not None and use.uses else None
            tenant_id = None if use is None else use.tenant_id
            bucket_id, key = (None, None) if owner is None else (owner.bucket_id, owner.key)
            source = self.find_tally(tenant_id, bucket_id, key, move.from_volume_id)
            target = self.find_tally(tenant_id, bucket_id, key, move.to_volume_id)
            if source is None or target is None:
                continue
            source.ping_pong_bytes += move.record_bytes * move.is_return
            if move.action == "release":
                source.released_bytes += move.record_bytes
                continue
            _add_copy(move, target)
            if move.action == "promote":
                promoted.append((move, target))
        self._add_unread(promoted)

    def merge(self, other: ReportFold) -> None:
        """Take in what another fold of the same cut counted.

        Raises:
            TooManyGroups: Together they are too many.
        """
        for key, tally in other.tallies.items():
            self._find(key).add(tally)

    def _add_activity(self, counted: list[tuple[int, int, Tally, int]]) -> None:
        """Count for how long pages were neither written nor read, and how hot they are."""
        edges = [self._now_us - days * DAY_US for days in IDLE_DAYS]
        heat = self._heat
        if heat is None:
            for _, record_bytes, tally, active_us in counted:
                if active_us <= edges[0]:
                    _add_idle(tally, record_bytes, active_us, edges)
            return
        ids = array("q", [page_id for page_id, _, _, _ in counted])
        reads = heat.last_reads_of(ids) or array("q", bytes(8 * len(ids)))
        levels = heat.levels_of(ids)
        for (_, record_bytes, tally, written_us), read_us, level in zip(
            counted, reads, levels, strict=True
        ):
            _add_idle(tally, record_bytes, max(written_us, read_us), edges)
            bucket = NEVER if level == NEVER else level >> HEAT_BUCKET_BITS
            tally.heat[bucket] = tally.heat.get(bucket, 0) + record_bytes

    def _add_unread(self, promoted: list[tuple[MoveFact, Tally]]) -> None:
        if self._heat is None or not promoted:
            return
        ids = array("q", [move.body_id + move.page_index for move, _ in promoted])
        reads = self._heat.last_reads_of(ids)
        if reads is None:
            return
        for (move, target), read_us in zip(promoted, reads, strict=True):
            if read_us <= move.at_us:
                target.promoted_unread_bytes += move.record_bytes

    def find_tally(
        self, tenant_id: int | None, bucket_id: int | None, key: bytes | None, volume_id: int
    ) -> Tally | None:
        """The tally of what such an owner has on a volume, None where it does not count.

        Raises:
            TooManyGroups: See `GROUPS_MAX`.
        """
        cut = self._cut
        if not cut.holds(tenant_id, bucket_id, key):
            return None
        return self._find(cut.group(tenant_id, bucket_id, key, volume_id))

    def _find(self, key: GroupKey) -> Tally:
        tally = self.tallies.get(key)
        if tally is None:
            self._groups.add(key[:3])
            if len(self._groups) > GROUPS_MAX:
                raise TooManyGroups
            tally = self.tallies[key] = Tally()
        return tally


class _Place(NamedTuple):
    """Where the pages of one body on one volume are counted."""

    owner: Tally | None
    namers: tuple[Tally, ...]
    firsts: tuple[Tally, ...]


class _Body:
    """One body while its pages are counted: what is the same for all of them is found once."""

    def __init__(self, fold: ReportFold, use: BodyUse) -> None:
        self._fold = fold
        self._use = use
        self.is_dead = use.role == "dead"
        self.is_manifest = use.role == "manifest"
        self.is_upload = use.role == "upload"
        self.written_us = max((each.written_us for each in use.uses), default=0)
        self.places: dict[int, _Place] = {}

    def open_place(self, volume_id: int) -> _Place:
        """The tallies of the body's pages on a volume."""
        use = self._use
        named: list[tuple[Tally, bool]] = []
        if use.role == "version":
            for each in use.uses:
                tally = self._find(each, volume_id)
                if tally is not None:
                    named.append((tally, each.is_first))
        place = self.places[volume_id] = _Place(
            self._find_owner(volume_id),
            tuple([tally for tally, _ in named]),
            tuple([tally for tally, is_first in named if is_first]),
        )
        return place

    def add_record(self, owner: Tally, payload_bytes: int, record_bytes: int) -> bool:
        """Count one of its pages for its owner; whether it lives."""
        if self.is_dead:
            owner.dead_bytes += record_bytes
            return False
        owner.page_count += 1
        owner.physical_bytes += record_bytes
        owner.padding_bytes += record_bytes - payload_bytes
        if self.is_manifest:
            owner.manifest_bytes += record_bytes
        elif self.is_upload:
            owner.upload_bytes += record_bytes
        return True

    def add_shadow(self, volume_id: int, size_bytes: int) -> None:
        """Count the second place of one of its pages."""
        owner = self._find_owner(volume_id)
        if owner is None:
            return
        if self.is_dead:
            owner.dead_bytes += size_bytes
        else:
            owner.shadow_bytes += size_bytes

    def _find_owner(self, volume_id: int) -> Tally | None:
        if self._use.uses:
            return self._find(self._use.uses[0], volume_id)
        return self._fold.find_tally(self._use.tenant_id, None, None, volume_id)

    def _find(self, use: Use, volume_id: int) -> Tally | None:
        return self._fold.find_tally(self._use.tenant_id, use.bucket_id, use.key, volume_id)


def _add_copy(move: MoveFact, target: Tally) -> None:
    target.moved_bytes += move.record_bytes
    if move.action == "promote":
        target.promoted_bytes += move.record_bytes
    elif move.action in {"demote", "premigrate"}:
        target.demoted_bytes += move.record_bytes


def _add_idle(tally: Tally, size_bytes: int, active_us: int, edges: list[int]) -> None:
    idle = tally.idle
    for number, edge in enumerate(edges):
        if active_us > edge:
            return
        idle[number] += size_bytes


def split_deciles(
    heats: Sequence[Mapping[int, int]], whole: Mapping[int, int]
) -> list[tuple[int, ...]]:
    """Bytes of each group in the ten tenths of all bytes by heat, the coldest first.

    Pages of the same heat have no order: what of them falls into which tenth is split in
    proportion, so that the tenths of a group add up to its bytes.

    Args:
        heats: Bytes by bin of heat, for each group.
        whole: The same of everything.
    """
    total = sum(whole.values())
    edges: dict[int, tuple[int, int]] = {}
    place = 0
    for bucket in sorted(whole):
        edges[bucket] = (place, place + whole[bucket])
        place += whole[bucket]
    return [_split(heat, edges, total) for heat in heats]


def _split(
    heat: Mapping[int, int], edges: Mapping[int, tuple[int, int]], total: int
) -> tuple[int, ...]:
    found = [0] * DECILES
    for bucket, size in heat.items():
        first, end = edges[bucket]
        placed = 0
        for number in range(DECILES):
            # Up to the end of this tenth, rounded down; the last one takes what is left.
            reached = min(max(total * (number + 1) // DECILES - first, 0), end - first)
            share = size * reached // (end - first) if end > first else size
            found[number] += share - placed
            placed = share
    return tuple(found)
