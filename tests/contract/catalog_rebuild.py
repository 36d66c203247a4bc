"""What both databases take from a rebuild, and lend to the next one."""

from __future__ import annotations

import uuid
from dataclasses import asdict, replace

from appliance.catalog import keys, policies, rebuild as units, settings, tenants
from appliance.catalog.capacity_history import TenantSample, VolumeSample
from appliance.catalog.capacity_past import CapacityPast, keep_tenants, load_past
from appliance.catalog.policies import PolicyRevision
from appliance.catalog.rebuild import Heritage
from appliance.catalog.records import BodySlice, Versioning
from appliance.catalog.usage_months import MonthUse, list_stored_use
from appliance.clock import FakeClock
from appliance.identity import Identity, load_identity
from appliance.objects.manifest import BucketManifest, VersionManifest
from appliance.policy_store import hash_source
from appliance.rebuild.evidence import Evidence
from appliance.rebuild.fold import fold
from appliance.rebuild.write import write_catalog
from hal.records import BodyId
from tenants.records import (
    AccessKey,
    AccessKeyId,
    QuotaLimits,
    Role,
    Tenant,
    TenantId,
    TenantState,
    Usage,
)
from tests.catalog_fixtures import CatalogDesk, open_desk
from tests.unit.rebuild.test_fold import TEXT, add, make_annex

__all__ = ["RebuildContract"]

EPOCH = 9
IDENTITY = Identity(appliance_uuid=uuid.UUID(int=3), wrapped_data_key=b"wrapped")


def find_evidence() -> Evidence:
    """Two tenants; a versioned key, a multipart object and an empty bucket."""
    evidence = Evidence(epoch_max=EPOCH)
    acme, globex = TenantId(4), TenantId(6)
    add(evidence, 1, make_annex(b"k", 10, Versioning.ENABLED), tenant_id=acme)
    add(evidence, 2, make_annex(b"k", 20, Versioning.ENABLED), tenant_id=acme)
    for number in (3, 4):
        part = make_annex(b"p", number, None, upload_id="u", part_number=number, attributes=None)
        add(evidence, number, part, tenant_id=acme)
    whole = VersionManifest(
        tenant_name="acme",
        bucket_name="data",
        bucket_id=7,
        bucket_created_us=1,
        key=b"p",
        origin_id=None,
        is_null_version=False,
        is_delete_marker=False,
        size_bytes=20,
        etag="e-2",
        modified_us=30,
        attributes=TEXT,
        checksum=None,
        part_count=2,
        bodies=tuple(
            BodySlice(body_id=BodyId(number), size_bytes=10, part_number=number)
            for number in (3, 4)
        ),
    )
    add(evidence, 5, whole, sizes=(5,), tenant_id=acme)
    empty = BucketManifest(
        tenant_name="globex",
        canonical_id="f" * 64,
        bucket_name="empty",
        created_us=5,
        versioning=Versioning.SUSPENDED,
        limits=QuotaLimits(objects_max=3),
    )
    add(evidence, 6, empty, sizes=(5,), tenant_id=globex)
    return evidence


async def fill(url: str, heritage: Heritage | None = None) -> None:
    evidence = find_evidence()
    known = None if heritage is None else heritage.sequences
    await write_catalog(
        url,
        fold(evidence, first_sequence=1000, sequences=known),
        evidence,
        [],
        identity=IDENTITY,
        heritage=heritage,
        clock=FakeClock(),
        random_bytes=bytes,
    )


