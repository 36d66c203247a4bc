"""What both databases keep of policy revisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import exc, text

from appliance.catalog import policies, schema, tenants
from appliance.catalog.policies import REVISIONS_KEPT
from tests.contract.catalog_desk import CatalogContract

if TYPE_CHECKING:
    from appliance.catalog.policies import PolicyRevision
    from appliance.catalog.unit import Connection
    from tenants.records import TenantId
    from tests.catalog_fixtures import CatalogDesk

__all__ = ["PolicyContract"]


async def apply(desk: CatalogDesk, source: str, tenant_id: TenantId | None = None) -> int:
    return await desk.commit(
        policies.insert_revision,
        tenant_id=tenant_id,
        blake3=source.encode().ljust(32, b"\0"),
        source=source,
        author="socket",
        note="why",
        now_us=7,
    )


async def history(desk: CatalogDesk, tenant_id: TenantId | None = None) -> list[PolicyRevision]:
    return await desk.read(policies.list_revisions, tenant_id=tenant_id)


class PolicyContract(CatalogContract):
    async def test_nothing_is_active_before_the_first(self, desk: CatalogDesk) -> None:
        active = await desk.read(policies.load_active)

        assert active.revisions == ()
        assert await history(desk) == []

    async def test_a_text_is_kept_as_it_was_given(self, desk: CatalogDesk) -> None:
        source = "# Kältezone\r\n\tversion = 1"
        revision = await apply(desk, source)

        found = await desk.read(policies.find_revision, tenant_id=None, revision=revision)
        assert found is not None
        assert (found.source, found.author, found.note) == (source, "socket", "why")
        assert (found.created_us, found.is_active, found.tenant) == (7, True, None)
        assert (await desk.read(policies.load_active)).find(None) == found

    async def test_of_each_scope_the_newest_is_active_and_no_other(self, desk: CatalogDesk) -> None:
        acme, globex = await desk.make_tenant(), await desk.make_tenant("globex")
        for tenant_id in (None, acme.tenant_id, globex.tenant_id):
            await apply(desk, "a", tenant_id)
            await apply(desk, "b", tenant_id)

        active = await desk.read(policies.load_active)
        assert [(item.tenant, item.source) for item in active.revisions] == [
            (None, "b"),
            ("acme", "b"),
            ("globex", "b"),
        ]
        assert [item.is_active for item in await history(desk, acme.tenant_id)] == [True, False]

    async def test_an_older_one_becomes_active_again_in_its_own_scope(
        self, desk: CatalogDesk
    ) -> None:
        acme = await desk.make_tenant()
        first, overlay = await apply(desk, "a"), await apply(desk, "o", acme.tenant_id)
        await apply(desk, "b")

        def roll_back(connection: Connection, tenant_id: TenantId | None) -> bool:
            return policies.activate_revision(connection, tenant_id=tenant_id, revision=first)

        assert not await desk.commit(roll_back, acme.tenant_id)
        assert await desk.commit(roll_back, None)
        active = await desk.read(policies.load_active)
        assert [item.revision for item in active.revisions] == [first, overlay]

    async def test_two_of_a_scope_are_never_active(self, desk: CatalogDesk) -> None:
        acme = await desk.make_tenant()
        for tenant_id in (None, acme.tenant_id):
            await apply(desk, "a", tenant_id)
            await apply(desk, "b", tenant_id)

        def wake(connection: Connection, condition: str) -> None:
            words = f"UPDATE policy_revisions SET is_active = true WHERE {condition}"
            connection.execute(text(words))

        for condition in ("tenant_id IS NULL", "tenant_id IS NOT NULL"):
            with pytest.raises(exc.IntegrityError):
                await desk.commit(wake, condition)

    async def test_the_last_ones_of_a_scope_are_kept(self, desk: CatalogDesk) -> None:
        acme = await desk.make_tenant()
        overlay = await apply(desk, "o", acme.tenant_id)
        numbers = [await apply(desk, str(number)) for number in range(REVISIONS_KEPT)]
        assert await desk.commit(policies.activate_revision, tenant_id=None, revision=numbers[0])
        numbers += [await apply(desk, str(number)) for number in range(3)]

        kept = [item.revision for item in await history(desk)]
        assert kept == numbers[-REVISIONS_KEPT:][::-1]
        assert [item.revision for item in await history(desk, acme.tenant_id)] == [overlay]

    async def test_a_number_is_never_given_twice(self, desk: CatalogDesk) -> None:
        acme = await desk.make_tenant()
        last = await apply(desk, "o", acme.tenant_id)
        await desk.commit(tenants.delete_tenant, tenant_id=acme.tenant_id)

        assert (await desk.read(policies.load_active)).revisions == ()
        assert await apply(desk, "a") > last

    async def test_a_change_is_told_of_the_one_before_it(self, desk: CatalogDesk) -> None:
        seen = (await desk.read(policies.load_active)).change_number

        assert await desk.commit(policies.begin_change, expected=seen)
        assert not await desk.commit(policies.begin_change, expected=seen)

    async def test_the_schema_goes_back_and_comes_up_again(self, catalog_url: str) -> None:
        schema.downgrade(catalog_url, revision="0003")
        schema.upgrade(catalog_url)
