"""What both databases keep of tenants, users, access keys, volumes and the audit trail."""

from __future__ import annotations

import uuid
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from appliance.catalog import audit, keys, tenants, volumes
from appliance.catalog.errors import CatalogDamaged
from appliance.catalog.records import VolumeRow, VolumeState
from hal.records import VolumeId
from tenants.errors import (
    AccessKeyExists,
    NoSuchAccessKey,
    NoSuchTenant,
    NoSuchUser,
    TenantExists,
    TenantNotEmpty,
    UserExists,
)
from tenants.records import (
    AccessKey,
    AccessKeyId,
    QuotaLimits,
    Role,
    Tenant,
    TenantId,
    TenantState,
    User,
    UserId,
)
from tests.contract.catalog_desk import CatalogContract
from tiers.records import PAGE_BYTES_MAX

if TYPE_CHECKING:
    from appliance.catalog.unit import Connection
    from tests.catalog_fixtures import CatalogDesk

__all__ = ["TenantContract"]


def make_key(user: User, key_id: str = "TKEXAMPLE") -> AccessKey:
    return AccessKey(
        access_key_id=AccessKeyId(key_id),
        tenant_id=user.tenant_id,
        user_id=user.user_id,
        role=Role.READ_ONLY,
        bucket_scope="photos",
        prefix_scope=b"2024/",
        expires_at=1_700_000_000.25,
        enabled=True,
        created_at=1_600_000_000.5,
    )


def _execute(connection: Connection, *, statement: str) -> None:
    connection.execute(text(statement))


