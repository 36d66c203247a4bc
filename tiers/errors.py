"""What placement and reclaim can answer other than yes.

TierError
NoRoom(wanted_bytes)       no tier can take the record; reads and deletes go on
PageLost(page, reason)     no copy of the page passes its checks; its bytes are never served
LedgerUnavailable(reason)  the ledger cannot answer now: work in the background waits and goes on
  LedgerRefused            the same, and nothing of the change was made
PolicyInvalid(faults)      a policy file breaks rules; each fault has line, column and key
PlanMissing(plan_id)       no such plan is kept
PlanBusy                   another plan is being made
PlanStale(reason)          things are too far from what a plan was made for
TraceInvalid(reason)       a file with recorded accesses cannot be read as what it is said to be
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiers.records import StoredPage

__all__ = [
    "LedgerRefused",
    "LedgerUnavailable",
    "NoRoom",
    "PageLost",
    "PlanBusy",
    "PlanMissing",
    "PlanStale",
    "PolicyFault",
    "PolicyInvalid",
    "TierError",
    "TraceInvalid",
]


class TierError(Exception):
    """Base of every error that `tiers` raises on purpose."""


class NoRoom(TierError):
    """No volume of any tier has room for a record of `wanted_bytes`."""

    def __init__(self, wanted_bytes: int) -> None:
        super().__init__(f"no tier has room for {wanted_bytes} bytes")
        self.wanted_bytes = wanted_bytes


class PageLost(TierError):
    """Every copy of a page failed its checks, read twice."""

    def __init__(self, page: StoredPage, reason: str) -> None:
        super().__init__(
            f"page {page.page_index} of body {page.body_id:#x} at {page.extent}: {reason}"
        )
        self.page = page
        self.reason = reason


class LedgerUnavailable(TierError):
    """The ledger cannot be read, or did not take a change, now; nothing says that it never will."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LedgerRefused(LedgerUnavailable):
    """The ledger did not take a change, now, and nothing of it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFault:
    """One thing in a policy file that is wrong, or in doubt.

    Attributes:
        line: From 1.
        column: From 1, in characters.
        key: Path of the key, as ``rule[3].threshold.high``; empty for the file as a whole.
        rule: What it breaks, with the way out where there is one.
    """

    line: int
    column: int
    key: str
    rule: str

    def format(self, file: str) -> str:
        """``FILE:LINE:COLUMN: KEY: RULE``."""
        where = f"{file}:{self.line}:{self.column}"
        return f"{where}: {self.key}: {self.rule}" if self.key else f"{where}: {self.rule}"


class PolicyInvalid(TierError):
    """A policy file, or a tenant's overlay, is not in force and cannot be.

    Attributes:
        file: As it was named.
        faults: All that were found, at least one, in the order of the file.
    """

    def __init__(self, file: str, faults: Sequence[PolicyFault]) -> None:
        assert faults
        super().__init__("\n".join(fault.format(file) for fault in faults))
        self.file = file
        self.faults = tuple(faults)


class PlanMissing(TierError):
    """No plan of that id is kept."""

    def __init__(self, plan_id: str) -> None:
        super().__init__(
            f"no plan {plan_id} is kept: plans last a day, are applied once, and do not outlive"
            " the server; make a new one with `tier plan`"
        )
        self.plan_id = plan_id


class PlanBusy(TierError):
    """A plan is being made, and one at a time is enough to read all of the catalog."""

    def __init__(self) -> None:
        super().__init__("another plan is being made; repeat it once that one is done")


class PlanStale(TierError):
    """A plan is not carried out: it is no longer what would be planned."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; make a new plan with `tier plan`")
        self.reason = reason


class TraceInvalid(TierError):
    """A trace cannot be read.

    Attributes:
        file: As it was named.
        line: The first broken line, from 1; None where it is about the file as a whole.
    """

    def __init__(self, file: str, reason: str, *, line: int | None = None) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason
        self.line = line
