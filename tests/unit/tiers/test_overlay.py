"""A tenant's overlay narrows the policy and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.unit.tiers.policies import FULL
from tiers.errors import PolicyInvalid
from tiers.overlay import parse_overlay
from tiers.policy import RuleFacts, evaluate
from tiers.policy_file import parse_policy
from tiers.policy_rules import check_rules

if TYPE_CHECKING:
    from tiers.toml_positions import Path

BASE = parse_policy(
    FULL.replace('filter = { tag = { retention = "hot" } }\n', "")
    .replace("transition_days = 90\n", "exclude = true\n")
    .replace('from_pool = "ssd"\nto_pool = "hdd"\nexclude', "exclude")
    .replace('window = "night"\n', "")
    .encode()
).policy
VERSION = "version = 1\n"
MOVE_UP = '[[rule]]\nid = "mine"\nfrom_pool = "hdd"\nto_pool = "ssd"\n'
MOVE_DOWN = '[[rule]]\nid = "mine"\nfrom_pool = "ssd"\nto_pool = "hdd"\n'


def refusals(text: str, tenant: str = "acme") -> list[str]:
    with pytest.raises(PolicyInvalid) as caught:
        parse_overlay((VERSION + text).encode(), tenant=tenant, base=BASE, file="o")
    return str(caught.value).splitlines()


def test_the_rules_of_an_overlay_come_first_and_for_its_tenant_only() -> None:
    text = (
        VERSION
        + '[[rule]]\nid = "keep"\nfilter = { bucket = "b", tenant = "acme" }\nexclude = true\n'
    )
    made = parse_overlay(text.encode(), tenant="acme", base=BASE)

    own = evaluate(made, RuleFacts(tier="ssd", tenant="acme", bucket="b"))
    others = evaluate(made, RuleFacts(tier="ssd", tenant="other", bucket="b"))

    assert (own.rise.id, own.sink.id) == ("keep", "keep")
    assert (others.rise.id, others.sink.id) == ("default", "demote")


def test_an_overlay_may_lower_budget_and_appetite() -> None:
    text = (
        VERSION
        + '[budget]\nssd_write_bytes_per_sec = "20MiB"\n'
        + 'hdd_bytes_per_sec = "10MiB"\nmax_inflight = 2\n'
        + MOVE_UP
        + "insertion_threshold = 3\nhysteresis = 1.0\nstop_above = 0.88\n"
    )
    made = parse_overlay(text.encode(), tenant="acme", base=BASE)

    assert made.budget.ssd_write_bytes_per_s == 20 << 20
    assert made.budget.hdd_bytes_per_s == 10 << 20
    promote = evaluate(made, RuleFacts(tier="hdd", tenant="acme")).promote
    assert promote is not None
    assert promote.insertion_threshold == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[[rule]]\nid = "a"\nfilter = { tenant = "other" }\nexclude = true\n',
            "o:4:21: rule[1].filter.tenant: an overlay cannot name another tenant",
        ),
        (
            '[budget]\nssd_write_bytes_per_sec = "1GiB"\n',
            "an overlay may only lower it; the policy has 209715200",
        ),
        ('[budget]\nhdd_bytes_per_sec = "unlimited"\n', "an overlay may only lower it"),
        ('[budget]\nssd_write_bytes_per_sec = "auto"\n', "an overlay may only lower it"),
        ("[budget]\nmax_inflight = 5\n", "the policy has 4"),
        ("[budget]\nforeground_p99_slowdown_max = 1.5\n", "the policy has 1.05"),
        ('[heat]\nhalf_life = "1d"\n', "o:2:1: heat: is the appliance's alone"),
        ('[[tier]]\nname = "ssd"\n', "tier: is the appliance's alone"),
        ('[[rule]]\nid = "a"\npin = "ssd"\n', "only within a pin on ssd that the policy gives"),
        (
            (
                '[[rule]]\nid = "a"\n'
                'filter = { bucket = "db", tenant = "acme", prefix = "wal/x" }\n'
                'pin = "ssd"\npin_limit = "201GiB"\n'
            ),
            "only within a pin on ssd",
        ),
        (MOVE_UP + "insertion_threshold = 1\n", "insertion_threshold: an overlay may only narrow"),
        (MOVE_UP + "insertion_threshold = 2\nhysteresis = 0.1\n", "hysteresis: an overlay may"),
        (
            MOVE_UP + 'insertion_threshold = 2\nstop_above = 0.9\nghost = "3x"\n',
            "ghost: an overlay",
        ),
        (MOVE_UP + "insertion_threshold = 2\nstop_above = 0.91\n", "stop_above: an overlay may"),
        (MOVE_DOWN + "threshold = { high = 0.9 }\n", "threshold: an overlay may only narrow"),
        (
            MOVE_DOWN + 'threshold = { high = 0.8, low = 0.7 }\nmin_age = "2h"\n',
            "min_age: an overlay may only narrow: at most 3600 s",
        ),
        ('[[rule]]\nid = "tmp"\nexclude = true\n', "the policy has a rule tmp"),
        ("[[rule]]\n", "rule[1].id: is required"),
    ],
)
def test_what_widens_is_refused(text: str, message: str) -> None:
    assert any(message in line for line in refusals(text)), refusals(text)


def test_an_overlay_promotes_nothing_that_the_policy_does_not() -> None:
    base = parse_policy(FULL.encode()).policy
    wide = MOVE_UP + "insertion_threshold = 2\nstop_above = 0.88\n"
    narrow = wide.replace("from_pool", 'filter = { tag = { retention = "hot" } }\nfrom_pool')

    parse_overlay((VERSION + narrow).encode(), tenant="acme", base=base)
    with pytest.raises(PolicyInvalid, match="matches pages that rule promote of the policy does"):
        parse_overlay((VERSION + wide).encode(), tenant="acme", base=base)


def test_a_managed_rule_with_a_filter_is_kept_and_the_end_is_not() -> None:
    text = (
        '[[rule]]\nid = "stay"\nfilter = { prefix = "s/" }\nmanaged = true\n'
        '[[rule]]\nid = "end"\nmanaged = true\n'
    )
    made = parse_overlay((VERSION + text).encode(), tenant="acme", base=BASE)

    facts = RuleFacts(tier="ssd", tenant="acme", key="s/1")
    assert evaluate(made, facts).sink.id == "stay"
    assert [rule.id for rule in made.rules].count("end") == 0


def test_a_contradiction_is_named_where_the_overlay_has_it() -> None:
    stay = '[[rule]]\nid = "stay"\nfilter = { prefix = "s/" }\nmanaged = true\n'
    down = MOVE_DOWN + "threshold = { high = 0.5, low = 0.4, premigrate = 0.3 }\n"
    up = MOVE_UP.replace("mine", "up") + "insertion_threshold = 2\nstop_above = 0.4\n"

    [first, second] = refusals(stay + down + up)

    assert first.startswith("o:16:14: rule[3].stop_above: 0.4 must be above high of rule mine")
    assert second.startswith("o:16:14: rule[3].stop_above: 0.4 must be above high of rule demote")


def test_a_rule_of_the_policy_that_an_overlay_contradicts_is_named_by_its_id() -> None:
    text = (
        '[[rule]]\nid = "down"\nfilter = { prefix = "a/" }\nfrom_pool = "ssd"\nto_pool = "hdd"\n'
        '[[rule]]\nid = "up"\nfilter = { prefix = "b/" }\nfrom_pool = "hdd"\nto_pool = "ssd"\n'
        'stop_above = 0.5\n[[rule]]\nid = "default"\nmanaged = true\n'
    )
    base = parse_policy((VERSION + text).encode()).policy

    with pytest.raises(PolicyInvalid) as caught:
        parse_overlay((VERSION + MOVE_DOWN).encode(), tenant="acme", base=base, file="o")

    expected = "rule: rule up of the policy, stop_above: 0.5 must be above high of rule mine (0.95)"
    assert expected in str(caught.value)


def test_a_pin_within_the_policys_own_is_narrow() -> None:
    text = (
        VERSION
        + '[[rule]]\nid = "a"\nfilter = { bucket = "db", tenant = "acme", prefix = "wal/x" }\n'
        + 'pin = "ssd"\npin_limit = "10GiB"\n'
        + '[[rule]]\nid = "b"\nfilter = { prefix = "cold/" }\npin = "hdd"\n'
    )
    made = parse_overlay(text.encode(), tenant="acme", base=BASE)

    assert [rule.id for rule in made.rules[:2]] == ["a", "b"]


def test_what_the_policy_keeps_where_it_is_an_overlay_does_not_move() -> None:
    up = MOVE_UP + "insertion_threshold = 3\nstop_above = 0.88\nhysteresis = 1.0\n"
    marks = "threshold = { high = 0.8, low = 0.7, premigrate = 0.6 }\n"
    text = VERSION + up + MOVE_DOWN.replace("mine", "down") + marks
    made = parse_overlay(text.encode(), tenant="acme", base=BASE)

    kept = RuleFacts(tier="hdd", tenant="acme", key="tmp/a", object_bytes=8 << 20)
    free = RuleFacts(tier="hdd", tenant="acme", key="a", object_bytes=8 << 20)

    assert evaluate(made, kept).rise.id == "tmp"
    assert evaluate(made, replace(kept, tier="ssd")).sink.id == "tmp"
    assert evaluate(made, free).rise.id == "mine"
    assert evaluate(made, replace(free, tier="ssd")).sink.id == "down"


class Faults:
    """What `check_rules` notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def refuse(self, path: Path, rule: str, *, at_value: bool = False) -> None:
        del path, at_value
        self.lines.append(rule)

    def warn(self, path: Path, rule: str) -> None:
        del path
        self.lines.append(rule)


