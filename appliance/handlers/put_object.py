"""PutObject: refuse early, write the body, commit the version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.catalog import tenants, versions
from appliance.catalog.joint_puts import PutUnit
from appliance.catalog.object_facts import ObjectQuery
from appliance.catalog.records import (
    Bucket,
    Checksum,
    NewVersion,
    PutOutcome,
    VersionAttributes,
    Versioning,
    VersionRecord,
    WriteConditions,
)
from appliance.catalog.version_rows import NULL_VERSION_ID
from appliance.handlers.commits import commit_body
from appliance.handlers.request import S3Request, require_bucket
from appliance.handlers.statements import state_version
from appliance.handlers.versioned import checksum_headers, version_id_headers
from appliance.objects.annex import Annex, encode_annex
from appliance.objects.writer import BodyRequest, WrittenBody
from appliance.s3.codes import S3Code
from appliance.s3.conditions import parse_write_conditions
from appliance.s3.errors import S3Error
from appliance.s3.etag import quote_etag
from appliance.s3.messages import Response
from appliance.s3.payload import PayloadPlan, plan_payload
from appliance.s3.storage_classes import require_tier
from hal.geometry import ANNEX_BYTES_MAX
from tenants.quota import admit
from tenants.records import Tenant, Usage

if TYPE_CHECKING:
    from appliance.catalog.unit import Connection
    from appliance.s3.checksums import Digests
    from appliance.s3.operations import Conditions, ObjectHeaders, PutObject

__all__ = [
    "admit_upload",
    "attributes_of",
    "check_annex_room",
    "conditions_of",
    "limits_bytes",
    "plan_upload",
    "put_object",
]


# More than all of an annex but the upload's own words: names, ids, times, checksum, punctuation.
ANNEX_FIXED_BYTES = 1024
ANNEX_PAIR_BYTES = 8  # brackets, quotes and commas around a name and its text


async def put_object(operation: PutObject, request: S3Request) -> Response:
    """Store the request's body as the current version of a key."""
    services = request.services
    conditions = conditions_of(operation.conditions)
    tier = require_tier(operation.headers.storage_class, request.list_classes())
    plan = plan_upload(request)
    bucket = await _admit(operation, request, plan, conditions)
    [algorithm] = plan.algorithms
    attributes = attributes_of(operation.headers)
    modified_us = 0

    def make_annex(size_bytes: int, digests: Digests) -> bytes:
        nonlocal modified_us
        modified_us = services.clock.now_us()
        return encode_annex(
            Annex(
                tenant_name=request.principal.tenant.name,
                bucket_name=bucket.name,
                bucket_id=bucket.bucket_id,
                key=operation.key,
                size_bytes=size_bytes,
                etag=digests.md5.hex(),
                checksum=Checksum(algorithm=algorithm, value=digests.checksums[algorithm]),
                attributes=attributes,
                bucket_created_us=bucket.created_us,
                versioning=bucket.versioning,
                modified_us=modified_us,
            )
        )

    check_annex_room(operation.key, attributes)
    written = await services.writer.write_body(
        BodyRequest(
            tenant_id=bucket.tenant_id,
            body_id=services.body_ids.take(
                services.limits.put_bytes_max if plan.decoded_bytes is None else plan.decoded_bytes
            ),
            plan=plan,
            verified=request.verified,
            stored_algorithm=algorithm,
            object_bytes_max=services.limits.put_bytes_max,
            expected_bytes=plan.decoded_bytes,
            make_annex=make_annex,
            tier=tier,
        ),
        request.body,
    )
    new = NewVersion(
        tenant_id=bucket.tenant_id,
        bucket_id=bucket.bucket_id,
        key=operation.key,
        etag=written.digests.md5.hex(),
        modified_us=modified_us,
        attributes=attributes,
        checksum=Checksum(algorithm=algorithm, value=written.checksum[1]),
    )
    outcome = await _commit(request, new, written, conditions)
    request.sample_write(bucket, operation.key, outcome.version.size_bytes)
    if _keeps_versions(outcome.versioning) != _keeps_versions(bucket.versioning):
        # Versioning was switched while the body arrived: the annex says the contrary.
        await state_version(
            request, bucket, key=operation.key, version_id=outcome.version.version_id
        )
    headers = (
        (b"etag", quote_etag(outcome.version.etag).encode("ascii")),
        *version_id_headers(outcome.version.version_id, outcome.versioning),
        *checksum_headers(outcome.version.checksum),
    )
    return Response(status=200, headers=headers)


async def _admit(
    operation: PutObject, request: S3Request, plan: PayloadPlan, conditions: WriteConditions
) -> Bucket:
    """The bucket, after refusing what can be refused before the body's first byte.

    The transaction judges quota and conditions again, and its word is the exact one: whether the
    tenant is limited at all may be known here a second late.
    """
    tenant_id = request.principal.tenant.tenant_id
    facts = await request.services.catalog.find_object(
        ObjectQuery(tenant_id, operation.bucket, operation.key, with_pages=False)
    )
    bucket = require_bucket(facts.bucket, operation.bucket)
    _judge_early(conditions, facts.version)
    tenant, replaced = None, None
    if limits_bytes(bucket, request.principal.tenant):
        tenant, replaced = await _find_usage(operation, request, bucket)
    replaced_bytes = 0 if replaced is None else replaced.size_bytes
    admit_upload(request, plan, bucket=bucket, tenant=tenant, replaced_bytes=replaced_bytes)
    return bucket


