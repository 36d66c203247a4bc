"""Changes of buckets together with the manifests that state them in the segments.

See `appliance.handlers.statements`, which does the same for S3's requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from appliance.admin.errors import AdminRefused
from appliance.admin.units import commit_change
from appliance.catalog.buckets import attach_bucket_statement
from appliance.catalog.errors import CatalogBusy, CatalogFull, CatalogUnavailable
from appliance.catalog.records import Versioning
from appliance.s3.errors import S3Error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from appliance.admin.routes import Call
    from appliance.admin.state import AdminState
    from appliance.catalog.records import Bucket, BucketStatement
    from appliance.catalog.unit import Connection
    from appliance.objects.manifest_writer import WrittenBucket
    from tenants.records import QuotaLimits, Tenant

__all__ = ["ExpectedBucket", "change_bucket"]

# Each try loses only to another change of the same bucket that was committed in between.
ATTEMPTS_MAX = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedBucket:
    """A bucket as a change is about to leave it."""

    tenant: Tenant
    name: str
    created_us: int
    limits: QuotaLimits
    versioning: Versioning = Versioning.OFF


async def change_bucket(
    state: AdminState,
    call: Call,
    unit: Callable[[Connection, BucketStatement | None], tuple[Tenant, Bucket]],
    *,
    expect: Callable[[Connection], ExpectedBucket | None],
    action: str,
    subject: str,
    detail: str = "",
) -> tuple[Tenant, Bucket]:
    """Commit a change of a bucket, its audit entry and its manifest.

    Args:
        state: Where.
        call: Who asks.
        unit: Makes the change; takes the statement where it is true then.
        expect: Reads what the change will make; None where the unit is going to refuse.
        action: See `appliance.admin.units.change`, as for the rest.
        subject: What was changed.
        detail: What else is worth knowing.

    Raises:
        CatalogBusy: Others changed the bucket too often meanwhile.
        AdminRefused, NoRoom, HalError: The manifest cannot be written.
        Exception: What the unit raises.
    """
    expected = await state.catalog.read(expect)
    written = None if expected is None else await _write(state, expected)
    statement = None if written is None else written.statement
    tenant, bucket = await _commit(
        state,
        written,
        partial(
            commit_change,
            state,
            call,
            lambda connection: unit(connection, statement),
            action=action,
            subject=subject,
            detail=detail,
            flush=frozenset() if written is None else written.segments,
            confirm=None if written is None else partial(state.manifests.check_written, written),
        ),
    )
    for _ in range(ATTEMPTS_MAX):
        if written is not None and bucket.manifest_body_id == written.body.body_id:
            return tenant, bucket
        written = await _write(
            state,
            ExpectedBucket(
                tenant=tenant,
                name=bucket.name,
                created_us=bucket.created_us,
                limits=bucket.limits,
                versioning=bucket.versioning,
            ),
        )
        attach = partial(
            attach_bucket_statement,
            tenant_id=tenant.tenant_id,
            name=bucket.name,
            statement=written.statement,
        )
        restated = partial(
            state.catalog.commit,
            attach,
            flush=written.segments,
            confirm=partial(state.manifests.check_written, written),
        )

        async def attach_again() -> tuple[Tenant, Bucket]:
            return tenant, await restated()  # noqa: B023 - run before the next turn

        _, bucket = await _commit(state, written, attach_again)
    raise CatalogBusy("the bucket changes too often to be stated")


async def _write(state: AdminState, expected: ExpectedBucket) -> WrittenBucket:
    try:
        return await state.manifests.write_bucket(
            expected.tenant,
            name=expected.name,
            created_us=expected.created_us,
            versioning=expected.versioning,
            limits=expected.limits,
        )
    except S3Error as error:  # the page buffers' word; this API has its own
        status = HTTPStatus(error.code.status)
        raise AdminRefused(error.code.code, error.message, status=status) from error


async def _commit(
    state: AdminState,
    written: WrittenBucket | None,
    commit: Callable[[], Awaitable[tuple[Tenant, Bucket]]],
) -> tuple[Tenant, Bucket]:
    """Commit, and settle or give back the manifest; one of an unknown outcome is left alone."""
    try:
        tenant, bucket = await commit()
    except CatalogUnavailable as error:
        if written is not None and isinstance(error, CatalogFull):
            await state.manifests.end(written, is_taken=False)
        raise
    except Exception:
        if written is not None:
            await state.manifests.end(written, is_taken=False)
        raise
    if written is not None:
        is_taken = bucket.manifest_body_id == written.body.body_id
        await state.manifests.end(written, is_taken=is_taken)
    return tenant, bucket
