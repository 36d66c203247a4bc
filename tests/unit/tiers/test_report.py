"""What reports count: every record once, every version in full, all of it in one pivot."""

from __future__ import annotations

import random
from array import array

import pytest

from tiers import report
from tiers.report import DAY_US, ReportFold, Tally, TooManyGroups, split_deciles
from tiers.report_facts import (
    BodyFact,
    BodyUse,
    Cut,
    GroupKey,
    MoveFact,
    PageFact,
    Role,
    Use,
    cut_prefix,
)
from tiers.temperature import LEVEL_ZERO, NEVER

NOW_US = 1_000 * DAY_US
SSD, HDD = 1, 2
BY_ALL = frozenset({"tenant", "bucket", "prefix", "tier"})


def page(body: int, index: int = 0, *, volume: int = SSD, shadow: int | None = None) -> PageFact:
    """A page of 100 bytes in a record of 128; a shadow of 128."""
    return PageFact(body, index, 100, 128, volume, shadow, 128 if shadow else 0, 7, 1, False)


def use(role: Role, *owners: tuple[int, bytes | None], days: float = 0, tenant: int = 7) -> BodyUse:
    at_us = NOW_US - round(days * DAY_US)
    return BodyUse(tenant, role, tuple(Use(bucket, key, at_us, True) for bucket, key in owners))


def fold_of(cut: Cut | None = None, heat: StandingHeat | None = None) -> ReportFold:
    return ReportFold(cut or Cut(by=BY_ALL), now_us=NOW_US, heat=heat)


def only(fold: ReportFold) -> Tally:
    [tally] = fold.tallies.values()
    return tally


class StandingHeat:
    """Levels and last reads by page id."""

    def __init__(self, levels: dict[int, int], reads: dict[int, int] | None) -> None:
        self._levels = levels
        self._reads = reads

    def levels_of(self, page_ids: array[int]) -> array[int]:
        return array("I", [self._levels.get(page_id, NEVER) for page_id in page_ids])

    def last_reads_of(self, page_ids: array[int]) -> array[int] | None:
        if self._reads is None:
            return None
        return array("q", [self._reads.get(page_id, 0) for page_id in page_ids])


def test_a_page_counts_for_its_owner_on_its_volume() -> None:
    fold = fold_of()
    fold.add_pages([page(1), page(1, 1, volume=HDD, shadow=SSD)], {1: use("version", (3, b"a/b"))})

    ssd = fold.tallies[GroupKey(7, 3, b"a/", SSD)]
    hdd = fold.tallies[GroupKey(7, 3, b"a/", HDD)]
    assert (ssd.physical_bytes, ssd.padding_bytes, ssd.logical_bytes) == (128, 28, 100)
    assert (hdd.physical_bytes, hdd.shadow_bytes, ssd.shadow_bytes) == (128, 0, 128)
    assert (ssd.version_count, hdd.version_count) == (1, 0)
    assert (ssd.page_count, hdd.page_count) == (1, 1)


def test_shared_bytes_count_once_for_the_oldest_and_logically_for_each() -> None:
    fold = fold_of()
    fold.add_pages([page(1)], {1: use("version", (3, b"old"), (4, b"copy"), (4, b"copy"))})

    old = fold.tallies[GroupKey(7, 3, b"", SSD)]
    copy = fold.tallies[GroupKey(7, 4, b"", SSD)]
    assert (old.physical_bytes, copy.physical_bytes) == (128, 0)
    assert (old.logical_bytes, copy.logical_bytes) == (100, 200)
    assert (old.version_count, copy.version_count) == (1, 2)


@pytest.mark.parametrize(
    ("role", "name"), [("upload", "upload_bytes"), ("manifest", "manifest_bytes")]
)
def test_what_is_no_version_takes_room_and_shows_nothing(role: Role, name: str) -> None:
    fold = fold_of()
    fold.add_pages([page(1)], {1: use(role, (3, b"k"))})

    tally = only(fold)
    assert (tally.physical_bytes, getattr(tally, name)) == (128, 128)
    assert (tally.logical_bytes, tally.version_count) == (0, 0)


def test_the_dead_are_their_tenants_and_no_buckets() -> None:
    fold = fold_of()
    fold.add_pages([page(1, shadow=HDD)], {1: BodyUse(7, "dead", ())})
    fold.add_dead_places([(SSD, 64)])

    assert {key: tally.dead_bytes for key, tally in fold.tallies.items()} == {
        GroupKey(7, None, None, SSD): 128,
        GroupKey(7, None, None, HDD): 128,
        GroupKey(None, None, None, SSD): 64,
    }
    assert all(tally.physical_bytes == 0 for tally in fold.tallies.values())