def test_a_pin_within_the_policys_adds_nothing_to_the_sum_of_pins() -> None:
    text = (
        VERSION
        + '[[rule]]\nid = "mine"\nfilter = { tenant = "acme", bucket = "db", prefix = "wal/" }\n'
        + 'pin = "ssd"\npin_limit = "150GiB"\n'
    )
    made = parse_overlay(text.encode(), tenant="acme", base=BASE)
    tiers = {tier.name: tier for tier in made.tiers}
    faults = Faults()

    # 200 GiB are four fifths of 250; counted twice, the pages would be 350.
    check_rules(made.rules, tiers, faults, tier_bytes={"ssd": 250 << 30, "hdd": 1 << 50})

    assert faults.lines == []


def test_a_pin_that_comes_before_an_overlays_moves_is_the_policys_own() -> None:
    down = '[[rule]]\nid = "down"\nfilter = { prefix = "low/" }\npin = "hdd"\npin_limit = "1GiB"\n'
    move = MOVE_UP.replace("mine", "promote") + MOVE_DOWN.replace("mine", "demote")
    end = '[[rule]]\nid = "default"\nmanaged = true\n'
    base = parse_policy((VERSION + down + move + end).encode()).policy
    made = parse_overlay((VERSION + MOVE_UP).encode(), tenant="acme", base=base)

    pin = evaluate(made, RuleFacts(tier="hdd", tenant="acme", key="low/1")).pin

    assert pin is not None
    assert pin.within == base.rules[0]
