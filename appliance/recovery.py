"""What a start does beyond opening when the last end was not a clean one.

Before anything is served: the newest records of every volume are compared with the catalog
(`tiers.recheck`). Afterwards, beside the serving: usage as counted is compared with what the rows
add up to. Nothing is corrected here; what is found is logged, counted and left to the operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from appliance.catalog.check import check_usage
from appliance.catalog.errors import CatalogError
from appliance.catalog.scrub_ledger import SqlScrubLedger
from tiers.errors import LedgerUnavailable
from tiers.recheck import Recheck, RecheckReport

if TYPE_CHECKING:
    from appliance.assembly import Core
    from appliance.settings import RecoverySettings
    from hal.errors import HalError
    from hal.records import VolumeId
    from tiers.scrubber import Scrubber

__all__ = ["Recovery", "RecoveryStatistics"]

_log = structlog.get_logger("recovery")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryStatistics:
    """What this start found; all zero after a clean end.

    Attributes:
        recheck: The newest records.
        usage_findings: Tenants and buckets whose counts are not what their rows add up to.
    """

    recheck: RecheckReport
    usage_findings: int


class Recovery:
    """The recovery of one start. Each method is called at most once, `recheck` before any reclaim.

    Args:
        core: What was opened; its catalog is running.
        scrubber: Loaded; takes the pages that fail.
        settings: How much is looked at.
    """

    def __init__(self, core: Core, scrubber: Scrubber, settings: RecoverySettings) -> None:
        self._core = core
        self._usage_findings = 0
        self._recheck = Recheck(
            core.store,
            SqlScrubLedger(core.catalog),
            scrubber,
            boot_epoch=core.boot_epoch,
            bytes_max=settings.recheck_bytes,
            period_us=round(settings.recheck_period_s * 1_000_000),
            now_us=core.clock.now_us,
            on_failure=_report_failure,
        )

    async def recheck(self) -> None:
        """Compare the newest records with the catalog. Bad pages are set aside, none are served.

        A catalog that cannot say what was written last, or has no room to note what was found, does
        not keep the server from serving; the next start looks again.
        """
        began = self._core.clock.monotonic()
        try:
            await self._recheck.run()
        except LedgerUnavailable as error:
            _log.warning("recheck_ended_early", error=str(error))
        report = self._recheck.statistics()
        tell = _log.warning if report.bad_pages or report.failures else _log.info
        tell(
            "recheck_ended",
            pages=report.pages,
            bytes=report.checked_bytes,
            bad=report.bad_pages,
            revived=report.revived_pages,
            seconds=round(self._core.clock.monotonic() - began, 3),
        )

    async def compare_usage(self) -> None:
        """Hold the counts of bytes, objects and uploads against the rows, in one snapshot."""
        try:
            findings = await self._core.catalog.read(check_usage)
        except CatalogError as error:
            # Whoever serves meets the same error and answers for it; this was only a look.
            _log.warning("usage_not_compared", error=str(error))
            return
        self._usage_findings = len(findings)
        for finding in findings:
            _log.warning("usage_differs", subject=finding.subject, detail=finding.detail)
        _log.info("usage_compared", findings=len(findings))

    def statistics(self) -> RecoveryStatistics:
        """What was found so far."""
        return RecoveryStatistics(
            recheck=self._recheck.statistics(), usage_findings=self._usage_findings
        )


def _report_failure(volume_id: VolumeId, error: HalError) -> None:
    _log.warning("recheck_failed", volume=volume_id, error=str(error))
