"""Turns tallies into the rows of a report: names for ids, tiers for volumes, deciles. Pure."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from appliance.admin.report_documents import CapacityRow
from tiers.report import Tally, split_deciles
from tiers.report_columns import COLUMNS, DECILES, IDLE_DAYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tiers.report_facts import GroupKey

__all__ = ["RowNames", "add_rows", "make_rows", "pivot_rows"]

assert [column.name for column in COLUMNS] == [field.name for field in fields(CapacityRow)], (
    "the document and the list of columns must not differ"
)

_ADDED = tuple(column.name for column in COLUMNS if column.adds_up)

_Dimensions = tuple[str | None, str | None, str | None, str | None]


class RowNames:
    """What ids are called.

    Args:
        tenants: Names by id.
        buckets: Tenant id and name by bucket id.
        tiers: Tier by volume id.
    """

    def __init__(
        self,
        *,
        tenants: Mapping[int, str],
        buckets: Mapping[int, tuple[int, str]],
        tiers: Mapping[int, str],
    ) -> None:
        self._tenants = tenants
        self._buckets = buckets
        self._tiers = tiers

    def name(self, key: GroupKey, by: frozenset[str]) -> _Dimensions:
        """The dimensions of a row; what was removed meanwhile is called by its number."""
        tenant_id, bucket_id = key.tenant_id, key.bucket_id
        tenant = bucket = prefix = None
        if tenant_id is not None:
            tenant = self._tenants.get(tenant_id, f"#{tenant_id}")
        if bucket_id is not None:
            bucket = self._buckets.get(bucket_id, (0, f"#{bucket_id}"))[1]
        if key.prefix is not None:
            prefix = key.prefix.decode("utf-8", "backslashreplace")
        tier = self._tiers.get(key.volume_id, f"#{key.volume_id}") if "tier" in by else None
        return tenant, bucket, prefix, tier


def make_rows(
    tallies: Mapping[GroupKey, Tally],
    names: RowNames,
    *,
    by: frozenset[str],
    has_heat: bool,
    has_read_times: bool,
) -> list[CapacityRow]:
    """The rows, those with the most physical bytes first; rows of nothing are left out.

    Args:
        tallies: From a `ReportFold`.
        names: For ids.
        by: The dimensions that rows are cut by.
        has_heat: Whether levels of pages are known; else there are no deciles.
        has_read_times: Whether it is known when pages were read; else nothing is called unread.
    """
    groups: dict[_Dimensions, Tally] = {}
    for key, tally in tallies.items():
        dimensions = names.name(key, by)
        groups.setdefault(dimensions, Tally()).add(tally)
    whole: dict[int, int] = {}
    for tally in groups.values():
        for bucket, size in tally.heat.items():
            whole[bucket] = whole.get(bucket, 0) + size
    deciles = split_deciles([tally.heat for tally in groups.values()], whole)
    rows = [
        _make_row(
            dimensions,
            tally,
            deciles=shares if has_heat else None,
            unread_bytes=tally.promoted_unread_bytes if has_read_times else None,
        )
        for (dimensions, tally), shares in zip(groups.items(), deciles, strict=True)
    ]
    return _sort([row for row in rows if any(getattr(row, name) for name in _ADDED)])


def _make_row(
    dimensions: _Dimensions,
    tally: Tally,
    *,
    deciles: Sequence[int] | None,
    unread_bytes: int | None,
) -> CapacityRow:
    tenant, bucket, prefix, tier = dimensions
    row = CapacityRow(
        tenant=tenant,
        bucket=bucket,
        prefix=prefix,
        tier=tier,
        logical_bytes=tally.logical_bytes,
        version_count=tally.version_count,
        page_count=tally.page_count,
        physical_bytes=tally.physical_bytes,
        padding_bytes=tally.padding_bytes,
        manifest_bytes=tally.manifest_bytes,
        upload_bytes=tally.upload_bytes,
        shadow_bytes=tally.shadow_bytes,
        dead_bytes=tally.dead_bytes,
        moved_bytes=tally.moved_bytes,
        promoted_bytes=tally.promoted_bytes,
        demoted_bytes=tally.demoted_bytes,
        released_bytes=tally.released_bytes,
        ping_pong_bytes=tally.ping_pong_bytes,
        promoted_unread_bytes=unread_bytes,
        **{f"idle_{days}d_bytes": idle for days, idle in zip(IDLE_DAYS, tally.idle, strict=True)},
    )
    if deciles is None:
        return row
    shares = {f"heat_decile_{n}_bytes": deciles[n - 1] for n in range(1, DECILES + 1)}
    return replace(row, **shares)  # type: ignore[arg-type]  # columns by name


def pivot_rows(rows: Iterable[CapacityRow], by: Sequence[str]) -> list[CapacityRow]:
    """The rows cut by fewer dimensions, the most physical bytes first.

    What does not add up (growth, days) is null in rows that are made of several.
    """
    groups: dict[_Dimensions, list[CapacityRow]] = {}
    for row in rows:
        dimensions = (
            row.tenant if "tenant" in by or "bucket" in by else None,
            row.bucket if "bucket" in by else None,
            row.prefix if "prefix" in by else None,
            row.tier if "tier" in by else None,
        )
        groups.setdefault(dimensions, []).append(row)
    return _sort([_add_up(found, dimensions) for dimensions, found in groups.items()])


def add_rows(rows: Sequence[CapacityRow]) -> CapacityRow:
    """All of them together, as a row of everything."""
    return _add_up(rows, (None, None, None, None))


def _add_up(rows: Sequence[CapacityRow], dimensions: _Dimensions) -> CapacityRow:
    tenant, bucket, prefix, tier = dimensions
    sums = {name: _sum([getattr(row, name) for row in rows]) for name in _ADDED}
    row = CapacityRow(tenant=tenant, bucket=bucket, prefix=prefix, tier=tier)
    return replace(row, **sums)  # type: ignore[arg-type]  # columns by name


def _sum(values: Sequence[int | None]) -> int | None:
    """The sum; null where one of them is, for then nobody knows."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) and values else None


def _sort(rows: list[CapacityRow]) -> list[CapacityRow]:
    return sorted(
        rows,
        key=lambda row: (
            -row.physical_bytes,
            row.tenant or "",
            row.bucket or "",
            row.prefix or "",
            row.tier or "",
        ),
    )
