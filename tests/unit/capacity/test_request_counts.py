"""Requests are counted by class and month, and no count is lost or added twice."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from appliance.capacity.request_counts import RequestCounts, classify
from appliance.catalog.errors import CatalogFull
from appliance.catalog.usage_months import MonthUse, find_counting_since, load_month_use
from appliance.clock import FakeClock
from appliance.s3 import operations
from tests.catalog_fixtures import CatalogDesk, open_desk, sqlite_url
from tests.unit.capacity.stores import catalog_template

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.catalog.unit import Connection
    from tenants.records import TenantId

__all__ = ["catalog_template"]

NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("operation", "method", "kind"),
    [
        ("GetObject", "GET", "reads"),
        ("HeadObject", "HEAD", "reads"),
        ("GetBucketVersioning", "GET", "reads"),
        ("ListObjectsV2", "GET", "lists"),
        ("ListBuckets", "GET", "lists"),
        ("ListParts", "GET", "lists"),
        ("PutObject", "PUT", "writes"),
        ("CopyObject", "PUT", "writes"),
        ("UploadPart", "PUT", "writes"),
        ("CompleteMultipartUpload", "POST", "writes"),
        ("DeleteObject", "DELETE", "deletes"),
        ("DeleteObjects", "POST", "deletes"),
        ("AbortMultipartUpload", "DELETE", "deletes"),
        ("DeleteObjectTagging", "DELETE", "deletes"),
        ("", "GET", "reads"),
        ("", "PUT", "writes"),
    ],
)
def test_a_request_has_a_class(operation: str, method: str, kind: str) -> None:
    assert not operation or hasattr(operations, operation)
    assert classify(operation, method) == kind


async def count(
    counts: RequestCounts, tenant_id: TenantId, operation: str = "GetObject", status: int = 200
) -> None:
    counts.note(
        tenant_id,
        operation=operation,
        method="GET",
        status=status,
        received_bytes=1,
        sent_bytes=10,
    )


async def use_of(desk: CatalogDesk, tenant_id: TenantId, month: int) -> MonthUse:
    return await desk.read(load_month_use, tenant_id=tenant_id, month=month)


async def test_counts_are_folded_into_the_month_of_the_answer(
    tmp_path: Path, catalog_template: Path
) -> None:
    clock = FakeClock(NEW_YEAR - 1.5)
    async with open_desk(sqlite_url(tmp_path, catalog_template)) as desk:
        tenant = (await desk.make_tenant()).tenant_id
        counts = RequestCounts(desk.catalog, clock=clock, on_failure=lambda _: None)
        await count(counts, tenant)
        clock.advance(2)
        await count(counts, tenant, "ListObjects")
        await counts.fold()
        await count(counts, tenant, status=503)
        await counts.fold()
        await counts.fold()

        december = await use_of(desk, tenant, 202612)
        january = await use_of(desk, tenant, 202701)

    assert december == MonthUse(reads=1, received_bytes=1, sent_bytes=10)
    # What the server failed is not counted; what it carried is.
    assert january == MonthUse(lists=1, received_bytes=2, sent_bytes=20)


async def test_counting_begins_with_the_first_fold_even_of_nothing(
    tmp_path: Path, catalog_template: Path
) -> None:
    clock = FakeClock(NEW_YEAR)
    async with open_desk(sqlite_url(tmp_path, catalog_template)) as desk:
        counts = RequestCounts(desk.catalog, clock=clock, on_failure=lambda _: None)
        await counts.fold()
        clock.advance(60)
        await counts.fold()

        assert await desk.read(find_counting_since) == round(NEW_YEAR) * 1_000_000


class RefusingCatalog:
    """A catalog whose disk is full until told otherwise."""

    def __init__(self, desk: CatalogDesk) -> None:
        self._desk = desk
        self.is_full = True

    async def commit(self, unit: Callable[[Connection], object]) -> object:
        if self.is_full:
            raise CatalogFull("no room")
        return await self._desk.catalog.commit(unit)


async def test_what_the_catalog_refuses_is_added_with_the_next_fold(
    tmp_path: Path, catalog_template: Path
) -> None:
    failures: list[str] = []
    async with open_desk(sqlite_url(tmp_path, catalog_template)) as desk:
        tenant = (await desk.make_tenant()).tenant_id
        catalog = RefusingCatalog(desk)
        counts = RequestCounts(
            catalog,  # type: ignore[arg-type]  # it commits, which is all that is asked of it
            clock=FakeClock(NEW_YEAR),
            on_failure=lambda error: failures.append(str(error)),
        )
        await count(counts, tenant)
        await counts.fold()
        await count(counts, tenant)
        catalog.is_full = False
        await counts.fold()

        found = await use_of(desk, tenant, 202701)

    assert failures == ["no room"]
    assert found == MonthUse(reads=2, received_bytes=2, sent_bytes=20)
