"""The catalog's own findings in the words of fsck. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.fsck.records import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from appliance.catalog.records import Finding

__all__ = ["KIND_OF_CHECK", "REPAIRED_BY_COUNTING", "is_trustworthy"]

KIND_OF_CHECK = {
    "integrity": Kind.CATALOG_DAMAGED,
    "foreign key": Kind.FOREIGN_KEY,
    "usage": Kind.COUNTERS,
    "references": Kind.REFERENCES,
    "missing body": Kind.BODY_MISSING,
    "current": Kind.CURRENT_VERSION,
    "pages": Kind.PAGES_MISSING,
    "shadow": Kind.SHADOW_MISPLACED,
    "stray shadow": Kind.SHADOW_STRAY,
}
"""What `appliance.catalog.check` calls its checks."""

REPAIRED_BY_COUNTING = frozenset(
    {
        Kind.COUNTERS,
        Kind.REFERENCES,
        Kind.CURRENT_VERSION,
        Kind.SHADOW_MISPLACED,
        Kind.SHADOW_STRAY,
    }
)
"""What the rows themselves tell how to set right."""


def is_trustworthy(findings: Iterable[Finding]) -> bool:
    """Whether the catalog may judge volumes: its pages and keys are what they should be."""
    distrusted = {Kind.CATALOG_DAMAGED, Kind.FOREIGN_KEY}
    return all(KIND_OF_CHECK[finding.kind] not in distrusted for finding in findings)