@pytest.mark.parametrize(
    ("days", "idle"),
    [(0.5, 0), (1.5, 1), (8, 2), (32, 3), (91, 4), (1, 1)],
)
def test_a_page_is_idle_since_it_was_written(days: float, idle: int) -> None:
    fold = fold_of()
    fold.add_pages([page(1)], {1: use("version", (3, b"k"), days=days)})

    assert only(fold).idle == [128] * idle + [0] * (4 - idle)


def test_a_page_is_idle_since_it_was_read_where_that_is_known() -> None:
    uses = {1: use("version", (3, b"k"), days=60)}
    known = fold_of(heat=StandingHeat({}, {1: NOW_US - 2 * DAY_US}))
    known.add_pages([page(1)], uses)
    unknown = fold_of(heat=StandingHeat({1: LEVEL_ZERO}, None))
    unknown.add_pages([page(1)], uses)

    assert only(known).idle == [128, 0, 0, 0]
    assert only(unknown).idle == [128, 128, 128, 0]


def test_heat_is_counted_in_bins_of_a_sixteenth_of_a_half_life() -> None:
    heat = StandingHeat({1: LEVEL_ZERO, 2: LEVEL_ZERO + 1, 3: LEVEL_ZERO + 65_536}, None)
    fold = fold_of(heat=heat)
    fold.add_pages(
        [page(1), page(2), page(3), page(4)],
        {body: use("version", (3, b"k")) for body in (1, 2, 3, 4)},
    )

    low = LEVEL_ZERO >> 12
    assert only(fold).heat == {low: 256, low + 16: 128, NEVER: 128}


def test_a_part_of_the_store_is_all_that_counts() -> None:
    uses = {
        1: use("version", (3, b"a/x")),
        2: use("version", (3, b"b/x")),
        3: use("version", (4, b"a/x")),
        4: use("version", (5, b"a/x"), tenant=8),
        5: BodyUse(7, "dead", ()),
    }
    pages = [page(body) for body in uses]

    def total(cut: Cut) -> tuple[int, int]:
        fold = fold_of(cut)
        fold.add_pages(pages, uses)
        fold.add_dead_places([(SSD, 1)])
        return (
            sum(tally.physical_bytes for tally in fold.tallies.values()),
            sum(tally.dead_bytes for tally in fold.tallies.values()),
        )

    by = frozenset({"tier"})
    assert total(Cut(by=by)) == (512, 129)
    assert total(Cut(by=by, tenant_id=7)) == (384, 128)
    assert total(Cut(by=by, tenant_id=7, bucket_id=3)) == (256, 0)
    assert total(Cut(by=by, tenant_id=7, bucket_id=3, prefix=b"a/")) == (128, 0)


def test_a_copy_outside_of_the_part_leaves_its_bytes_to_the_part() -> None:
    fold = fold_of(Cut(by=frozenset(), tenant_id=7, bucket_id=4))
    fold.add_pages([page(1)], {1: use("version", (3, b"old"), (4, b"copy"))})

    assert (only(fold).logical_bytes, only(fold).physical_bytes) == (100, 0)


@pytest.mark.parametrize(
    ("key", "skip", "depth", "prefix"),
    [
        (b"a/b/c/d", 0, 1, b"a/"),
        (b"a/b/c/d", 0, 2, b"a/b/"),
        (b"a/b/c/d", 0, 9, b"a/b/c/"),
        (b"plain", 0, 1, b""),
        (b"a/b/c/d", 2, 1, b"a/b/"),
        (b"logs-2026/x/y", 5, 1, b"logs-2026/"),
        (b"a//b", 0, 2, b"a//"),
        (b"/a", 0, 1, b"/"),
        (b"", 0, 1, b""),
    ],
)
def test_a_prefix_is_cut_at_slashes(key: bytes, skip: int, depth: int, prefix: bytes) -> None:
    assert cut_prefix(key, skip=skip, depth=depth) == prefix


def test_rows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "GROUPS_MAX", 3)
    fold = fold_of()
    uses = {body: use("version", (3, b"%d/x" % body)) for body in range(4)}
    fold.add_pages([page(body) for body in range(3)], uses)
    # Another tier of a row that there is makes no row more.
    fold.add_pages([page(2, 1, volume=HDD)], uses)

    with pytest.raises(TooManyGroups, match="prefix depth"):
        fold.add_pages([page(3)], uses)
    other = fold_of()
    other.add_pages([page(3)], uses)
    with pytest.raises(TooManyGroups):
        fold.merge(other)


