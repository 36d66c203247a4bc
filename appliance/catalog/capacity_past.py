"""Units: taking bills and history over into a catalog that was made of the segments.

No segment says what a tenant used in a month. What is taken over: counts of requests, byte-hours,
samples of volumes, and of tenants the sample that was taken last, from which on their bytes are
integrated; how tenants grew before is forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from appliance.catalog import tables

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import Connection

__all__ = ["CapacityPast", "add_past", "keep_tenants", "load_past"]

_COUNTERS = ("capacity_sampled", "usage_counted_since")
_OF_TENANTS = ("tenant_samples", "usage_months", "usage_stored")

Rows = tuple["Mapping[str, int | str]", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityPast:
    """Rows by table, and counters by name."""

    rows: Mapping[str, Rows]
    counters: Mapping[str, int]


def load_past(connection: Connection) -> CapacityPast:
    """What an older catalog knows.

    Complexity: a row a tenant, month and tier, and some thousand samples; all in memory.
    """
    c = tables.counters.c
    found = connection.execute(select(c.name, c.value).where(c.name.in_(_COUNTERS)))
    counters = {row[0]: row[1] for row in found}
    last = tables.tenant_samples.c.at_us == counters.get("capacity_sampled", 0)
    rows: dict[str, Rows] = {}
    for name in ("volume_samples", *_OF_TENANTS):
        table = tables.metadata.tables[name]
        wanted = select(table)
        if name == "tenant_samples":
            wanted = wanted.where(last)
        names = [column.name for column in table.columns]
        rows[name] = tuple(dict(zip(names, row, strict=True)) for row in connection.execute(wanted))
    return CapacityPast(rows=rows, counters=counters)


def keep_tenants(past: CapacityPast, tenant_ids: Collection[int]) -> CapacityPast:
    """The same without what is of other tenants. Pure."""
    return CapacityPast(
        rows={
            name: tuple(
                row for row in rows if name not in _OF_TENANTS or row["tenant_id"] in tenant_ids
            )
            for name, rows in past.rows.items()
        },
        counters=past.counters,
    )


def add_past(connection: Connection, *, past: CapacityPast) -> None:
    """Insert it; the tenants are there."""
    for name, rows in past.rows.items():
        _insert(connection, name, rows)
    c = tables.counters.c
    for name, value in past.counters.items():
        connection.execute(update(tables.counters).where(c.name == name).values(value=value))


def _insert(connection: Connection, name: str, rows: Sequence[Mapping[str, int | str]]) -> None:
    if rows:
        connection.execute(insert(tables.metadata.tables[name]), [dict(row) for row in rows])
