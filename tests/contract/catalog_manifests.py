"""What both databases keep of manifests: taken where true, dying with what they state."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from appliance.catalog import buckets, damage, schema, scrub, tables, uploads, versions
from appliance.catalog.connections import make_writer_engine, parse_url
from appliance.catalog.database_lock import hold_database
from appliance.catalog.records import (
    BodySlice,
    BucketStatement,
    PartRecord,
    UploadRecord,
    VersionAttributes,
    Versioning,
    VersionStatement,
    WriteConditions,
)
from tenants.records import QuotaLimits
from tests.catalog_fixtures import open_desk
from tests.contract.catalog_desk import CatalogContract
from tiers.scrub_records import QuarantinedPage

if TYPE_CHECKING:
    from appliance.catalog.records import Bucket, VersionRecord
    from appliance.catalog.unit import Connection
    from hal.records import BodyId
    from tests.catalog_fixtures import CatalogDesk

__all__ = ["ManifestContract"]

DEFAULTS = VersionAttributes(content_type="text/plain")


def deaths(connection: Connection) -> dict[int, tuple[int, int | None]]:
    """References and time of death of every body."""
    b = tables.bodies.c
    found = connection.execute(select(b.body_id, b.reference_count, b.died_us))
    return {row[0]: (row[1], row[2]) for row in found}


class ManifestContract(CatalogContract):
    @pytest.fixture
    async def bucket(self, desk: CatalogDesk) -> Bucket:
        return await desk.make_bucket(await desk.make_tenant())

    def state(
        self,
        desk: CatalogDesk,
        version: VersionRecord | None = None,
        *,
        slices: tuple[BodySlice, ...] = (),
        is_null: bool = True,
        attributes: VersionAttributes = DEFAULTS,
    ) -> VersionStatement:
        if version is not None and version.body_id is not None:
            slices = (BodySlice(body_id=version.body_id, size_bytes=version.size_bytes),)
        return VersionStatement(
            body=desk.make_body(5),
            is_null_version=is_null,
            attributes=attributes,
            slices=slices,
            origin_id=None,
            at_us=77,
        )

    async def copy(
        self, desk: CatalogDesk, bucket: Bucket, source: VersionRecord, statement: VersionStatement
    ) -> VersionRecord:
        outcome = await desk.commit(
            versions.copy_version,
            new=desk.make_version(bucket, b"copy"),
            source_sequence=source.sequence,
            conditions=WriteConditions(),
            now_us=5,
            statement=statement,
        )
        return outcome.version

    async def test_a_copy_takes_its_manifest_and_dies_with_it(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        source = (await desk.put(bucket, b"source")).version
        statement = self.state(desk, source)

        made = await self.copy(desk, bucket, source, statement)
        desk.now_us = 9
        await desk.delete(bucket, b"copy")

        assert made.manifest_body_id == statement.body.body_id
        assert (await desk.read(deaths))[statement.body.body_id] == (0, 9)
        assert (await desk.load_bucket(bucket)).used_bytes == source.size_bytes

    async def test_a_manifest_counts_as_no_content(self, desk: CatalogDesk, bucket: Bucket) -> None:
        source = (await desk.put(bucket, b"source", size_bytes=10)).version

        made = await self.copy(desk, bucket, source, self.state(desk, source))

        found = await desk.load_bucket(bucket)
        assert (found.used_bytes, found.object_count) == (20, 2)
        assert [body.body_id for body in await desk.read(versions.list_slices, version=made)] == [
            source.body_id
        ]

    @pytest.mark.parametrize("wrong", ["versioning", "bodies"])
    async def test_a_manifest_that_is_not_true_is_left_alone(
        self, desk: CatalogDesk, bucket: Bucket, wrong: str
    ) -> None:
        source = (await desk.put(bucket, b"source")).version
        true = self.state(desk, source)
        other = BodySlice(body_id=true.body.body_id, size_bytes=1)
        statement = {
            "versioning": replace(true, is_null_version=False),
            "bodies": replace(true, slices=(other,)),
        }[wrong]

        made = await self.copy(desk, bucket, source, statement)

        assert made.manifest_body_id is None
        assert statement.body.body_id not in await desk.read(deaths)

    async def test_a_delete_marker_takes_its_manifest(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        await desk.set_versioning(bucket, Versioning.ENABLED)
        statement = replace(
            self.state(desk, is_null=False), attributes=VersionAttributes(content_type="")
        )

        outcome = await desk.commit(
            versions.delete_object,
            bucket_id=bucket.bucket_id,
            tenant_id=bucket.tenant_id,
            key=b"k",
            version_id=None,
            now_us=5,
            statement=statement,
        )
        assert outcome.manifest_body_id == statement.body.body_id
        await desk.delete(bucket, b"k", version_id=outcome.version_id)

        assert (await desk.read(deaths))[statement.body.body_id][0] == 0

    async def test_changed_tags_replace_the_manifest_and_keep_its_origin(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        source = (await desk.put(bucket, b"source")).version
        first = self.state(desk, source)
        made = await self.copy(desk, bucket, source, first)
        stated: list[BodyId | None] = []
        manifests = [first.body.body_id]

        for value in ("one", "two"):
            tags = (("k", value),)
            statement = replace(
                self.state(desk, source, attributes=replace(DEFAULTS, tags=tags)),
                origin_id=made.stated_id,
            )
            made = await desk.commit(
                versions.replace_tags,
                bucket_id=bucket.bucket_id,
                tenant_id=bucket.tenant_id,
                key=b"copy",
                version_id=None,
                tags=tags,
                statement=statement,
            )
            manifests.append(statement.body.body_id)
            stated.append(made.stated_id)

        found = await desk.read(deaths)
        assert made.manifest_body_id == manifests[-1]
        assert stated == [manifests[0], manifests[0]]
        assert [found[body_id] for body_id in manifests] == [(0, 77), (0, 77), (1, None)]

    async def test_a_version_is_stated_after_its_commit(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        version = (await desk.put(bucket, b"k")).version
        true = replace(self.state(desk, version), origin_id=version.body_id)
        stale = replace(true, attributes=replace(DEFAULTS, tags=(("a", "b"),)))

        async def attach(statement: VersionStatement) -> bool:
            return await desk.commit(
                versions.attach_statement,
                bucket_id=bucket.bucket_id,
                tenant_id=bucket.tenant_id,
                key=b"k",
                sequence=version.sequence,
                statement=statement,
            )

        assert not await attach(stale)
        assert await attach(true)
        found = await desk.find(bucket, b"k")
        assert found is not None
        assert found.manifest_body_id == true.body.body_id
        assert found.stated_id == version.body_id

    async def test_an_upload_is_completed_with_a_manifest_of_its_very_bodies(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        await desk.commit(
            uploads.create_upload,
            upload=UploadRecord(
                upload_id="u",
                tenant_id=bucket.tenant_id,
                bucket_id=bucket.bucket_id,
                key=b"k",
                initiated_us=1,
                initiator="i",
                attributes=DEFAULTS,
                checksum_algorithm=None,
                checksum_type=None,
            ),
            open_max=9,
        )
        for number in (1, 2, 3):
            await desk.commit(
                uploads.put_part,
                tenant_id=bucket.tenant_id,
                part=PartRecord(
                    part_number=number,
                    size_bytes=10,
                    etag=f"e{number}",
                    checksum=None,
                    modified_us=1,
                ),
                body=desk.make_body(10),
                now_us=2,
                bucket_id=bucket.bucket_id,
                key=b"k",
                upload_id="u",
            )
        listed = [(1, "e1", None), (3, "e3", None)]
        planned = await desk.read(
            uploads.plan_completion,
            listed=listed,
            minimum_part_bytes=1,
            bucket_id=bucket.bucket_id,
            key=b"k",
            upload_id="u",
        )
        assert planned is not None
        chosen, slices = planned
        statement = self.state(desk, slices=slices)

        outcome = await desk.commit(
            uploads.complete_upload,
            tenant_id=bucket.tenant_id,
            listed=listed,
            compute=lambda _: ("e", None),
            minimum_part_bytes=1,
            conditions=WriteConditions(),
            now_us=3,
            statement=statement,
            bucket_id=bucket.bucket_id,
            key=b"k",
            upload_id="u",
        )

        assert [part.part_number for part in chosen] == [1, 3]
        assert outcome.version.manifest_body_id == statement.body.body_id
        assert await desk.read(versions.list_slices, version=outcome.version) == list(slices)
        assert (
            await desk.read(
                uploads.plan_completion,
                listed=listed,
                minimum_part_bytes=1,
                bucket_id=bucket.bucket_id,
                key=b"k",
                upload_id="u",
            )
            is None
        )

    async def test_a_bucket_has_the_manifest_that_is_true_of_it(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant()
        facts = [
            BucketStatement(
                body=desk.make_body(5), versioning=versioning, limits=limits, at_us=number
            )
            for number, (versioning, limits) in enumerate(
                [
                    (Versioning.OFF, QuotaLimits()),
                    (Versioning.ENABLED, QuotaLimits()),
                    (Versioning.ENABLED, QuotaLimits(bytes_max=7)),
                ]
            )
        ]
        of, name = tenant.tenant_id, "photos"

        made = await desk.commit(
            buckets.create_bucket, now_us=1, statement=facts[0], tenant_id=of, name=name
        )
        wrong = await desk.commit(
            buckets.set_versioning,
            versioning=Versioning.ENABLED,
            statement=facts[2],
            tenant_id=of,
            name=name,
        )
        stated = await desk.commit(
            buckets.attach_bucket_statement, statement=facts[1], tenant_id=of, name=name
        )
        limited = await desk.commit(
            buckets.set_bucket_quota,
            limits=facts[2].limits,
            statement=facts[2],
            tenant_id=of,
            name=name,
        )
        before = await desk.read(deaths)
        await desk.commit(buckets.delete_bucket, now_us=9, tenant_id=of, name=name)

        ids = [statement.body.body_id for statement in facts]
        found = [bucket.manifest_body_id for bucket in (made, wrong, stated, limited)]
        assert found == [ids[0], ids[0], ids[1], ids[2]]
        assert [before[body_id] for body_id in ids] == [(0, 1), (0, 2), (1, None)]
        assert (await desk.read(deaths))[ids[2]] == (0, 9)

    async def test_a_damaged_manifest_is_told_of_what_it_states(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        source = (await desk.put(bucket, b"source")).version
        of_copy = self.state(desk, source)
        await self.copy(desk, bucket, source, of_copy)
        of_bucket = BucketStatement(
            body=desk.make_body(5), versioning=Versioning.OFF, limits=QuotaLimits(), at_us=1
        )
        await desk.commit(
            buckets.attach_bucket_statement,
            tenant_id=bucket.tenant_id,
            name=bucket.name,
            statement=of_bucket,
        )
        for body in (of_copy.body, of_bucket.body):
            bad = QuarantinedPage(
                page=body.pages[0], is_readable=False, reason="rotten", found_us=7
            )
            await desk.commit(scrub.quarantine_page, found=bad)

        report = await desk.read(damage.list_damaged_objects, limit=9)

        assert [(found.key, found.version_id) for found in report.objects] == [
            (b"", None),
            (b"copy", "null"),
        ]
        assert all(page.of_manifest for found in report.objects for page in found.pages)

    async def test_a_schema_of_before_manifests_is_brought_up_and_back(
        self, catalog_url: str
    ) -> None:
        async with open_desk(catalog_url) as desk:
            bucket = await desk.make_bucket(await desk.make_tenant())
            source = (await desk.put(bucket, b"source")).version
            statement = self.state(desk, source)
            await self.copy(desk, bucket, source, statement)

        schema.downgrade(catalog_url, revision="0002")
        url = parse_url(catalog_url)
        with hold_database(url):
            engine = make_writer_engine(url)
            with engine.connect() as connection:
                died = deaths(connection)[statement.body.body_id]
            engine.dispose()
        schema.upgrade(catalog_url)

        assert died == (0, 0)
        async with open_desk(catalog_url) as desk:
            found = await desk.find(bucket, b"copy")
            assert found is not None
            assert found.manifest_body_id is None