def test_slices_together_are_what_one_would_have_counted() -> None:
    heat = StandingHeat({body: LEVEL_ZERO + body * 5000 for body in range(50)}, None)
    uses = {
        body: use("version", (body % 3, b"%d/k" % (body % 4)), (body % 5, b"z"))
        for body in range(50)
    }
    pages = [page(body, index, volume=1 + body % 2) for body in range(50) for index in range(3)]
    whole, left, right = fold_of(heat=heat), fold_of(heat=heat), fold_of(heat=heat)
    whole.add_pages(pages, uses)
    left.add_pages(pages[:70], uses)
    right.add_pages(pages[70:], uses)
    left.merge(right)

    def describe(fold: ReportFold) -> dict[GroupKey, list[object]]:
        return {
            key: [getattr(tally, name) for name in Tally.__slots__]
            for key, tally in fold.tallies.items()
        }

    assert describe(left) == describe(whole)


def move(action: str, *, at_us: int = NOW_US, is_return: bool = False, body: int = 1) -> MoveFact:
    source, target = (HDD, SSD) if action == "promote" else (SSD, HDD)
    return MoveFact(body, 0, action, source, target, 128, at_us, is_return)


def test_moves_count_where_they_went_and_where_they_left() -> None:
    fold = fold_of(Cut(by=frozenset({"tier"})))
    moves = [
        move("promote"),
        move("demote", is_return=True),
        move("premigrate"),
        move("release", is_return=True),
        move("drain"),
    ]
    fold.add_moves(moves, {1: use("version", (3, b"k"))})

    ssd = fold.tallies[GroupKey(None, None, None, SSD)]
    hdd = fold.tallies[GroupKey(None, None, None, HDD)]
    assert (ssd.moved_bytes, ssd.promoted_bytes, ssd.demoted_bytes) == (128, 128, 0)
    assert (hdd.moved_bytes, hdd.promoted_bytes, hdd.demoted_bytes) == (384, 0, 256)
    assert (ssd.released_bytes, hdd.released_bytes) == (128, 0)
    assert (ssd.ping_pong_bytes, hdd.ping_pong_bytes) == (256, 0)


def test_a_move_of_a_body_that_is_gone_is_nobodys() -> None:
    fold = fold_of()
    fold.add_moves([move("promote"), move("promote", body=2)], {2: BodyUse(7, "dead", ())})

    assert fold.tallies[GroupKey(None, None, None, SSD)].promoted_bytes == 128
    assert fold.tallies[GroupKey(7, None, None, SSD)].promoted_bytes == 128


def test_a_promotion_is_unread_until_a_read_behind_it() -> None:
    heat = StandingHeat({}, {1: NOW_US - 5, 2: NOW_US})
    fold = fold_of(Cut(by=frozenset()), heat)
    fold.add_moves([move("promote", body=body, at_us=NOW_US - 5) for body in (1, 2, 3)], {})

    assert fold.tallies[GroupKey(None, None, None, SSD)].promoted_unread_bytes == 256


def test_deciles_split_all_bytes_into_ten_equal_parts() -> None:
    whole = dict.fromkeys(range(10), 100)

    [found] = split_deciles([whole], whole)

    assert found == (100,) * 10


def test_pages_of_the_same_heat_are_split_in_proportion() -> None:
    heats = [{NEVER: 300, 9: 100}, {NEVER: 600}]
    whole = {NEVER: 900, 9: 100}

    first, second = split_deciles(heats, whole)

    assert first == (33, 33, 34, 33, 33, 34, 33, 33, 34, 100)
    assert sum(second) == 600
    assert second[9] == 0


def test_deciles_lose_no_byte() -> None:
    draw = random.Random(5)
    for _ in range(50):
        heats = [{draw.randrange(6): draw.randrange(1, 10**6) for _ in range(4)} for _ in range(5)]
        whole: dict[int, int] = {}
        for heat in heats:
            for bucket, size in heat.items():
                whole[bucket] = whole.get(bucket, 0) + size

        found = split_deciles(heats, whole)

        assert [sum(row) for row in found] == [sum(heat.values()) for heat in heats]
        tenths = [sum(column) for column in zip(*found, strict=True)]
        assert max(tenths) - min(tenths) <= 2 * len(heats) * 6 + 1


def test_nothing_has_no_deciles() -> None:
    assert split_deciles([{}], {}) == [(0,) * 10]


def test_owners_are_looked_for_among_a_tenants_bodies_alone() -> None:
    bodies = {1: BodyFact(7, 1, False), 2: BodyFact(8, 1, False)}

    assert fold_of().choose(bodies) == bodies
    assert fold_of(Cut(by=BY_ALL, tenant_id=7)).choose(bodies) == {1: bodies[1]}


def test_a_move_of_another_tenant_does_not_count_in_a_part() -> None:
    fold = fold_of(Cut(by=frozenset(), tenant_id=7))
    fold.add_moves([move("promote")], {})

    assert fold.tallies == {}
