"""What parts tell of, as lines of the log: they know events, and nothing of a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from tiers.volume_scrub import ScrubEvent, ScrubEventKind

if TYPE_CHECKING:
    from hal.errors import HalError
    from tiers.errors import LedgerUnavailable

__all__ = [
    "report_copy",
    "report_policy_failure",
    "report_reclaim_failure",
    "report_scrub",
    "report_stall",
    "report_warning",
]

SCRUB_ALARMS = frozenset(
    {
        ScrubEventKind.PAGE_QUARANTINED,
        ScrubEventKind.PAGE_REPAIRED,
        ScrubEventKind.SHADOW_DROPPED,
        ScrubEventKind.DEVICE_UNREADABLE,
        ScrubEventKind.LEDGER_UNAVAILABLE,
    }
)

_log = structlog.get_logger("runtime")


def report_stall(seconds: float) -> None:
    """The event loop was held up."""
    _log.warning("event_loop_held_up", seconds=round(seconds, 3))


def report_reclaim_failure(error: HalError | LedgerUnavailable) -> None:
    """Dead bytes could not be given back; it is tried again."""
    _log.warning("reclaim_failed", error=str(error))


def report_policy_failure(failure: str) -> None:
    """A revision of the policy could not be taken into force."""
    _log.warning("policy_not_in_force", reason=failure)


def report_scrub(event: ScrubEvent) -> None:
    """What the scrub found or did: a warning where somebody should look."""
    tell = _log.warning if event.kind in SCRUB_ALARMS else _log.info
    if event.page is None:
        tell(event.kind.value, volume=event.volume_id, detail=event.detail)
        return
    tell(
        event.kind.value,
        volume=event.volume_id,
        detail=event.detail,
        body=f"{event.page.body_id:#x}",
        page=event.page.page_index,
        extent=str(event.page.extent),
    )


def report_warning(event: str, fields: dict[str, object]) -> None:
    """Something an operator should know, in the words of the part itself."""
    _log.warning(event, **fields)


def report_copy(event: str, fields: dict[str, object]) -> None:
    """A copy of the catalog was made, or was not."""
    tell = _log.info if event == "catalog_copied" else _log.warning
    tell(event, **fields)
