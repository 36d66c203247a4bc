"""Writes what a rebuild found into an empty catalog, in commits of bounded size, and checks it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from appliance.catalog import rebuild as units
from appliance.catalog.audit import append_audit
from appliance.catalog.capacity_past import add_past, keep_tenants
from appliance.catalog.engine import Catalog
from appliance.catalog.errors import CatalogDamaged
from appliance.catalog.rebuild import HeldBody
from appliance.catalog.records import Bucket, NewBody, VersionRecord
from appliance.catalog.version_rows import format_shown_id
from appliance.catalog.volumes import insert_volume
from appliance.identity import Identity, establish_identity
from appliance.objects.pipeline import open_pipeline
from hal.records import BodyId
from tenants.keys import generate_canonical_id
from tenants.records import QuotaLimits, Tenant, TenantState, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from appliance.catalog.rebuild import Heritage
    from appliance.catalog.records import BodySlice, VolumeRow
    from appliance.catalog.unit import Connection
    from appliance.clock import Clock
    from appliance.rebuild.evidence import Evidence
    from appliance.rebuild.fold import Rebuilt, RebuiltVersion
    from hal.records import SegmentRef

__all__ = ["WrittenCatalog", "write_catalog"]

ROWS_PER_COMMIT = 1_000  # versions or bodies: some MB of statements
_US_PER_S = 1_000_000

RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenCatalog:
    """What was written."""

    tenants: int
    pages: int
    shadows: int
    keys: int
    policies: int
    tenants_without_keys: tuple[str, ...]


async def write_catalog(  # noqa: PLR0913 - what there is, and how to stamp it
    url: str,
    rebuilt: Rebuilt,
    evidence: Evidence,
    volumes: Sequence[VolumeRow],
    *,
    identity: Identity,
    heritage: Heritage | None,
    clock: Clock,
    random_bytes: Callable[[int], bytes],
) -> WrittenCatalog:
    """Fill an empty catalog; its identity comes last, so that half of one is none.

    Args:
        url: A catalog with its schema and no rows.
        rebuilt: What it is to hold.
        evidence: Where the bodies lie.
        volumes: The appliance's.
        identity: From their superblocks, with the data key to go on with.
        heritage: What an older catalog knows, None where there is none to be used.
        clock: Stamps the audit entry.
        random_bytes: Gives that many unpredictable bytes.

    Durability: all of it, on return.

    Raises:
        CatalogDamaged: The new catalog fails its check, which would be a fault of this program's.
    """
    heritage = _without_namesakes(rebuilt, heritage)
    tenants = _merge_tenants(rebuilt, heritage, random_bytes)
    async with AsyncExitStack() as opened:
        catalog = await Catalog.open(url, flusher=_flush_nothing, readers=1)
        opened.push_async_callback(catalog.aclose)
        async with open_pipeline() as nursery:
            await nursery.start(catalog.run)
            await catalog.commit(partial(_add_owners, rebuilt, tenants, heritage))
            pages, shadows = await _add_bodies(catalog, rebuilt, evidence)
            for some in _split(rebuilt.versions):
                rows = [_make_version(version) for version in some]
                await catalog.commit(partial(units.add_versions, versions=rows))

            def end(connection: Connection) -> None:
                units.raise_epoch(connection, epoch=evidence.epoch_max)
                units.finish(
                    connection,
                    sequence=max(
                        (version.sequence for version in rebuilt.versions),
                        default=rebuilt.sequence_next - 1,
                    ),
                    # No running process remembers one; a start polls before it trusts.
                    revision=evidence.epoch_max,
                )
                for volume in volumes:
                    insert_volume(connection, volume=volume)
                establish_identity(
                    connection,
                    candidate=identity.appliance_uuid,
                    wrapped_data_key=identity.wrapped_data_key,
                )
                append_audit(
                    connection,
                    at_us=clock.now_us(),
                    actor="fsck",
                    action="catalog rebuild",
                    subject=str(identity.appliance_uuid),
                    outcome="done",
                    detail=f"{len(rebuilt.versions)} versions, {rebuilt.left_out_count} left out",
                )

            await catalog.commit(end)
            findings = await catalog.check()
            nursery.cancel_scope.cancel()
    if findings:
        first = f"{findings[0].kind}: {findings[0].subject}: {findings[0].detail}"
        raise CatalogDamaged(f"the rebuilt catalog has {len(findings)} findings: {first}")
    owners = {known.tenant_id for known, _ in heritage.keys} if heritage is not None else set()
    return WrittenCatalog(
        tenants=len(tenants),
        pages=pages,
        shadows=shadows,
        keys=len(heritage.keys) if heritage is not None else 0,
        policies=len(heritage.policies) if heritage is not None else 0,
        tenants_without_keys=tuple(
            tenant.name for tenant in tenants if tenant.tenant_id not in owners
        ),
    )


def _without_namesakes(rebuilt: Rebuilt, heritage: Heritage | None) -> Heritage | None:
    """The heritage without tenants that were deleted since, and whose names others have now."""
    if heritage is None:
        return None
    owners = {tenant.name: tenant.tenant_id for tenant in rebuilt.tenants}
    tenants = tuple(
        tenant
        for tenant in heritage.tenants
        if owners.get(tenant.name, tenant.tenant_id) == tenant.tenant_id
    )
    ids = {tenant.tenant_id for tenant in tenants}
    return replace(
        heritage,
        tenants=tenants,
        users=tuple(user for user in heritage.users if user.tenant_id in ids),
        keys=tuple((key, sealed) for key, sealed in heritage.keys if key.tenant_id in ids),
        policies=tuple(item for item in heritage.policies if item.tenant_id in {None, *ids}),
        past=keep_tenants(heritage.past, ids),
    )


def _merge_tenants(
    rebuilt: Rebuilt, heritage: Heritage | None, random_bytes: Callable[[int], bytes]
) -> list[Tenant]:
    """Every tenant: as the old catalog has it, or as far as the segments know."""
    known = {tenant.tenant_id: tenant for tenant in heritage.tenants} if heritage else {}
    found = [
        Tenant(
            tenant_id=tenant.tenant_id,
            name=tenant.name,
            canonical_id=tenant.canonical_id or generate_canonical_id(random_bytes),
            state=TenantState.ACTIVE,
            created_at=tenant.created_us / _US_PER_S,
            limits=QuotaLimits(),
            usage=Usage(),
        )
        for tenant in rebuilt.tenants
        if tenant.tenant_id not in known
    ]
    return sorted([*known.values(), *found], key=lambda tenant: tenant.tenant_id)


def _add_owners(
    rebuilt: Rebuilt, tenants: Sequence[Tenant], heritage: Heritage | None, connection: Connection
) -> None:
    for tenant in tenants:
        units.add_tenant(connection, tenant=tenant)
    users = heritage.users if heritage is not None else ()
    owners = {user.tenant_id for user in users}
    units.add_users(
        connection,
        users=users,
        rooted=[
            (tenant.tenant_id, round(tenant.created_at * _US_PER_S))
            for tenant in tenants
            if tenant.tenant_id not in owners
        ],
    )
    units.add_keys(connection, keys=heritage.keys if heritage is not None else ())
    units.add_policies(connection, policies=heritage.policies if heritage is not None else ())
    if heritage is not None:
        add_past(connection, past=heritage.past)
    for bucket in rebuilt.buckets:
        units.add_bucket(
            connection,
            bucket=Bucket(
                bucket_id=bucket.bucket_id,
                tenant_id=bucket.tenant_id,
                name=bucket.name,
                created_us=bucket.created_us,
                versioning=bucket.versioning,
                limits=bucket.limits,
                used_bytes=0,
                object_count=0,
                manifest_body_id=bucket.manifest_id,
            ),
        )


def _split(rows: Sequence[RowT]) -> Iterator[Sequence[RowT]]:
    for start in range(0, len(rows), ROWS_PER_COMMIT):
        yield rows[start : start + ROWS_PER_COMMIT]


async def _add_bodies(catalog: Catalog, rebuilt: Rebuilt, evidence: Evidence) -> tuple[int, int]:
    """Write the bodies that are referred to; how many pages and shadows they have."""
    pages = shadows = 0
    for some in _split(sorted(rebuilt.references.items())):
        held = []
        for body_id, references in some:
            found = evidence.bodies[body_id]
            body = NewBody(
                body_id=BodyId(body_id),
                size_bytes=found.size_bytes,
                pages=tuple(places[0] for _, places in sorted(found.pages.items())),
            )
            one = HeldBody(
                tenant_id=found.tenant_id,
                body=body,
                reference_count=references,
                shadows={
                    index: places[1].extent
                    for index, places in found.pages.items()
                    if len(places) > 1
                },
            )
            pages += len(body.pages)
            shadows += len(one.shadows)
            held.append(one)
        await catalog.commit(partial(units.add_bodies, bodies=held))
    return pages, shadows


def _make_version(
    version: RebuiltVersion,
) -> tuple[VersionRecord, bool, tuple[BodySlice, ...]]:
    statement = version.statement
    is_plain = statement.part_count is None and len(statement.bodies) == 1
    body_id = statement.bodies[0].body_id if is_plain else None
    stated_first = statement.manifest_id or body_id
    record = VersionRecord(
        bucket_id=version.bucket_id,
        key=statement.key,
        sequence=version.sequence,
        version_id=format_shown_id(version.sequence, is_null_version=version.is_null_version),
        is_current=version.is_current,
        is_delete_marker=statement.is_delete_marker,
        size_bytes=statement.size_bytes,
        etag=statement.etag,
        modified_us=statement.modified_us,
        attributes=statement.attributes,
        checksum=statement.checksum,
        body_id=body_id,
        part_count=statement.part_count,
        manifest_body_id=statement.manifest_id,
        origin_id=None if statement.origin_id == stated_first else statement.origin_id,
    )
    return record, version.is_null_version, statement.bodies


async def _flush_nothing(segments: frozenset[SegmentRef], /) -> Mapping[SegmentRef, Exception]:
    """No unit of a rebuild writes to a volume."""
    assert not segments
    await trio.lowlevel.checkpoint()
    return {}
