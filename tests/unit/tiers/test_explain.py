"""What is said of one page is what the planner would do with it."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

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
from tiers.decisions import Action, PromotionFacts
from tiers.explain import Outlook, explain_page
from tiers.plan_records import Candidate, Situation, Stay
from tiers.tiering_views import PageHeat

if TYPE_CHECKING:
    from tiers.policy import Policy

DRAIN = (
    '[[rule]]\nid = "down"\nfrom_pool = "ssd"\nto_pool = "hdd"\n'
    "threshold = { high = 0.8, low = 0.5, premigrate = 0.5 }\n"
)
UP = '[[rule]]\nid = "up"\nfrom_pool = "hdd"\nto_pool = "ssd"\n'
SSD = tier("ssd", 90, 100, cut=3.0)
HDD = tier("hdd", 0, 100)
HEAT = PageHeat(heat=2.0, percentile=0.371)


def explain(
    page: Candidate, *, policy: str = DRAIN, where: Situation | None = None, heat: PageHeat = HEAT
) -> Outlook:
    made: Policy = policy_of(policy)
    return explain_page(
        page, heat, where or situation(SSD, HDD, policy=made), format_time=lambda s: f"<{s:.0f}>"
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_decision_is_the_planners_for_every_page(seed: int) -> None:
    random = Random(seed)
    pages = [
        candidate(
            number,
            priority=random.uniform(-5, 5),
            age_s=random.choice([60.0, DAY_S]),
            shadow=random.choice([None, "hdd"]),
            moves_today=random.choice([0, 4]),
            is_in_flight=random.random() < 0.1,
        )
        for number in range(300)
    ]
    ssd = tier("ssd", 290, 320)
    plan = make_plan(situation(ssd, tier("hdd", 0, 900), policy=policy_of(DRAIN)), pages)
    leaving = {
        order.page_id: order.entry.action
        for order in plan.iter_orders()
        if order.entry.action in {Action.DEMOTE, Action.RELEASE}
    }
    assert leaving
    cut = max(page.priority for page in pages if page.page_id in leaving)
    stands = situation(replace(ssd, cut=cut), tier("hdd", 0, 900), policy=policy_of(DRAIN))

    for page in pages:
        outlook = explain(page, where=stands)
        expected = leaving.get(page.page_id, Action.STAY)
        assert outlook.found.action is expected, (page, outlook)


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        (
            candidate(1, priority=4.5),
            (
                "stays: priority 4.50 (p37) is above the cut line 3.00 of ssd; it sinks once it is"
                " not (rule down)"
            ),
        ),
        (
            candidate(1, priority=1.0),
            "leaves next, to hdd: priority 1.00 (p37) is not above the cut line 3.00 (rule down)",
        ),
        (
            candidate(1, priority=1.0, age_s=600.0),
            f"stays: it was written less than min_age ago, until <{NOW + 3000:.0f}> (rule down)",
        ),
        (
            candidate(1, priority=1.0, arrived_at=NOW - 60.0),
            (
                "stays: it was promoted less than min_residency ago,"
                f" until <{NOW + 540:.0f}> (rule down)"
            ),
        ),
        (
            candidate(1, priority=1.0, moves_today=4),
            "stays: it was copied as often as a page may be in a day (rule down)",
        ),
        (
            candidate(1, is_in_flight=True),
            "stays: it is being moved right now (rule down)",
        ),
        (candidate(1, tier="hdd"), "stays: no rule moves it (rule default)"),
    ],
)
def test_a_page_is_told_of_in_one_sentence(page: Candidate, sentence: str) -> None:
    assert explain(page).sentence == sentence


def test_a_tier_with_room_says_from_when_on_pages_leave() -> None:
    policy = policy_of(DRAIN)
    where = situation(tier("ssd", 40, 100, dirty_bytes=60 * PAGE), HDD, policy=policy)

    sentence = explain(candidate(1, priority=-math.inf), where=where).sentence

    assert sentence == (
        "stays: ssd is 40.0% full, and its coldest pages leave from 80.0% on until it is at 50.0%;"
        " the coldest are copied in advance; its priority none (p37) (rule down)"
    )


def test_what_a_read_would_do_is_said_of_a_page_below() -> None:
    page = candidate(1, tier="hdd", priority=1.0)
    facts = PromotionFacts(priority=3.2, size_bytes=PAGE, touches=1, is_known=True)
    stands = situation(replace(SSD, used_bytes=96 * PAGE), HDD, policy=policy_of(UP))

    cold = explain(page, where=stands, heat=replace(HEAT, as_read=facts))
    hot = explain(page, where=stands, heat=replace(HEAT, as_read=replace(facts, priority=4.0)))
    rests = explain(
        page,
        where=stands,
        heat=replace(HEAT, as_read=replace(facts, priority=4.0, demoted_at=NOW - 60.0)),
    )
    silent = explain(page, where=stands)

    assert cold.sentence == (
        "stays: a read now would leave it here: not hotter than the cut line by the hysteresis"
        " (priority 3.20, needed 3.38) (rule up)"
    )
    assert hot.sentence.startswith("stays: the next read brings it to ssd: hotter than the cut")
    assert hot.as_read is not None
    assert hot.as_read.is_move
    assert rests.sentence.endswith(
        f"demoted less than cooling ago, until <{NOW + 540:.0f}> (rule up)"
    )
    assert silent.sentence == "stays: it may rise to ssd when it is read (rule up)"
    assert cold.cut == 3.0


def test_pins_exclusions_and_ages_are_said() -> None:
    text = (
        '[[rule]]\nid = "pin"\nfilter = { prefix = "p/" }\npin = "ssd"\npin_limit = "1GiB"\n'
        '[[rule]]\nid = "no"\nfilter = { prefix = "n/" }\nexclude = true\n'
        '[[rule]]\nid = "old"\nfilter = { prefix = "o/" }\nfrom_pool = "ssd"\nto_pool = "hdd"\n'
        "transition_days = 30\n"
    )

    def say(key: str, **fields: object) -> str:
        page = replace(candidate(1, key=key), **fields)  # type: ignore[arg-type]
        return explain(page, policy=text).sentence

    assert say("p/1") == "stays: it is pinned here (rule pin)"
    assert say("p/1", tier="hdd") == (
        "rises next, to ssd: its rule says so, whatever its heat (rule pin)"
    )
    assert say("n/1") == "stays: its rule excludes it from moves (rule no)"
    assert say("o/1").startswith("stays: its object is younger than transition_days, until <")
    old = explain(candidate(1, key="o/1", age_s=40 * DAY_S), policy=text)
    assert old.sentence == "leaves next, to hdd: its rule says so, whatever its heat (rule old)"
    assert old.found.stay is None


def test_a_target_that_is_away_is_said() -> None:
    policy = policy_of(DRAIN)
    where = situation(SSD, replace(HDD, takes_writes=False), policy=policy)

    outlook = explain(candidate(1, priority=0.0), where=where)

    assert outlook.found.stay is Stay.TARGET
    assert outlook.sentence == "stays: the tier it would go to takes no writes (rule down)"