async def _find_usage(
    operation: PutObject, request: S3Request, bucket: Bucket
) -> tuple[Tenant | None, VersionRecord | None]:
    """The tenant with its usage, and the version that the upload will replace, if any."""

    def look(connection: Connection) -> tuple[Tenant | None, VersionRecord | None]:
        tenant = tenants.find_tenant_by_id(connection, tenant_id=bucket.tenant_id)
        if bucket.versioning is Versioning.ENABLED:
            return tenant, None
        replaced = versions.find_version(
            connection,
            bucket_id=bucket.bucket_id,
            key=operation.key,
            version_id=NULL_VERSION_ID,
        )
        return tenant, replaced

    return await request.services.catalog.read(look)


def limits_bytes(bucket: Bucket, tenant: Tenant | None) -> bool:
    """True where bytes are limited, so that what an upload replaces is worth a look."""
    of_tenant = None if tenant is None else tenant.limits.bytes_max
    return bucket.limits.bytes_max is not None or of_tenant is not None


def _judge_early(conditions: WriteConditions, current: VersionRecord | None) -> None:
    exists = current is not None and not current.is_delete_marker
    if conditions.if_none_match and exists:
        raise S3Error(S3Code.PRECONDITION_FAILED, elements={"Condition": "If-None-Match"})
    if conditions.if_match is not None:
        if not exists or current is None:
            raise S3Error(S3Code.NO_SUCH_KEY)
        if "*" not in conditions.if_match and current.etag not in conditions.if_match:
            raise S3Error(S3Code.PRECONDITION_FAILED, elements={"Condition": "If-Match"})


def admit_upload(
    request: S3Request,
    plan: PayloadPlan,
    *,
    bucket: Bucket,
    tenant: Tenant | None,
    replaced_bytes: int,
) -> None:
    """Refuse an upload that announces more than fits, before its first byte.

    Args:
        request: The upload.
        plan: What it announces.
        bucket: Where to.
        tenant: Whose.
        replaced_bytes: What its success gives back, see `limits_bytes`.

    Raises:
        S3Error: `EntityTooLarge`, `InsufficientStorage`.
        QuotaExceeded: The announced length passes a limit.
    """
    announced = plan.decoded_bytes or 0
    if announced > request.services.limits.put_bytes_max:
        raise S3Error(
            S3Code.ENTITY_TOO_LARGE,
            elements={
                "ProposedSize": str(announced),
                "MaxSizeAllowed": str(request.services.limits.put_bytes_max),
            },
        )
    delta = Usage(used_bytes=announced - replaced_bytes, object_count=0)
    if tenant is not None:
        admit(tenant.limits, tenant.usage, delta)
    admit(
        bucket.limits,
        Usage(used_bytes=bucket.used_bytes, object_count=bucket.object_count),
        delta,
        owner=f"bucket {bucket.name}",
    )
    request.services.store.check_room()


def plan_upload(request: S3Request) -> PayloadPlan:
    """What the head announces of the body.

    Raises:
        S3Error: A digest, length or trailer announcement that S3 refuses.
    """
    return plan_payload(
        request.head,
        request.verified,
        content_length=request.body.content_length,
        is_secure=request.head.is_secure,
        require_signed_payload=request.services.limits.require_signed_payload,
    )


def attributes_of(headers: ObjectHeaders) -> VersionAttributes:
    """The upload's words in the catalog's form."""
    return VersionAttributes(
        content_type=headers.content_type,
        system=headers.system,
        user=headers.user,
        tags=headers.tags,
        storage_class=headers.storage_class,
    )


def conditions_of(conditions: Conditions) -> WriteConditions:
    """The write conditions in the catalog's form.

    Raises:
        S3Error: `NotImplemented` for what S3 does not take on a write.
    """
    if_match, if_none_match = parse_write_conditions(conditions)
    return WriteConditions(if_match=if_match, if_none_match=if_none_match)


def check_annex_room(key: bytes, attributes: VersionAttributes) -> None:
    """Refuse headers whose stored form would not fit behind the last page.

    Only a header section full of characters that JSON must escape gets here.
    """
    texts = (attributes.content_type, attributes.storage_class)
    pairs = (*attributes.system, *attributes.user, *attributes.tags)
    characters = (
        len(key) + sum(map(len, texts)) + sum(len(name) + len(text) for name, text in pairs)
    )
    if ANNEX_FIXED_BYTES + len(pairs) * ANNEX_PAIR_BYTES + 6 * characters <= ANNEX_BYTES_MAX:
        return  # however they are escaped: JSON writes at most six bytes for one
    sample = Annex(
        tenant_name="t" * 64,
        bucket_name="b" * 64,
        bucket_id=2**63,
        key=key,
        size_bytes=2**63,
        etag="0" * 64,
        checksum=Checksum(algorithm="SHA256", value="0" * 64),
        attributes=attributes,
        bucket_created_us=2**63,
        versioning=Versioning.SUSPENDED,
        modified_us=2**63,
    )
    if len(encode_annex(sample)) > ANNEX_BYTES_MAX:
        raise S3Error(S3Code.METADATA_TOO_LARGE)


def _keeps_versions(versioning: Versioning) -> bool:
    return versioning is Versioning.ENABLED


async def _commit(
    request: S3Request, new: NewVersion, written: WrittenBody, conditions: WriteConditions
) -> PutOutcome:
    unit = PutUnit(
        new=new,
        body=written.body,
        conditions=conditions,
        now_us=request.services.clock.now_us(),
    )
    return await commit_body(request, unit, written)
