"""Units: the audit trail of administrative acts. Rows are only ever added."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Integer, bindparam, insert, select

from appliance.catalog import tables
from appliance.catalog.records import AuditEntry

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["append_audit", "list_audit"]

_a = tables.audit.c

_INSERT = insert(tables.audit)
_LIST = (
    select(_a.audit_id, _a.at_us, _a.actor, _a.action, _a.subject, _a.outcome, _a.detail)
    .where(_a.audit_id < bindparam("before"))
    .order_by(_a.audit_id.desc())
    .limit(bindparam("row_limit", type_=Integer))
)
_NEWEST = 2**63 - 1


def append_audit(
    connection: Connection,
    *,
    at_us: int,
    actor: str,
    action: str,
    subject: str,
    outcome: str,
    detail: str = "",
) -> None:
    """Add an entry, in the same transaction as the act it tells of. Never put a secret in it."""
    connection.execute(
        _INSERT,
        {
            "at_us": at_us,
            "actor": actor,
            "action": action,
            "subject": subject,
            "outcome": outcome,
            "detail": detail,
        },
    )


def list_audit(
    connection: Connection, *, limit: int, before: int | None = None
) -> list[AuditEntry]:
    """Entries, newest first, with ids below `before`."""
    found = connection.execute(
        _LIST, {"before": _NEWEST if before is None else before, "row_limit": limit}
    )
    return [
        AuditEntry(
            audit_id=row[0],
            at_us=row[1],
            actor=row[2],
            action=row[3],
            subject=row[4],
            outcome=row[5],
            detail=row[6],
        )
        for row in found
    ]
