"""Unit: does the catalog agree with itself? Reads everything, changes nothing.

What is compared: the database's own checks (SQLite), usage as counted against what the rows add up
to, reference counts against the versions and parts that refer, `is_current` against sequences,
bodies against their pages, and pages against their shadows.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

from sqlalchemy import func, literal, select, union_all

from appliance.catalog import tables
from appliance.catalog.records import Finding
from appliance.catalog.usage import (
    load_bucket_usage,
    load_tenant_usage,
    recompute_bucket_usage,
    recompute_tenant_usage,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Select

    from tenants.records import Usage

__all__ = [
    "FINDINGS_MAX",
    "check_catalog",
    "check_usage",
    "select_misplaced_shadows",
    "select_stray_shadows",
    "select_wrong_current",
    "select_wrong_references",
]

# A damaged catalog may have a finding per row; an operator needs the first ones.
FINDINGS_MAX = 1_000

# Every row that refers to a body, and so keeps it alive.
_referring = union_all(
    select(tables.versions.c.body_id).where(tables.versions.c.body_id.is_not(None)),
    *(
        select(owner.c.manifest_body_id).where(owner.c.manifest_body_id.is_not(None))
        for owner in (tables.versions, tables.buckets)
    ),
    select(tables.version_bodies.c.body_id),
    select(tables.part_bodies.c.body_id),
).subquery("referring")
_COUNTED = (
    select(_referring.c.body_id, func.count().label("times"))
    .group_by(_referring.c.body_id)
    .subquery("counted")
)


def check_catalog(connection: Connection) -> list[Finding]:
    """What is wrong, at most `FINDINGS_MAX` findings; empty for a sound catalog."""
    return list(islice(_iter_findings(connection), FINDINGS_MAX))


def check_usage(connection: Connection) -> list[Finding]:
    """Where counted bytes, objects and uploads are not what the rows add up to.

    At most `FINDINGS_MAX` findings.

    Complexity: reads every version, part and upload.
    """
    counts = chain(_check_usage(connection), _check_uploads(connection))
    return list(islice(counts, FINDINGS_MAX))


def _iter_findings(connection: Connection) -> Iterator[Finding]:
    if connection.dialect.name == "sqlite":
        unsound = list(_check_database(connection))
        yield from unsound
        if unsound:
            return  # what follows joins rows to rows that may be gone
    yield from _check_usage(connection)
    yield from _check_uploads(connection)
    yield from _check_references(connection)
    yield from _check_current(connection)
    yield from _check_pages(connection)
    yield from _check_shadows(connection)


def _check_database(connection: Connection) -> Iterator[Finding]:
    for row in connection.exec_driver_sql(f"PRAGMA integrity_check({FINDINGS_MAX})"):
        if row[0] != "ok":
            yield Finding(kind="integrity", subject="database", detail=row[0])
    for row in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        if row[0] == tables.page_shadows.name:
            continue  # a check of its own: nothing else hangs on a shadow
        yield Finding(
            kind="foreign key", subject=row[0], detail=f"row {row[1]} has no parent in {row[2]}"
        )


def _compare(counted: Usage, summed: Usage) -> str:
    """Where two counts of usage differ, in words."""
    pairs = (
        ("bytes", counted.used_bytes, summed.used_bytes),
        ("objects", counted.object_count, summed.object_count),
        ("buckets", counted.bucket_count, summed.bucket_count),
    )
    return ", ".join(
        f"{count} {unit} counted, the rows add up to {total}"
        for unit, count, total in pairs
        if count != total
    )


def _check_usage(connection: Connection) -> Iterator[Finding]:
    for tenant_id, summed in recompute_tenant_usage(connection).items():
        counted = load_tenant_usage(connection, tenant_id=tenant_id)
        if counted != summed:
            yield Finding(
                kind="usage", subject=f"tenant {tenant_id}", detail=_compare(counted, summed)
            )
    for bucket_id, summed in recompute_bucket_usage(connection).items():
        counted = load_bucket_usage(connection, bucket_id=bucket_id)
        if counted != summed:
            yield Finding(
                kind="usage", subject=f"bucket {bucket_id}", detail=_compare(counted, summed)
            )


def _check_uploads(connection: Connection) -> Iterator[Finding]:
    t, u = tables.tenants.c, tables.uploads.c
    opened = (
        select(func.count())
        .where(u.tenant_id == t.tenant_id, u.completed_us.is_(None))
        .scalar_subquery()
    )
    wrong = select(t.tenant_id, t.open_upload_count, opened).where(t.open_upload_count != opened)
    for tenant_id, counted, found in connection.execute(wrong):
        yield Finding(
            kind="usage",
            subject=f"tenant {tenant_id}",
            detail=f"{counted} uploads in progress, {found} rows",
        )


def select_wrong_references() -> Select[int, int, int, int | None]:
    """Bodies whose count or death is wrong: id, count stored, count found, died."""
    b = tables.bodies.c
    counted = _COUNTED
    found = func.coalesce(counted.c.times, literal(0))
    return (
        select(b.body_id, b.reference_count, found, b.died_us)
        .select_from(tables.bodies.outerjoin(counted, b.body_id == counted.c.body_id))
        .where((b.reference_count != found) | ((b.reference_count == 0) != b.died_us.is_not(None)))
        .limit(FINDINGS_MAX)
    )


def _check_references(connection: Connection) -> Iterator[Finding]:
    b = tables.bodies.c
    for body_id, stored, times, died_us in connection.execute(select_wrong_references()):
        yield Finding(
            kind="references",
            subject=f"body {body_id}",
            detail=f"{stored} counted, {times} found, died at {died_us}",
            body_id=body_id,
        )
    counted = _COUNTED
    orphans = (
        select(counted.c.body_id)
        .select_from(counted.outerjoin(tables.bodies, b.body_id == counted.c.body_id))
        .where(b.body_id.is_(None))
        .limit(FINDINGS_MAX)
    )
    for (body_id,) in connection.execute(orphans):
        yield Finding(
            kind="missing body",
            subject=f"body {body_id}",
            detail="is referred to and has no row",
            body_id=body_id,
        )


def select_wrong_current() -> Select[int, bytes, int, bool]:
    """Versions marked as current that are not, and the other way round."""
    v = tables.versions.c
    newest = (
        select(v.bucket_id, v.key, func.max(v.sequence).label("sequence"))
        .group_by(v.bucket_id, v.key)
        .subquery("newest")
    )
    return (
        select(v.bucket_id, v.key, v.sequence, v.is_current)
        .select_from(
            tables.versions.join(
                newest, (v.bucket_id == newest.c.bucket_id) & (v.key == newest.c.key)
            )
        )
        .where(v.is_current != (v.sequence == newest.c.sequence))
        .limit(FINDINGS_MAX)
    )


def _check_current(connection: Connection) -> Iterator[Finding]:
    for bucket_id, key, sequence, is_current in connection.execute(select_wrong_current()):
        yield Finding(
            kind="current",
            subject=f"bucket {bucket_id} key {key!r}",
            detail=f"version {sequence} is {'' if is_current else 'not '}marked as current",
        )


def _check_pages(connection: Connection) -> Iterator[Finding]:
    # Living bodies only: a dead one loses its pages one by one as they are reclaimed.
    b, p = tables.bodies.c, tables.pages.c
    held = (
        select(p.body_id, func.sum(p.payload_bytes).label("bytes"))
        .group_by(p.body_id)
        .subquery("held")
    )
    found = func.coalesce(held.c.bytes, literal(0))
    wrong = (
        select(b.body_id, b.size_bytes, found)
        .select_from(tables.bodies.outerjoin(held, b.body_id == held.c.body_id))
        .where(b.reference_count > 0, b.size_bytes != found)
        .limit(FINDINGS_MAX)
    )
    for body_id, size_bytes, page_bytes in connection.execute(wrong):
        yield Finding(
            kind="pages",
            subject=f"body {body_id}",
            detail=f"{size_bytes} bytes, {page_bytes} in its pages",
            body_id=body_id,
        )


def select_misplaced_shadows() -> Select[int, int, int, int, int, int, bool]:
    """Shadows on the volume of their page: body, index, place; whether it is the page's own."""
    p, s = tables.pages.c, tables.page_shadows.c
    is_same = (p.segment_id == s.segment_id) & (p.segment_offset == s.segment_offset)
    return (
        select(
            s.body_id,
            s.page_index,
            s.volume_id,
            s.segment_id,
            s.segment_offset,
            s.record_bytes,
            is_same,
        )
        .select_from(
            tables.page_shadows.join(
                tables.pages, (p.body_id == s.body_id) & (p.page_index == s.page_index)
            )
        )
        .where(p.volume_id == s.volume_id)
        .limit(FINDINGS_MAX)
    )


