"""From an error of the packages below to the S3 error a client reads: one table.

A class that is missing here is a defect that `tests/house` finds; at run time it would be an
`InternalError`, logged with its traceback by the request boundary.
"""

from __future__ import annotations

from appliance.catalog import errors as catalog
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from hal import errors as hal
from tenants import errors as tenants
from tiers import errors as tiers

__all__ = ["FAULTS", "fault_of"]

FAULTS: dict[type[Exception], S3Code] = {
    hal.DeviceError: S3Code.SERVICE_UNAVAILABLE,
    hal.DeviceFailed: S3Code.SERVICE_UNAVAILABLE,
    hal.DeviceFull: S3Code.INSUFFICIENT_STORAGE,
    hal.DeviceUnsuitable: S3Code.INTERNAL_ERROR,
    hal.MediumError: S3Code.INTERNAL_ERROR,
    hal.PageCorrupt: S3Code.INTERNAL_ERROR,
    hal.FormatUnknown: S3Code.INTERNAL_ERROR,
    hal.VolumeForeign: S3Code.INTERNAL_ERROR,
    tiers.NoRoom: S3Code.INSUFFICIENT_STORAGE,
    tiers.PageLost: S3Code.INTERNAL_ERROR,
    tiers.PlanBusy: S3Code.INTERNAL_ERROR,
    tiers.PlanMissing: S3Code.INTERNAL_ERROR,
    tiers.PlanStale: S3Code.INTERNAL_ERROR,
    tiers.PolicyInvalid: S3Code.INTERNAL_ERROR,
    tiers.TraceInvalid: S3Code.INTERNAL_ERROR,
    tiers.LedgerRefused: S3Code.SERVICE_UNAVAILABLE,
    tiers.LedgerUnavailable: S3Code.SERVICE_UNAVAILABLE,
    tenants.NoSuchTenant: S3Code.ACCESS_DENIED,
    tenants.TenantExists: S3Code.INTERNAL_ERROR,
    tenants.TenantNotEmpty: S3Code.INTERNAL_ERROR,
    tenants.TenantSuspended: S3Code.ACCESS_DENIED,
    tenants.NoSuchUser: S3Code.ACCESS_DENIED,
    tenants.UserExists: S3Code.INTERNAL_ERROR,
    tenants.NoSuchAccessKey: S3Code.INVALID_ACCESS_KEY_ID,
    tenants.AccessKeyExists: S3Code.INTERNAL_ERROR,
    tenants.AccessKeyInactive: S3Code.INVALID_ACCESS_KEY_ID,
    tenants.NameInvalid: S3Code.INVALID_ARGUMENT,
    tenants.QuotaExceeded: S3Code.QUOTA_EXCEEDED,
    tenants.AccessDenied: S3Code.ACCESS_DENIED,
    catalog.CatalogUnavailable: S3Code.SERVICE_UNAVAILABLE,
    catalog.CatalogFull: S3Code.INSUFFICIENT_STORAGE,
    catalog.WorkerFenced: S3Code.SERVICE_UNAVAILABLE,
    catalog.CatalogBusy: S3Code.SLOW_DOWN,
    catalog.CatalogDamaged: S3Code.INTERNAL_ERROR,
    catalog.SchemaMismatch: S3Code.INTERNAL_ERROR,
    catalog.BucketMissing: S3Code.NO_SUCH_BUCKET,
    catalog.BucketTaken: S3Code.BUCKET_ALREADY_OWNED_BY_YOU,
    catalog.BucketNotEmpty: S3Code.BUCKET_NOT_EMPTY,
    catalog.VersionMissing: S3Code.NO_SUCH_KEY,
    catalog.ConditionFailed: S3Code.PRECONDITION_FAILED,
    catalog.ConditionMissing: S3Code.NO_SUCH_KEY,
    catalog.UploadMissing: S3Code.NO_SUCH_UPLOAD,
    catalog.PartInvalid: S3Code.INVALID_PART,
    catalog.PartTooSmall: S3Code.ENTITY_TOO_SMALL,
    catalog.PartOrderInvalid: S3Code.INVALID_PART_ORDER,
}

RETRY_AFTER_S = "5"


def fault_of(error: Exception) -> S3Error | None:
    """The S3 error for an operating error, or None for one that nobody foresaw."""
    if isinstance(error, S3Error):
        return error
    for kind in type(error).__mro__:
        if kind is catalog.PartTooSmall and isinstance(error, catalog.PartTooSmall):
            return S3Error(
                S3Code.ENTITY_TOO_SMALL,
                elements={
                    "PartNumber": str(error.part_number),
                    "ProposedSize": str(error.size_bytes),
                    "MinSizeAllowed": str(error.minimum_bytes),
                },
            )
        if isinstance(error, tenants.QuotaExceeded):
            return S3Error(S3Code.QUOTA_EXCEEDED, str(error))
        code = FAULTS.get(kind)
        if code is not None:
            headers = {"retry-after": RETRY_AFTER_S} if code.status == 503 else None
            return S3Error(code, headers=headers)
    return None