class RebuildContract:
    """Subclasses provide the fixture `catalog_url`: a fresh, migrated catalog."""

    async def test_a_rebuilt_catalog_is_sound_and_goes_on(self, catalog_url: str) -> None:
        await fill(catalog_url)

        async with open_desk(catalog_url) as desk:
            acme = await desk.read(tenants.find_tenant, name="acme")
            assert acme is not None
            assert (acme.tenant_id, acme.usage.used_bytes, acme.usage.object_count) == (4, 40, 3)
            assert await desk.commit(settings.begin_epoch) == EPOCH + 1
            another = await desk.make_tenant("another")
            bucket = await desk.make_bucket(another)
            made = (await desk.put(bucket, b"k")).version
            [user] = await desk.read(tenants.list_users, tenant_id=another.tenant_id, limit=9)
            users = [
                found.user_id
                for owner in (4, 6)
                for found in await desk.read(tenants.list_users, tenant_id=TenantId(owner), limit=9)
            ]

        assert another.tenant_id > 6
        assert bucket.bucket_id > 8
        assert made.sequence > 1002
        assert user.user_id not in users
        assert len(users) == 2

    async def test_what_it_knows_beyond_the_segments_is_lent_to_the_next(
        self, catalog_url: str
    ) -> None:
        await fill(catalog_url)
        async with open_desk(catalog_url) as desk:
            key = await self._add_key(desk)
            for owner in (None, TenantId(4)):
                await self._add_policy(desk, owner)
            lent = await desk.read(units.load_heritage)
            identity = await desk.read(load_identity)

        assert identity == IDENTITY
        assert lent.boot_epoch == EPOCH
        assert lent.keys == ((key, b"sealed"),)
        assert [tenant.name for tenant in lent.tenants] == ["acme", "globex"]
        assert lent.sequences == {
            (4, "data", b"k", 1): 1000,
            (4, "data", b"k", 2): 1001,
            (4, "data", b"p", 5): 1002,
        }
        assert lent.sequence_max == 1002
        assert [(item.revision, item.tenant, item.source) for item in lent.policies] == [
            (1, None, "version = 1"),
            (2, "acme", "version = 1"),
        ]

    async def test_policies_that_are_lent_are_in_force_and_numbered_on(
        self, catalog_url: str
    ) -> None:
        text = hash_source("version = 1")
        lent = PolicyRevision(
            revision=41,
            tenant_id=None,
            tenant=None,
            blake3=text,
            source="version = 1",
            author="socket",
            note="",
            created_us=3,
            is_active=True,
        )
        strange = replace(lent, revision=42, tenant_id=TenantId(99), tenant="deleted")
        heritage = Heritage(
            tenants=(),
            users=(),
            keys=(),
            sequences={},
            sequence_max=0,
            boot_epoch=1,
            policies=(lent, strange),
            past=CapacityPast(rows={}, counters={}),
        )

        await fill(catalog_url, heritage)

        async with open_desk(catalog_url) as desk:
            assert (await desk.read(policies.load_active)).revisions == (lent,)
            assert await self._add_policy(desk, None) > 41

    async def test_bills_that_are_lent_go_on(self, catalog_url: str) -> None:
        acme = Tenant(
            tenant_id=TenantId(4),
            name="acme",
            canonical_id="a" * 64,
            state=TenantState.ACTIVE,
            created_at=1.0,
            limits=QuotaLimits(),
            usage=Usage(),
        )
        past = CapacityPast(
            rows={
                "volume_samples": (VolumeSample(50, 1, "ssd", 9, 1, 8, 0, 0)._asdict(),),
                "tenant_samples": tuple(
                    TenantSample(50, owner, "ssd", 100, 4096)._asdict() for owner in (4, 99)
                ),
                "usage_months": tuple(
                    {"tenant_id": owner, "month": 202611, **asdict(MonthUse(reads=7))}
                    for owner in (4, 99)
                ),
                "usage_stored": (
                    {"tenant_id": 4, "month": 202611, "tier": "ssd", "byte_hours": 2**60},
                ),
            },
            counters={"capacity_sampled": 50, "usage_counted_since": 5},
        )
        heritage = Heritage(
            tenants=(acme,),
            users=(),
            keys=(),
            sequences={},
            sequence_max=0,
            boot_epoch=1,
            policies=(),
            past=past,
        )

        await fill(catalog_url, heritage)

        async with open_desk(catalog_url) as desk:
            # The tenant that is gone has left nothing.
            assert await desk.read(load_past) == keep_tenants(past, {4})
            [stored] = await desk.read(list_stored_use, tenant_id=TenantId(4), month=202611)
            assert stored.byte_hours == 2**60

    async def _add_policy(self, desk: CatalogDesk, tenant_id: TenantId | None) -> int:
        return await desk.commit(
            policies.insert_revision,
            tenant_id=tenant_id,
            blake3=hash_source("version = 1"),
            source="version = 1",
            author="socket",
            note="",
            now_us=1,
        )

    async def _add_key(self, desk: CatalogDesk) -> AccessKey:
        [user] = await desk.read(tenants.list_users, tenant_id=TenantId(4), limit=9)
        key = AccessKey(
            access_key_id=AccessKeyId("AK"),
            tenant_id=TenantId(4),
            user_id=user.user_id,
            role=Role.READ_WRITE,
            bucket_scope=None,
            prefix_scope=None,
            expires_at=None,
            enabled=True,
            created_at=1.0,
        )
        await desk.commit(keys.insert_key, key=key, sealed=b"sealed")
        return key
