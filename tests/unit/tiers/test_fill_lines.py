"""How far a tier may be filled by the order of a rule."""

from __future__ import annotations

import pytest

from tests.unit.tiers.candidates import PAGE, policy_of, tier
from tiers.decisions import Action
from tiers.fill_lines import find_line, find_room
from tiers.move_records import MoveEntry, MoveOrder
from tiers.overlay import parse_overlay
from tiers.plan_desk import Policies
from tiers.records import PageId

BASE = policy_of(
    '[[rule]]\nid = "pin"\nfilter = { prefix = "hot/" }\npin = "ssd"\npin_limit = "20MiB"\n'
    '[[rule]]\nid = "down"\nfrom_pool = "ssd"\nto_pool = "hdd"\nlimit = 0.7\n'
    "threshold = { high = 0.8, low = 0.5, premigrate = 0.5 }\n"
    '[[rule]]\nid = "up"\nfrom_pool = "hdd"\nto_pool = "ssd"\nstop_above = 0.9\n'
)
OVERLAY = parse_overlay(
    b'version = 1\n[[rule]]\nid = "lower"\nfrom_pool = "ssd"\nto_pool = "hdd"\nlimit = 0.6\n'
    b"threshold = { high = 0.8, low = 0.5, premigrate = 0.5 }\n",
    tenant="acme",
    base=BASE,
)
POLICIES = Policies(policy=BASE, overlays={"acme": OVERLAY}, digest=b"", is_active=True)


def order_of(rule: str, target: str) -> MoveOrder:
    entry = MoveEntry(action=Action.DEMOTE, rule=rule, reason="test")
    return MoveOrder(page_id=PageId(1), target_tier=target, entry=entry)


@pytest.mark.parametrize(
    ("rule", "target", "line"),
    [
        ("down", "hdd", 0.7),
        ("lower", "hdd", 0.6),
        ("up", "ssd", 0.9),
        ("pin", "ssd", 0.95),
        ("of an earlier policy", "hdd", 0.95),
    ],
)
def test_each_rule_has_its_line(rule: str, target: str, line: float) -> None:
    assert find_line(POLICIES, order_of(rule, target)) == line


def test_the_room_is_what_is_left_to_the_line_and_of_the_day() -> None:
    order = order_of("down", "hdd")

    free = find_room(POLICIES, order, tier("hdd", 40, 100))
    over = find_room(POLICIES, order, tier("hdd", 80, 100))
    spent = find_room(POLICIES, order, tier("hdd", 40, 100, write_budget_left_bytes=PAGE))

    assert free == pytest.approx(30 * PAGE)
    assert over == pytest.approx(-10 * PAGE)
    assert spent == PAGE
