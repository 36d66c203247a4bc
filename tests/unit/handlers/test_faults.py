"""Every operating error of the packages below has an S3 code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import appliance.catalog.errors
import hal.errors
import tenants.errors
import tiers.errors
from appliance.catalog.errors import CatalogBusy, CatalogError, PartTooSmall
from appliance.handlers.faults import FAULTS, fault_of
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from hal.errors import HalError
from tenants.errors import QuotaExceeded, TenantError
from tiers.errors import NoRoom, TierError

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULES = (appliance.catalog.errors, hal.errors, tenants.errors, tiers.errors)


def iter_leaves(base: type[Exception]) -> Iterator[type[Exception]]:
    children = base.__subclasses__()
    if not children:
        yield base
    for child in children:
        yield from iter_leaves(child)


def test_every_leaf_of_every_package_is_mapped() -> None:
    assert MODULES
    unmapped = [
        leaf.__qualname__
        for base in (HalError, TierError, TenantError, CatalogError)
        for leaf in iter_leaves(base)
        if leaf not in FAULTS
    ]

    assert unmapped == []


def test_an_s3_error_is_its_own_fault() -> None:
    error = S3Error(S3Code.NO_SUCH_KEY)

    assert fault_of(error) is error


def test_what_nobody_foresaw_has_no_fault() -> None:
    assert fault_of(ValueError("a defect")) is None


def test_data_of_an_error_reaches_the_document() -> None:
    small = fault_of(PartTooSmall(3, size_bytes=10, minimum_bytes=20))
    assert small is not None
    assert small.elements == {"PartNumber": "3", "ProposedSize": "10", "MinSizeAllowed": "20"}
    quota = fault_of(QuotaExceeded("tenant bytes", limit=10, used=9, wanted=2))
    assert quota is not None
    assert (quota.code, "9 used" in quota.message) == (S3Code.QUOTA_EXCEEDED, True)


def test_what_passes_by_itself_says_when_to_come_back() -> None:
    busy = fault_of(CatalogBusy("busy"))
    assert busy is not None
    assert busy.headers == {"retry-after": "5"}
    full = fault_of(NoRoom(5))
    assert full is not None
    assert full.code.status == 507
