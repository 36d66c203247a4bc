"""A check that cannot fail proves nothing: each broken rule is found by some seed.

`tests.simulation.seeded.sabotage` lists the rules; the bound of the durability issue is 2,000 seeds
for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy.exc import IntegrityError

from appliance.catalog.errors import CatalogError
from hal.errors import HalError
from tests.simulation.seeded.sabotage import SABOTAGES, Sabotage
from tests.simulation.seeded.voyage import SeedFailed, run_seed

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS_MAX = 2_000
# What a broken rule ends in, a constraint of the catalog's tables among it: no place dies twice.
# Anything else is a mistake of the sabotage itself.
CAUGHT = (AssertionError, HalError, CatalogError, IntegrityError)


def test_twenty_rules_at_least_are_broken_each_once() -> None:
    assert len({sabotage.name for sabotage in SABOTAGES}) == len(SABOTAGES) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.name)
def test_a_broken_rule_is_found(
    sabotage: Sabotage, record_property: Callable[[str, object], None]
) -> None:
    failure = _find_failure(sabotage)

    assert failure is not None, f"{SEEDS_MAX} seeds did not find: {sabotage.breaks}"
    assert isinstance(failure.cause, CAUGHT), failure
    record_property("found_by_seed", failure.seed)


def _find_failure(sabotage: Sabotage) -> SeedFailed | None:
    with sabotage.applied():
        for seed in range(SEEDS_MAX):
            try:
                run_seed(seed, sabotage.options)
            except SeedFailed as failure:
                return failure
    return None
