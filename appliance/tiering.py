"""Puts together what moves pages, below the composition root. See `appliance.assembly`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.catalog.move_ledger import SqlMoveLedger
from tiers.mover import Mover

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appliance.assembly import Core
    from tiers.move_items import Throttle
    from tiers.records import StoredPage

__all__ = ["make_mover"]


def make_mover(
    core: Core,
    *,
    tier_order: Sequence[str],
    on_suspect: Callable[[StoredPage], None],
    throttle: Throttle | None = None,
) -> Mover:
    """What moves the core's pages.

    Args:
        core: What it works on.
        tier_order: Tier names, fastest first.
        on_suspect: Told of bad records; must not block or raise.
        throttle: Asked before every transfer; None lets all of them begin at once.
    """
    return Mover(
        core.store,
        SqlMoveLedger(core.catalog),
        buffers=core.buffers.large,
        tier_order=tier_order,
        now_us=core.clock.now_us,
        throttle=throttle,
        on_suspect=on_suspect,
    )
