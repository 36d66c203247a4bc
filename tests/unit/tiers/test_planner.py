"""What a plan chooses, in which order, and that it accounts for every page."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from hal.records import Extent, SegmentId, VolumeId
from tests.unit.tiers.candidates import (
    DAY_S,
    NOW,
    PAGE,
    candidate,
    make_plan,
    policy_of,
    situation,
    tier,
)
from tiers.arm_pace import SEEK_BYTES, ArmPace
from tiers.decisions import MOVES_PER_DAY_MAX, Action
from tiers.overlay import parse_overlay
from tiers.page_judge import PinSurvey
from tiers.plan_records import Candidate, Plan, Stay
from tiers.planner import RUN_ORDERS_MAX

if TYPE_CHECKING:
    from tiers.policy import Policy

DRAIN = (
    '[[rule]]\nid = "down"\nfrom_pool = "ssd"\nto_pool = "hdd"\n'
    "threshold = { high = 0.8, low = 0.5, premigrate = 0.5 }\n"
)


def chosen(plan: Plan, *actions: Action) -> set[int]:
    return {
        int(order.page_id)
        for order in plan.iter_orders()
        if not actions or order.entry.action in actions
    }


def stays(plan: Plan, rule: str) -> dict[Stay, int]:
    [account] = [item for item in plan.rules if item.rule == rule]
    return {stay: total.pages for stay, total in account.stays.items()}


def check_account(plan: Plan) -> None:
    """Every page is counted once, and the sums are those of the orders."""
    total = 0
    for account in plan.rules:
        counted = sum(item.pages for item in account.chosen.values())
        left = sum(item.pages for item in account.stays.values())
        assert account.matched.pages == counted + left, account
        assert account.matched.size_bytes == account.chosen_bytes + sum(
            item.size_bytes for item in account.stays.values()
        )
        total += account.matched.pages
    assert total == plan.looked_at.pages
    assert sum(account.chosen_bytes for account in plan.rules) == plan.chosen_bytes
    moved = sum(hop.copied_bytes + hop.released_bytes for hop in plan.hops)
    assert moved == plan.chosen_bytes
    pages = [order.page_id for order in plan.iter_orders()]
    assert len(pages) == len(set(pages)), "a page is ordered to go two ways"


def test_the_coldest_pages_leave_until_the_low_mark_in_whatever_order_they_are_fed() -> None:
    pages = [candidate(number, priority=float(number)) for number in range(90)]
    Random(1).shuffle(pages)

    plan = make_plan(situation(tier("ssd", 90, 100), tier("hdd", 0, 100)), [])
    assert plan.chosen_pages == 0
    where = situation(tier("ssd", 90, 100), tier("hdd", 0, 100), policy=policy_of(DRAIN))
    plan = make_plan(where, pages)

    assert chosen(plan) == set(range(40))
    assert stays(plan, "down") == {Stay.STILL_HOT: 50}
    [ssd, hdd] = plan.tiers
    assert (ssd.used_after_bytes, hdd.used_after_bytes) == (50 * PAGE, 40 * PAGE)
    check_account(plan)


def test_below_its_high_mark_a_tier_keeps_everything() -> None:
    where = situation(tier("ssd", 80, 100), tier("hdd", 0, 100), policy=policy_of(DRAIN))

    plan = make_plan(where, [candidate(number) for number in range(80)])

    assert plan.runs == ()
    assert stays(plan, "down") == {Stay.NOT_NEEDED: 80}


def test_each_demotion_goes_down_to_its_own_mark() -> None:
    text = (
        '[[rule]]\nid = "logs"\nfilter = { tenant = "acme", bucket = "logs" }\nfrom_pool = "ssd"\n'
        'to_pool = "hdd"\nthreshold = { high = 0.4, low = 0.3, premigrate = 0.3 }\n' + DRAIN
    )
    where = situation(tier("ssd", 60, 100), tier("hdd", 0, 100), policy=policy_of(text))
    logs = [candidate(n, priority=5.0 + n, bucket="logs") for n in range(20)]
    others = [candidate(100 + n, priority=0.0) for n in range(40)]

    plan = make_plan(where, logs + others)

    assert chosen(plan) == set(range(20)), "only 20 of 30 wanted are logs; others have their marks"
    assert stays(plan, "down") == {Stay.NOT_NEEDED: 40}
    check_account(plan)


@pytest.mark.parametrize(
    ("fields", "stay"),
    [
        ({"age_s": 60.0}, Stay.MIN_AGE),
        ({"arrived_at": NOW - 60.0}, Stay.RESIDENCY),
        ({"moves_today": MOVES_PER_DAY_MAX}, Stay.MOVES),
        ({"is_in_flight": True}, Stay.IN_FLIGHT),
    ],
)
def test_what_may_not_leave_now_is_counted_by_its_reason(
    fields: dict[str, float], stay: Stay
) -> None:
    where = situation(tier("ssd", 90, 100), tier("hdd", 0, 100), policy=policy_of(DRAIN))
    barred = [candidate(number, priority=-9.0, **fields) for number in range(7)]  # type: ignore[arg-type]

    plan = make_plan(where, [*barred, *(candidate(100 + n) for n in range(83))])

    assert chosen(plan).isdisjoint(range(7))
    assert stays(plan, "down")[stay] == 7
    assert plan.chosen_pages == 40
    check_account(plan)


def test_a_page_with_a_copy_below_is_only_given_up() -> None:
    where = situation(tier("ssd", 90, 100), tier("hdd", 90, 100), policy=policy_of(DRAIN))

    plan = make_plan(where, [candidate(n, shadow="hdd") for n in range(90)])

    assert {order.entry.action for order in plan.iter_orders()} == {Action.RELEASE}
    [hop] = plan.hops
    assert (hop.copied_bytes, hop.released_bytes) == (0, 40 * PAGE)
    assert plan.tiers[1].used_after_bytes == 90 * PAGE
    assert plan.seconds == 0.0


def test_a_full_target_takes_what_its_limit_allows() -> None:
    where = situation(tier("ssd", 90, 100), tier("hdd", 85, 100), policy=policy_of(DRAIN))

    plan = make_plan(where, [candidate(n, priority=float(n)) for n in range(90)])

    assert chosen(plan) == set(range(10)), "limit is 95 %"
    assert stays(plan, "down") == {Stay.LIMIT: 30, Stay.STILL_HOT: 50}
    check_account(plan)


@pytest.mark.parametrize("missing", [True, False])
def test_a_target_that_is_away_or_read_only_takes_nothing(missing: bool) -> None:
    tiers = [tier("ssd", 90, 100)]
    if not missing:
        tiers.append(tier("hdd", 0, 100, takes_writes=False))
    where = situation(*tiers, policy=policy_of(DRAIN))

    plan = make_plan(where, [candidate(n) for n in range(90)])

    assert plan.runs == ()
    reason = Stay.LIMIT if missing else Stay.TARGET
    assert stays(plan, "down") == {reason: 90}
    check_account(plan)


def test_the_days_write_budget_ends_what_is_copied_and_not_what_is_released() -> None:
    hdd = tier("hdd", 0, 1000, write_budget_left_bytes=3 * PAGE)
    where = situation(tier("ssd", 90, 100), hdd, policy=policy_of(DRAIN))
    pages = [candidate(n, priority=float(n), shadow="hdd" if n % 2 else None) for n in range(90)]

    plan = make_plan(where, pages)

    assert len(chosen(plan, Action.DEMOTE)) == 3
    assert chosen(plan, Action.RELEASE) >= set(range(1, 40, 2))
    assert stays(plan, "down")[Stay.BUDGET] > 0
    check_account(plan)


def test_pages_without_a_copy_are_copied_in_advance_coldest_first() -> None:
    ssd = tier("ssd", 70, 100, dirty_bytes=60 * PAGE)
    where = situation(ssd, tier("hdd", 10, 100), policy=policy_of(DRAIN))
    clean = [candidate(n, priority=-5.0, shadow="hdd") for n in range(10)]
    dirty = [candidate(100 + n, priority=float(n)) for n in range(60)]

    plan = make_plan(where, clean + dirty)

    assert chosen(plan, Action.PREMIGRATE) == set(range(100, 110))
    assert stays(plan, "down") == {Stay.NOT_NEEDED: 60}
    assert plan.tiers[0].used_after_bytes == 70 * PAGE
    assert plan.tiers[1].used_after_bytes == 20 * PAGE
    check_account(plan)


def test_what_is_demoted_needs_no_copy_in_advance() -> None:
    ssd = tier("ssd", 90, 100, dirty_bytes=90 * PAGE)
    where = situation(ssd, tier("hdd", 0, 1000), policy=policy_of(DRAIN))

    plan = make_plan(where, [candidate(n, priority=float(n)) for n in range(90)])

    assert chosen(plan, Action.DEMOTE) == set(range(40))
    assert chosen(plan, Action.PREMIGRATE) == set()
    check_account(plan)


PINS = (
    '[[rule]]\nid = "pin"\nfilter = { prefix = "hot/" }\npin = "ssd"\npin_limit = "20MiB"\n' + DRAIN
)


def test_pinned_pages_stay_and_rise_as_far_as_the_limit_goes() -> None:
    where = situation(
        tier("ssd", 20, 100),
        tier("hdd", 50, 100),
        policy=policy_of(PINS),
        pinned={("pin", None): 3 * PAGE},
    )
    here = [candidate(n, key=f"hot/{n}") for n in range(3)]
    below = [candidate(100 + n, key=f"hot/{n + 10}", tier="hdd") for n in range(4)]

    plan = make_plan(where, here + below)

    assert len(chosen(plan, Action.PROMOTE)) == 2
    assert stays(plan, "pin") == {Stay.PIN: 3}
    assert stays(plan, "default") == {Stay.MANAGED: 2}
    [order, *_] = plan.iter_orders()
    assert (order.entry.rule, order.entry.plan, order.target_tier) == ("pin", "p1", "ssd")
    check_account(plan)


def test_a_pinned_page_that_was_just_demoted_rests_first() -> None:
    where = situation(tier("ssd", 20, 100), tier("hdd", 50, 100), policy=policy_of(PINS), pinned={})
    pages = [
        candidate(1, key="hot/1", tier="hdd", demoted_at=NOW - 60.0),
        candidate(2, key="hot/2", tier="hdd", demoted_at=NOW - 600.0),
        candidate(3, key="hot/3", tier="hdd", moves_today=MOVES_PER_DAY_MAX),
    ]

    plan = make_plan(where, pages)

    assert chosen(plan, Action.PROMOTE) == {2}
    assert stays(plan, "pin") == {Stay.COOLING: 1, Stay.MOVES: 1}


def test_what_is_pinned_beyond_the_limit_may_leave() -> None:
    where = situation(
        tier("ssd", 90, 100),
        tier("hdd", 0, 100),
        policy=policy_of(PINS),
        pinned={("pin", None): 12 * PAGE},
    )
    pinned = [candidate(n, key=f"hot/{n}", priority=-9.0) for n in range(12)]

    plan = make_plan(where, [*pinned, *(candidate(100 + n) for n in range(78))])

    assert len(chosen(plan) & set(range(12))) == 7
    assert stays(plan, "pin") == {Stay.PIN: 5}
    check_account(plan)


def own_pins(limit_pages: int, behind: str = "") -> tuple[Policy, Policy]:
    """A policy with a pin of five pages for all, and an overlay with one of so many within it."""
    base = policy_of(PINS)
    text = (
        'version = 1\n[[rule]]\nid = "mine"\nfilter = { prefix = "hot/" }\npin = "ssd"\n'
        f'pin_limit = "{limit_pages * PAGE}B"\n{behind}'
    )
    return base, parse_overlay(text.encode(), tenant="acme", base=base)


def test_a_page_under_an_overlays_pin_counts_for_the_pin_of_the_policy_too() -> None:
    base, own = own_pins(2)
    survey = PinSurvey(lambda tenant: own if tenant == "acme" else base)
    survey.feed([candidate(1, key="hot/1"), candidate(2, key="hot/2", tenant="other")])

    assert survey.sums() == {("mine", "acme"): PAGE, ("pin", None): 2 * PAGE}


def test_pins_of_overlays_and_policy_hold_no_more_than_the_policys_limit() -> None:
    base, own = own_pins(2)
    where = situation(
        tier("ssd", 20, 100),
        tier("hdd", 50, 100),
        policy=base,
        overlays={"acme": own},
        pinned={("pin", None): 3 * PAGE, ("mine", "acme"): PAGE},
    )
    others = [candidate(n, key=f"hot/{n}", tier="hdd", tenant="other") for n in range(3)]
    mine = [candidate(100 + n, key=f"hot/{n}", tier="hdd") for n in range(3)]

    plan = make_plan(where, mine + others)

    # One more under the overlay's own limit, one under the policy's: five are there then.
    assert len(chosen(plan, Action.PROMOTE) & {100, 101, 102}) == 2
    assert len(chosen(plan, Action.PROMOTE)) == 2
    check_account(plan)


def test_a_page_that_leaves_an_overlays_pin_leaves_the_pin_of_the_policy_too() -> None:
    managed = '[[rule]]\nid = "rest"\nmanaged = true\nfilter = { prefix = "hot/" }\n'
    base, own = own_pins(2, managed)
    where = situation(
        tier("ssd", 90, 100),
        tier("hdd", 0, 100),
        policy=base,
        overlays={"acme": own},
        pinned={("pin", None): 7 * PAGE, ("mine", "acme"): 4 * PAGE},
    )
    mine = [candidate(n, key=f"hot/{n}") for n in range(4)]
    others = [candidate(100 + n, key=f"hot/{n}", tenant="other") for n in range(3)]

    plan = make_plan(where, mine + others)

    assert stays(plan, "mine") == {Stay.PIN: 2}
    assert stays(plan, "rest") == {Stay.MANAGED: 2}
    assert stays(plan, "pin") == {Stay.PIN: 3}
    check_account(plan)


def test_pins_do_not_fill_a_tier_beyond_what_it_keeps_free() -> None:
    where = situation(
        tier("ssd", 93, 100),
        tier("hdd", 50, 100),
        policy=policy_of(PINS.replace("high = 0.8", "high = 0.94")),
        pinned={},
    )

    plan = make_plan(where, [candidate(n, key=f"hot/{n}", tier="hdd") for n in range(5)])

    assert len(chosen(plan, Action.PROMOTE)) == 2
    assert stays(plan, "pin") == {Stay.LIMIT: 3}


AGED = (
    '[[window]]\nname = "night"\ncron = "0 22 * * *"\nduration = "7h"\n'
    '[[rule]]\nid = "old"\nfilter = { tag = { keep = "cold" } }\nfrom_pool = "ssd"\n'
    'to_pool = "hdd"\ntransition_days = 30\nwindow = "night"\n'
)


def test_pages_sink_by_age_while_the_window_is_open() -> None:
    # NOW is 08:00 UTC: the window that is open is the one that began ten hours ago.
    always = AGED.replace('duration = "7h"', 'duration = "11h"')
    pages = [candidate(n, tags={"keep": "cold"}, age_s=n * 10 * DAY_S) for n in range(6)]
    tiers = (tier("ssd", 10, 100), tier("hdd", 0, 100))

    closed = make_plan(situation(*tiers, policy=policy_of(AGED)), pages)
    opened = make_plan(situation(*tiers, policy=policy_of(always)), pages)

    assert stays(closed, "old") == {Stay.TOO_YOUNG: 3, Stay.WINDOW: 3}
    assert chosen(opened, Action.DEMOTE) == {3, 4, 5}
    assert stays(opened, "old") == {Stay.TOO_YOUNG: 3}


def test_shadows_of_the_hottest_pages_make_room_on_a_slow_tier_above_its_limit() -> None:
    where = situation(tier("ssd", 50, 100), tier("hdd", 98, 100), policy=policy_of(DRAIN))

    plan = make_plan(where, [candidate(n, priority=float(n), shadow="hdd") for n in range(50)])

    assert chosen(plan, Action.DROP_SHADOW) == {47, 48, 49}
    assert plan.tiers[1].used_after_bytes == 95 * PAGE
    assert {order.target_tier for order in plan.iter_orders()} == {"ssd"}
    check_account(plan)


def test_an_overlay_speaks_for_its_tenant_alone() -> None:
    base = policy_of(DRAIN)
    sooner = (
        b'version = 1\n[[rule]]\nid = "mine"\nfrom_pool = "ssd"\nto_pool = "hdd"\n'
        b"threshold = { high = 0.2, low = 0.1, premigrate = 0.1 }\n"
    )
    overlay = parse_overlay(sooner, tenant="beta", base=base)
    where = situation(
        tier("ssd", 60, 100), tier("hdd", 0, 100), policy=base, overlays={"beta": overlay}
    )
    pages = [candidate(n, tenant="beta" if n < 20 else "acme") for n in range(60)]

    plan = make_plan(where, pages)

    assert chosen(plan) == set(range(20))
    [mine] = [item for item in plan.rules if item.rule == "mine"]
    assert mine.overlay == "beta"
    assert [item.overlay for item in plan.rules if item.rule == "down"] == [None]
    check_account(plan)


def test_a_policy_that_would_move_everything_is_said_and_spares_the_young() -> None:
    text = DRAIN.replace("0.8", "0.002").replace("low = 0.5, premigrate = 0.5", "low = 0.001")
    where = situation(tier("ssd", 90, 100), tier("hdd", 0, 1000), policy=policy_of(text))
    pages = [candidate(n, age_s=60.0 if n < 5 else DAY_S) for n in range(90)]

    plan = make_plan(where, pages)

    assert plan.chosen_pages == 85
    assert stays(plan, "down") == {Stay.MIN_AGE: 5}
    assert any("94% of what is on ssd would leave it" in text for text in plan.warnings)


def test_a_plan_holds_so_many_pages_and_says_that_there_are_more() -> None:
    where = situation(tier("ssd", 90, 100), tier("hdd", 0, 1000), policy=policy_of(DRAIN))

    plan = make_plan(where, [candidate(n, priority=float(-n)) for n in range(90)], moves_max=8)

    assert chosen(plan) == set(range(82, 90))
    assert stays(plan, "down")[Stay.PLAN_FULL] > 0
    assert plan.warnings == ("a plan holds 8 pages: there is more to do after it",)
    check_account(plan)


def test_runs_are_what_the_slow_tier_writes_in_one_piece_in_the_order_of_names() -> None:
    where = situation(tier("ssd", 90, 100), tier("hdd", 0, 100), policy=policy_of(DRAIN))
    pages = [candidate(n, key=f"{(n * 37) % 90:03}", page_index=n % 2) for n in range(90)]
    names = {page.page_id: (page.owner.key, page.page_index) for page in pages}

    plan = make_plan(where, pages)

    assert [len(run.orders) for run in plan.runs] == [16, 16, 8]
    order = [names[item.page_id] for item in plan.iter_orders()]
    assert order == sorted(order)
    assert plan.runs[0].copied_bytes == 64 << 20


def test_a_run_of_small_pages_is_cut_by_their_number() -> None:
    count = RUN_ORDERS_MAX + 10
    total = count * 4096
    where = situation(
        tier("ssd", 0, 0, used_bytes=total, total_bytes=total),
        tier("hdd", 0, 100),
        policy=policy_of(DRAIN),
    )

    plan = make_plan(where, [candidate(n, size=4096, shadow="hdd") for n in range(count)])

    assert max(len(run.orders) for run in plan.runs) <= RUN_ORDERS_MAX


def test_time_at_budget_is_the_sum_over_the_hops_or_unknown() -> None:
    rates = {("ssd", "hdd"): float(PAGE)}
    tiers = (tier("ssd", 90, 100), tier("hdd", 0, 100))
    pages = [candidate(n) for n in range(90)]

    known = make_plan(situation(*tiers, policy=policy_of(DRAIN), rates=rates), pages)
    unknown = make_plan(situation(*tiers, policy=policy_of(DRAIN)), pages)

    assert known.seconds == 40.0
    assert unknown.seconds is None
    assert known.tiers[1].drive_writes == 0.4


def test_time_at_budget_counts_the_movements_of_an_arm() -> None:
    rate = float(PAGE)
    rates = {("ssd", "hdd"): rate / 2, ("hdd", "ssd"): rate}
    where = situation(
        tier("ssd", 20, 100), tier("hdd", 50, 100), policy=policy_of(PINS), pinned={}, rates=rates
    )
    where = replace(where, arm=ArmPace(tier="hdd", bytes_per_s=rate))

    def below(*offsets: int) -> list[Candidate]:
        return [
            candidate(
                n,
                key=f"hot/{n}",
                tier="hdd",
                size=8192,
                place=Extent(
                    volume_id=VolumeId(2),
                    segment_id=SegmentId(1),
                    offset=offset,
                    length_bytes=8192,
                ),
            )
            for n, offset in enumerate(offsets)
        ]

    scattered = make_plan(where, below(1 << 20, 1 << 30, 1 << 25))
    adjacent = make_plan(where, below(8192, 0, 16_384))

    assert scattered.seconds == pytest.approx(3 * SEEK_BYTES / rate)
    assert adjacent.seconds == pytest.approx(SEEK_BYTES / rate)


def test_an_arm_writes_a_run_in_one_movement() -> None:
    rate = float(PAGE)
    where = situation(
        tier("ssd", 90, 100),
        tier("hdd", 0, 100),
        policy=policy_of(DRAIN),
        rates={("ssd", "hdd"): rate / 2},
    )
    pages = [candidate(n) for n in range(90)]

    plain = make_plan(where, pages)
    armed = make_plan(replace(where, arm=ArmPace(tier="hdd", bytes_per_s=rate)), pages)

    assert armed.seconds == plain.seconds == 80.0


@pytest.mark.parametrize("seed", range(30))
def test_any_mixture_is_accounted_for_and_repeats_itself(seed: int) -> None:
    random = Random(seed)
    # Which pages a pin with a limit holds depends on the order in which they come.
    has_pins = seed % 2 == 0
    text = AGED.replace('duration = "7h"', 'duration = "11h"') + (PINS if has_pins else DRAIN)
    pages: list[Candidate] = []
    for number in range(400):
        place = random.choice(["ssd", "hdd"])
        pages.append(
            candidate(
                number,
                priority=random.uniform(-5, 5),
                tier=place,
                size=4096 * random.randint(1, 1024),
                age_s=random.choice([60.0, 5 * DAY_S, 50 * DAY_S]),
                key=random.choice(["hot/", "x/"]) + str(number),
                tags=random.choice([None, {"keep": "cold"}]),
                shadow="hdd" if place == "ssd" and random.random() < 0.5 else None,
                is_in_flight=random.random() < 0.1,
                moves_today=random.choice([0, 0, 4]),
            )
        )
    dirty = sum(p.size_bytes for p in pages if p.tier == "ssd" and p.shadow_tier is None)
    where = situation(
        tier("ssd", random.randint(60, 100), 100, dirty_bytes=dirty),
        tier("hdd", random.randint(60, 100), 100),
        policy=policy_of(text),
        pinned={("pin", None): random.randint(0, 10) * PAGE},
    )

    plan = make_plan(where, pages)

    check_account(plan)
    limit = 0.95 * 100 * PAGE
    for forecast in plan.tiers:
        assert forecast.used_after_bytes <= max(forecast.used_before_bytes, limit)
    again = list(pages)
    random.shuffle(again)
    if not has_pins:
        assert chosen(make_plan(where, again)) == chosen(plan)