class TenantContract(CatalogContract):
    async def root(self, desk: CatalogDesk, tenant: Tenant) -> User:
        return (await desk.read(tenants.list_users, tenant_id=tenant.tenant_id, limit=1))[0]

    async def test_a_tenant_begins_with_its_root_user(self, desk: CatalogDesk) -> None:
        limits = QuotaLimits(bytes_max=1, objects_max=2, buckets_max=3)
        made = await desk.make_tenant("acme", limits)

        assert made.limits == limits
        assert made.state is TenantState.ACTIVE
        assert await desk.read(tenants.find_tenant, name="acme") == made
        assert (await self.root(desk, made)).name == "root"
        assert await desk.read(tenants.find_tenant, name="nobody") is None

    async def test_a_tenants_name_is_taken_once(self, desk: CatalogDesk) -> None:
        await desk.make_tenant()

        with pytest.raises(TenantExists):
            await desk.make_tenant()

    async def test_tenants_are_listed_by_name(self, desk: CatalogDesk) -> None:
        for name in ("b1", "a", "b2", "B"):
            await desk.make_tenant(name)

        async def names(**wanted: str) -> list[str]:
            found = await desk.read(tenants.list_tenants, limit=2, **wanted)
            return [tenant.name for tenant in found]

        assert await names() == ["B", "a"]
        assert await names(after="a") == ["b1", "b2"]
        assert await names(prefix="b", after="b1") == ["b2"]

    async def test_state_and_quota_are_changed(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant()
        suspended = await desk.commit(
            tenants.set_tenant_state, tenant_id=tenant.tenant_id, state=TenantState.SUSPENDED
        )
        limited = await desk.commit(
            tenants.set_quota, tenant_id=tenant.tenant_id, limits=QuotaLimits(bytes_max=9)
        )

        assert suspended.state is TenantState.SUSPENDED
        assert limited == await desk.load_tenant(tenant)
        assert limited.limits == QuotaLimits(bytes_max=9)
        with pytest.raises(NoSuchTenant):
            await desk.commit(tenants.set_quota, tenant_id=TenantId(999), limits=QuotaLimits())

    async def test_a_tenant_is_deleted_without_buckets_only(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant()
        key = make_key(await self.root(desk, tenant))
        await desk.commit(keys.insert_key, key=key, sealed=b"s")
        empty = await desk.make_tenant("empty")
        await desk.make_bucket(tenant)

        with pytest.raises(TenantNotEmpty):
            await desk.commit(tenants.delete_tenant, tenant_id=tenant.tenant_id)
        await desk.commit(tenants.delete_tenant, tenant_id=empty.tenant_id)
        with pytest.raises(NoSuchTenant):
            await desk.commit(tenants.delete_tenant, tenant_id=empty.tenant_id)
        again = await desk.make_tenant("empty")
        assert again.tenant_id > empty.tenant_id

    async def test_a_key_is_found_with_its_tenant_and_user(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant()
        user = await self.root(desk, tenant)
        key = make_key(user)
        await desk.commit(keys.insert_key, key=key, sealed=b"\x00sealed\xff")

        found = await desk.read(keys.find_key, access_key_id=key.access_key_id)
        assert found == (key, b"\x00sealed\xff", tenant, user)
        assert await desk.read(keys.find_key, access_key_id=AccessKeyId("none")) is None
        with pytest.raises(AccessKeyExists):
            await desk.commit(keys.insert_key, key=key, sealed=b"")
        stranger = make_key(replace(user, user_id=UserId(999)), "OTHER")
        with pytest.raises(NoSuchUser):
            await desk.commit(keys.insert_key, key=stranger, sealed=b"")

    async def test_keys_are_disabled_rotated_listed_and_deleted(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant()
        user = await self.root(desk, tenant)
        for key_id in ("K2", "K1", "K3"):
            await desk.commit(keys.insert_key, key=make_key(user, key_id), sealed=b"old")
        first = AccessKeyId("K1")
        await desk.commit(keys.set_key_enabled, access_key_id=first, enabled=False)
        await desk.commit(keys.replace_secret, access_key_id=first, sealed=b"new")
        await desk.commit(keys.delete_key, access_key_id=AccessKeyId("K2"))

        found = await desk.read(keys.list_keys, tenant_id=tenant.tenant_id)
        assert [(key.access_key_id, key.enabled) for key in found] == [("K1", False), ("K3", True)]
        sealed = await desk.read(keys.list_sealed, limit=10)
        assert [(key.access_key_id, secret) for key, secret in sealed] == [
            ("K1", b"new"),
            ("K3", b"old"),
        ]
        assert await desk.read(keys.list_keys, tenant_id=tenant.tenant_id, after="K3") == []
        with pytest.raises(NoSuchAccessKey):
            await desk.commit(keys.delete_key, access_key_id=AccessKeyId("K2"))

    async def test_every_change_of_a_key_raises_the_revision(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant()
        key = make_key(await self.root(desk, tenant))
        seen = [await desk.read(keys.keyring_revision)]

        async def look() -> None:
            seen.append(await desk.read(keys.keyring_revision))

        await desk.commit(keys.insert_key, key=key, sealed=b"s")
        await look()
        await desk.commit(keys.set_key_enabled, access_key_id=key.access_key_id, enabled=False)
        await look()
        await desk.commit(keys.replace_secret, access_key_id=key.access_key_id, sealed=b"t")
        await look()
        await desk.commit(
            tenants.set_tenant_state, tenant_id=tenant.tenant_id, state=TenantState.SUSPENDED
        )
        await look()
        await desk.commit(tenants.delete_user, tenant_id=tenant.tenant_id, name="root")
        await look()
        assert seen == sorted(set(seen))
        assert len(seen) == 6

    async def test_a_user_is_deleted_with_its_keys(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant()
        insert = partial(tenants.insert_user, tenant_id=tenant.tenant_id, name="ci", now_us=1)
        delete = partial(tenants.delete_user, tenant_id=tenant.tenant_id, name="ci")
        user = await desk.catalog.commit(insert)
        with pytest.raises(UserExists):
            await desk.catalog.commit(insert)
        await desk.commit(keys.insert_key, key=make_key(user), sealed=b"s")

        assert await desk.catalog.commit(delete) == 1
        assert await desk.read(keys.list_keys, tenant_id=tenant.tenant_id) == []
        with pytest.raises(NoSuchUser):
            await desk.catalog.commit(delete)

    async def test_volumes_are_remembered(self, desk: CatalogDesk) -> None:
        rows = [
            VolumeRow(
                volume_id=VolumeId(number),
                uuid=str(uuid.UUID(int=number)),
                tier="ssd",
                path=f"/mnt/{number}",
                created_us=number,
            )
            for number in (2, 1)
        ]
        for row in rows:
            await desk.commit(volumes.insert_volume, volume=row)

        assert await desk.read(volumes.list_volumes) == rows[::-1]
        await desk.commit(
            lambda connection: connection.execute(text("UPDATE volumes SET uuid = 'x' || uuid"))
        )
        with pytest.raises(CatalogDamaged, match="UUID of volume 1"):
            await desk.read(volumes.list_volumes)

    async def test_a_volume_is_emptied_and_removed(self, desk: CatalogDesk) -> None:
        row = VolumeRow(
            volume_id=VolumeId(1),
            uuid=str(uuid.UUID(int=1)),
            tier="ssd",
            path="/mnt/1",
            created_us=1,
        )
        await desk.commit(volumes.insert_volume, volume=row)
        assert row.state is VolumeState.ACTIVE
        for state in (VolumeState.DRAINING, VolumeState.REMOVED):
            assert await desk.commit(volumes.set_volume_state, volume_id=row.volume_id, state=state)
            assert [found.state for found in await desk.read(volumes.list_volumes)] == [state]

        is_known = await desk.commit(
            volumes.set_volume_state, volume_id=VolumeId(2), state=VolumeState.ACTIVE
        )
        assert not is_known
        await desk.commit(_execute, statement="UPDATE volumes SET state = 'gone'")
        with pytest.raises(CatalogDamaged, match="the state of volume 1 is 'gone'"):
            await desk.read(volumes.list_volumes)

    async def test_what_lies_on_a_volume_is_known_until_the_last_row_is_gone(
        self, desk: CatalogDesk
    ) -> None:
        volume_id = VolumeId(1)
        load = await desk.read(volumes.measure_volume, volume_id=volume_id)
        assert (load.records, load.record_bytes) == (0, 0)
        bucket = await desk.make_bucket(await desk.make_tenant())
        await desk.put(bucket, b"k", size_bytes=PAGE_BYTES_MAX + 1)

        load = await desk.read(volumes.measure_volume, volume_id=volume_id)
        assert (load.records, load.record_bytes) == (2, 2 * 8192)
        assert await desk.read(volumes.is_volume_named, volume_id=volume_id)
        assert not await desk.read(volumes.is_volume_named, volume_id=VolumeId(2))
        columns = "volume_id, segment_id, segment_offset, record_bytes"
        for table, fields, values in (
            ("page_shadows", "body_id, page_index", "4294967297, 0"),
            ("dead_extents", "died_us", "5"),
        ):
            insert = f"INSERT INTO {table} ({fields}, {columns}) VALUES ({values}, 2, 9, 0, 4096)"
            await desk.commit(_execute, statement=insert)
            assert await desk.read(volumes.is_volume_named, volume_id=VolumeId(2)), table
            load = await desk.read(volumes.measure_volume, volume_id=VolumeId(2))
            assert (load.records, load.record_bytes) == (1, 4096), table
            await desk.commit(_execute, statement=f"DELETE FROM {table}")

    async def test_the_audit_trail_is_read_backwards(self, desk: CatalogDesk) -> None:
        for number in range(5):
            await desk.commit(
                audit.append_audit,
                at_us=number,
                actor="admin",
                action="tenant create",
                subject=f"t{number}",
                outcome="ok",
            )

        newest = await desk.read(audit.list_audit, limit=2)
        assert [entry.subject for entry in newest] == ["t4", "t3"]
        older = await desk.read(audit.list_audit, limit=9, before=newest[-1].audit_id)
        assert [entry.subject for entry in older] == ["t2", "t1", "t0"]
