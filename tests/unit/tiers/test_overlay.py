"""A tenant's overlay narrows the policy and nothing else."""

from __future__ import annotations

import pytest

from tests.unit.tiers.policies import FULL
from tiers.errors import PolicyInvalid
from tiers.overlay import parse_overlay
from tiers.policy import RuleFacts, evaluate
from tiers.policy_file import parse_policy

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


def test_a_pin_within_the_policys_own_is_narrow() -> None:
    text = (
        VERSION
        + '[[rule]]\nid = "a"\nfilter = { bucket = "db", tenant = "acme", prefix = "wal/x" }\n'
        + 'pin = "ssd"\npin_limit = "10GiB"\n'
        + '[[rule]]\nid = "b"\nfilter = { prefix = "cold/" }\npin = "hdd"\n'
    )
    made = parse_overlay(text.encode(), tenant="acme", base=BASE)

    assert [rule.id for rule in made.rules[:2]] == ["a", "b"]
