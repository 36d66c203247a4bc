"""The admin API's own refusals, and the one table of what other layers' errors answer.

A code is stable text that programs may compare; the message is for people and carries nothing that
is secret, because the errors it is made of never do.
"""

from __future__ import annotations

from http import HTTPStatus

from appliance.admin.documents import ErrorView
from appliance.catalog import errors as catalog
from hal.errors import HalError
from tenants import errors as tenants
from tiers.errors import LedgerUnavailable, NoRoom, PlanBusy, PlanMissing, PlanStale

__all__ = ["FAULTS", "AdminRefused", "describe_fault"]


class AdminRefused(Exception):
    """A request that the admin API itself refuses.

    Attributes:
        fields: For a malformed request, what is wrong with which field.
    """

    def __init__(
        self, code: str, message: str, *, status: HTTPStatus, fields: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.fields = fields


FAULTS: dict[type[Exception], tuple[HTTPStatus, str]] = {
    tenants.NoSuchTenant: (HTTPStatus.NOT_FOUND, "NoSuchTenant"),
    tenants.TenantExists: (HTTPStatus.CONFLICT, "TenantExists"),
    tenants.TenantNotEmpty: (HTTPStatus.CONFLICT, "TenantNotEmpty"),
    tenants.TenantSuspended: (HTTPStatus.CONFLICT, "TenantSuspended"),
    tenants.NoSuchUser: (HTTPStatus.NOT_FOUND, "NoSuchUser"),
    tenants.UserExists: (HTTPStatus.CONFLICT, "UserExists"),
    tenants.NoSuchAccessKey: (HTTPStatus.NOT_FOUND, "NoSuchAccessKey"),
    tenants.AccessKeyExists: (HTTPStatus.CONFLICT, "AccessKeyExists"),
    tenants.AccessKeyInactive: (HTTPStatus.CONFLICT, "AccessKeyInactive"),
    tenants.NameInvalid: (HTTPStatus.BAD_REQUEST, "NameInvalid"),
    tenants.QuotaExceeded: (HTTPStatus.CONFLICT, "QuotaExceeded"),
    tenants.AccessDenied: (HTTPStatus.FORBIDDEN, "AccessDenied"),
    catalog.BucketMissing: (HTTPStatus.NOT_FOUND, "NoSuchBucket"),
    catalog.BucketTaken: (HTTPStatus.CONFLICT, "BucketExists"),
    catalog.BucketNotEmpty: (HTTPStatus.CONFLICT, "BucketNotEmpty"),
    catalog.CatalogBusy: (HTTPStatus.SERVICE_UNAVAILABLE, "CatalogBusy"),
    catalog.CatalogUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "CatalogUnavailable"),
    catalog.CatalogDamaged: (HTTPStatus.INTERNAL_SERVER_ERROR, "CatalogDamaged"),
    catalog.SchemaMismatch: (HTTPStatus.INTERNAL_SERVER_ERROR, "SchemaMismatch"),
    LedgerUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "CatalogUnavailable"),
    NoRoom: (HTTPStatus.INSUFFICIENT_STORAGE, "NoRoom"),
    PlanBusy: (HTTPStatus.CONFLICT, "PlanBusy"),
    PlanMissing: (HTTPStatus.NOT_FOUND, "NoSuchPlan"),
    PlanStale: (HTTPStatus.CONFLICT, "PlanStale"),
    HalError: (HTTPStatus.SERVICE_UNAVAILABLE, "VolumeFailed"),
}
"""What each error of the layers below answers. A subclass is looked up by its nearest base.

The catalog's errors about versions, parts and uploads are missing on purpose: no noun of this API
meets them, so one that arrives here is a fault of ours and answers 500.
"""


def describe_fault(error: Exception) -> tuple[HTTPStatus, ErrorView] | None:
    """Status and body for an error, or None where nobody expected it."""
    if isinstance(error, AdminRefused):
        return error.status, ErrorView(code=error.code, message=error.message, fields=error.fields)
    for kind in type(error).__mro__:
        found = FAULTS.get(kind)
        if found is not None:
            return found[0], ErrorView(code=found[1], message=str(error))
    return None
