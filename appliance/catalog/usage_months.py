"""Units of what tenants asked for, month by month: requests by class, and bytes in and out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select, update

from appliance.catalog import tables
from appliance.catalog.dialects import add_to_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from tenants.records import TenantId

__all__ = [
    "MonthUse",
    "StoredUse",
    "add_month_use",
    "begin_counting",
    "find_counting_since",
    "list_stored_use",
    "load_month_use",
]

_COUNTED_SINCE = "usage_counted_since"

_c = tables.counters.c
_um = tables.usage_months.c
_us = tables.usage_stored.c


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthUse:
    """What a tenant asked for in a month; sizes in bytes of bodies."""

    reads: int = 0
    writes: int = 0
    lists: int = 0
    deletes: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredUse:
    """What a tenant kept on a tier over a month, in bytes times hours."""

    tier: str
    byte_hours: int


def add_month_use(connection: Connection, uses: Mapping[tuple[TenantId, int], MonthUse]) -> None:
    """Add counts to the rows of tenants and months; a tenant that is gone is left out."""
    known = set(connection.execute(select(tables.tenants.c.tenant_id)).scalars())
    rows = [
        {
            "tenant_id": tenant_id,
            "month": month,
            "reads": use.reads,
            "writes": use.writes,
            "lists": use.lists,
            "deletes": use.deletes,
            "received_bytes": use.received_bytes,
            "sent_bytes": use.sent_bytes,
        }
        # In one order for all processes, so that two of them never wait for each other.
        for (tenant_id, month), use in sorted(uses.items(), key=lambda item: item[0])
        if tenant_id in known
    ]
    add_to_rows(connection, "usage_months", rows)


def load_month_use(connection: Connection, *, tenant_id: TenantId, month: int) -> MonthUse:
    """What a tenant asked for in a month; all zero where nothing was counted."""
    row = connection.execute(
        select(
            _um.reads, _um.writes, _um.lists, _um.deletes, _um.received_bytes, _um.sent_bytes
        ).where(_um.tenant_id == tenant_id, _um.month == month)
    ).first()
    if row is None:
        return MonthUse()
    return MonthUse(
        reads=row[0],
        writes=row[1],
        lists=row[2],
        deletes=row[3],
        received_bytes=row[4],
        sent_bytes=row[5],
    )


def list_stored_use(connection: Connection, *, tenant_id: TenantId, month: int) -> list[StoredUse]:
    """What a tenant kept in a month, by tier."""
    found = connection.execute(
        select(_us.tier, _us.byte_hours)
        .where(_us.tenant_id == tenant_id, _us.month == month)
        .order_by(_us.tier)
    )
    return [StoredUse(tier=row[0], byte_hours=row[1]) for row in found]


def begin_counting(connection: Connection, *, now_us: int) -> None:
    """Note since when requests are counted, where that is not noted yet."""
    connection.execute(
        update(tables.counters)
        .where(_c.name == bindparam("counter"), _c.value == 0)
        .values(value=bindparam("now")),
        {"counter": _COUNTED_SINCE, "now": now_us},
    )


def find_counting_since(connection: Connection) -> int | None:
    """Since when requests are counted, microseconds since 1970; None where they are not yet."""
    found = connection.execute(select(_c.value).where(_c.name == _COUNTED_SINCE)).scalar()
    return found or None