def select_stray_shadows() -> Select[int, int, int, int, int, int, int | None]:
    """Shadows of pages without a row: body, index, place; the body's id if it has a row."""
    b, p, s = tables.bodies.c, tables.pages.c, tables.page_shadows.c
    return (
        select(
            s.body_id,
            s.page_index,
            s.volume_id,
            s.segment_id,
            s.segment_offset,
            s.record_bytes,
            b.body_id,
        )
        .select_from(
            tables.page_shadows.outerjoin(
                tables.pages, (p.body_id == s.body_id) & (p.page_index == s.page_index)
            ).outerjoin(tables.bodies, b.body_id == s.body_id)
        )
        .where(p.body_id.is_(None))
        .limit(FINDINGS_MAX)
    )


def _check_shadows(connection: Connection) -> Iterator[Finding]:
    for body_id, page_index, volume_id, *_, is_same in connection.execute(
        select_misplaced_shadows()
    ):
        where = "at the page's own place" if is_same else f"on volume {volume_id} like the page"
        yield Finding(
            kind="shadow",
            subject=f"page {page_index} of body {body_id}",
            detail=f"its shadow lies {where}",
            body_id=body_id,
        )
    for body_id, page_index, volume_id, *_, living in connection.execute(select_stray_shadows()):
        state = "its body is gone as well" if living is None else "its body lives"
        yield Finding(
            kind="stray shadow",
            subject=f"page {page_index} of body {body_id}",
            detail=f"has a shadow on volume {volume_id} and no row; {state}",
            body_id=body_id,
        )
