"""What both databases keep of multipart uploads."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from appliance.catalog import buckets, listings, uploads, versions
from appliance.catalog.errors import (
    ConditionFailed,
    PartInvalid,
    PartOrderInvalid,
    PartTooSmall,
    UploadMissing,
    VersionMissing,
)
from appliance.catalog.records import (
    BodySlice,
    Bucket,
    Checksum,
    ChecksumType,
    NewBody,
    PartRecord,
    PutOutcome,
    UploadRecord,
    VersionAttributes,
    WriteConditions,
)
from tenants.errors import QuotaExceeded
from tenants.records import QuotaLimits, Usage
from tests.contract.catalog_desk import CatalogContract

if TYPE_CHECKING:
    from appliance.catalog.unit import Connection
    from tests.catalog_fixtures import CatalogDesk

__all__ = ["UploadContract"]

KEY = b"film.mkv"
OPEN_MAX = 3


def compute(parts: list[PartRecord]) -> tuple[str, Checksum | None]:
    checksum = Checksum(algorithm="CRC32", value=f"sum-{len(parts)}", kind=ChecksumType.COMPOSITE)
    return f"etag-{len(parts)}", checksum


async def create(
    desk: CatalogDesk, bucket: Bucket, upload_id: str = "u1", key: bytes = KEY
) -> UploadRecord:
    upload = UploadRecord(
        upload_id=upload_id,
        tenant_id=bucket.tenant_id,
        bucket_id=bucket.bucket_id,
        key=key,
        initiated_us=desk.now_us,
        initiator="arn:aws:iam::acme:user/root",
        attributes=VersionAttributes(content_type="video/x-matroska", user=(("a", "b"),)),
        checksum_algorithm="CRC32",
        checksum_type=ChecksumType.COMPOSITE,
    )
    await desk.commit(uploads.create_upload, upload=upload, open_max=OPEN_MAX)
    return upload


async def put_part(
    desk: CatalogDesk,
    upload: UploadRecord,
    number: int,
    size_bytes: int,
    *,
    body: NewBody | None = None,
    references: tuple[BodySlice, ...] = (),
) -> PartRecord:
    part = PartRecord(
        part_number=number,
        size_bytes=size_bytes,
        etag=f"part{number}-{size_bytes}",
        checksum=Checksum(algorithm="CRC32", value=f"crc{number}"),
        modified_us=desk.now_us,
    )
    if body is None and not references:
        body = desk.make_body(size_bytes)
    await desk.commit(
        uploads.put_part,
        tenant_id=upload.tenant_id,
        bucket_id=upload.bucket_id,
        key=upload.key,
        upload_id=upload.upload_id,
        part=part,
        body=body,
        references=references,
        now_us=desk.now_us,
    )
    return part


async def complete(
    desk: CatalogDesk,
    upload: UploadRecord,
    *parts: PartRecord,
    minimum: int = 1,
    conditions: WriteConditions | None = None,
) -> PutOutcome:
    return await desk.commit(
        uploads.complete_upload,
        tenant_id=upload.tenant_id,
        bucket_id=upload.bucket_id,
        key=upload.key,
        upload_id=upload.upload_id,
        listed=[(part.part_number, part.etag, None) for part in parts],
        compute=compute,
        minimum_part_bytes=minimum,
        conditions=conditions or WriteConditions(),
        now_us=desk.now_us,
    )


async def abort(desk: CatalogDesk, upload: UploadRecord) -> None:
    await desk.commit(
        uploads.abort_upload,
        tenant_id=upload.tenant_id,
        bucket_id=upload.bucket_id,
        key=upload.key,
        upload_id=upload.upload_id,
        now_us=desk.now_us,
    )


async def find(desk: CatalogDesk, upload: UploadRecord) -> UploadRecord | None:
    return await desk.read(
        uploads.find_upload,
        bucket_id=upload.bucket_id,
        key=upload.key,
        upload_id=upload.upload_id,
    )


class UploadContract(CatalogContract):
    @pytest.fixture
    async def bucket(self, desk: CatalogDesk) -> Bucket:
        return await desk.make_bucket(await desk.make_tenant())

    async def test_an_upload_is_found_as_it_was_made(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        upload = await create(desk, bucket)

        assert await find(desk, upload) == upload
        assert await find(desk, replace(upload, key=b"other")) is None

    async def test_parts_become_one_version(self, desk: CatalogDesk, bucket: Bucket) -> None:
        upload = await create(desk, bucket)
        second = await put_part(desk, upload, 7, 20)
        first = await put_part(desk, upload, 2, 10)
        made = (await complete(desk, upload, first, second)).version

        assert await desk.find(bucket, KEY) == made
        assert (made.size_bytes, made.part_count, made.etag) == (30, 2, "etag-2")
        assert made.attributes == upload.attributes
        slices = await desk.read(versions.list_slices, version=made)
        assert [(s.part_number, s.size_bytes, s.part_checksum) for s in slices] == [
            (2, 10, "crc2"),
            (7, 20, "crc7"),
        ]
        found = await desk.load_bucket(bucket)
        assert (found.used_bytes, found.object_count) == (30, 1)

    async def test_parts_count_before_they_are_complete(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        upload = await create(desk, bucket)
        await put_part(desk, upload, 1, 10)
        await put_part(desk, upload, 2, 5)
        assert (await desk.load_bucket(bucket)).used_bytes == 15
        await put_part(desk, upload, 2, 7)
        assert (await desk.load_bucket(bucket)).used_bytes == 17
        await abort(desk, upload)

        found = await desk.load_bucket(bucket)
        assert (found.used_bytes, found.object_count) == (0, 0)
        with pytest.raises(UploadMissing):
            await abort(desk, upload)
        assert await find(desk, upload) is None

    async def test_a_part_over_the_quota_is_refused(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant("small", QuotaLimits(bytes_max=10))
        bucket = await desk.make_bucket(tenant)
        upload = await create(desk, bucket)
        await put_part(desk, upload, 1, 6)

        with pytest.raises(QuotaExceeded):
            await put_part(desk, upload, 2, 5)
        await put_part(desk, upload, 1, 10)
        assert (await desk.load_tenant(tenant)).usage.used_bytes == 10

    async def test_unlisted_parts_die_and_are_credited(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        upload = await create(desk, bucket)
        first = await put_part(desk, upload, 1, 10)
        await put_part(desk, upload, 2, 20)
        third = await put_part(desk, upload, 3, 30)
        made = (await complete(desk, upload, first, third)).version

        assert made.size_bytes == 40
        assert (await desk.load_bucket(bucket)).used_bytes == 40

    async def test_a_retry_with_the_same_list_gets_the_same_answer(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        upload = await create(desk, bucket)
        first = await put_part(desk, upload, 1, 10)
        second = await put_part(desk, upload, 2, 10)
        outcome = await complete(desk, upload, first, second)
        await desk.delete(bucket, KEY)

        assert await complete(desk, upload, first, second) == outcome
        assert await desk.find(bucket, KEY) is None
        with pytest.raises(UploadMissing):
            await complete(desk, upload, first)
        with pytest.raises(UploadMissing):
            await put_part(desk, upload, 1, 10)
        remembered = await find(desk, upload)
        assert remembered is not None
        assert remembered.completed == outcome.version

    async def test_the_memory_of_a_completed_upload_expires(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        upload = await create(desk, bucket)
        part = await put_part(desk, upload, 1, 10)
        await complete(desk, upload, part)
        still_open = await create(desk, bucket, "u2")

        assert await desk.commit(uploads.expire_completed, before_us=desk.now_us) == 0
        assert await desk.commit(uploads.expire_completed, before_us=desk.now_us + 1) == 1
        with pytest.raises(UploadMissing):
            await complete(desk, upload, part)
        assert await find(desk, still_open) is not None

    async def test_a_list_that_does_not_fit_is_refused_and_changes_nothing(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        upload = await create(desk, bucket)
        first = await put_part(desk, upload, 1, 10)
        second = await put_part(desk, upload, 2, 10)
        stranger = PartRecord(
            part_number=2, size_bytes=10, etag="other", checksum=None, modified_us=0
        )

        with pytest.raises(PartOrderInvalid):
            await complete(desk, upload, second, first)
        with pytest.raises(PartOrderInvalid):
            await complete(desk, upload, first, first)
        with pytest.raises(PartInvalid) as invalid:
            await complete(desk, upload, first, stranger)
        assert invalid.value.part_number == 2
        with pytest.raises(PartTooSmall) as small:
            await complete(desk, upload, first, second, minimum=11)
        assert small.value.part_number == 1
        assert (await complete(desk, upload, first, second)).version.size_bytes == 20

    async def test_a_wrong_checksum_in_the_list_is_refused(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        upload = await create(desk, bucket)
        part = await put_part(desk, upload, 1, 10)

        with pytest.raises(PartInvalid):
            await desk.commit(
                uploads.complete_upload,
                tenant_id=upload.tenant_id,
                bucket_id=upload.bucket_id,
                key=upload.key,
                upload_id=upload.upload_id,
                listed=[(1, part.etag, "wrong")],
                compute=compute,
                minimum_part_bytes=1,
                conditions=WriteConditions(),
                now_us=0,
            )

    async def test_conditions_hold_for_complete(self, desk: CatalogDesk, bucket: Bucket) -> None:
        await desk.put(bucket, KEY, size_bytes=3)
        upload = await create(desk, bucket)
        part = await put_part(desk, upload, 1, 10)

        with pytest.raises(ConditionFailed):
            await complete(desk, upload, part, conditions=WriteConditions(if_none_match=True))
        await complete(desk, upload, part, conditions=WriteConditions(if_match=("e1",)))
        assert (await desk.load_bucket(bucket)).used_bytes == 10

    async def test_a_tenant_has_a_bounded_number_of_uploads(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        made = [await create(desk, bucket, f"u{number}") for number in range(OPEN_MAX)]

        with pytest.raises(QuotaExceeded):
            await create(desk, bucket, "one too many")
        await abort(desk, made[0])
        await create(desk, bucket, "one again")
        part = await put_part(desk, made[1], 1, 10)
        await complete(desk, made[1], part)
        await create(desk, bucket, "and again")

    async def test_parts_are_listed_in_order_and_bounded(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        upload = await create(desk, bucket)
        parts = [await put_part(desk, upload, number, 10) for number in (3, 1, 2)]
        listed = partial(
            uploads.list_parts, bucket_id=bucket.bucket_id, key=KEY, upload_id="u1", limit=2
        )

        assert await desk.catalog.read(partial(listed, after=0)) == [parts[1], parts[2]]
        assert await desk.catalog.read(partial(listed, after=2)) == [parts[0]]

    async def test_uploads_are_listed_by_key_and_id(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        made = [
            await create(desk, bucket, upload_id, key)
            for upload_id, key in (("u1", b"b"), ("u3", b"a"), ("u2", b"a"))
        ]

        async def page(
            start: bytes,
            start_upload: str | None = None,
            *,
            end: bytes | None = None,
            is_inclusive: bool = True,
        ) -> list[UploadRecord]:
            return await desk.read(
                listings.list_uploads,
                bucket_id=bucket.bucket_id,
                start=start,
                start_upload=start_upload,
                end=end,
                limit=10,
                is_inclusive=is_inclusive,
            )

        assert await page(b"") == [made[2], made[1], made[0]]
        assert await page(b"a", "u2") == [made[1], made[0]]
        assert await page(b"a", is_inclusive=False) == [made[0]]
        await abort(desk, made[0])
        assert await page(b"a", end=b"b") == [made[2], made[1]]

    async def test_deleting_the_bucket_ends_its_uploads(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant("other")
        bucket = await desk.make_bucket(tenant)
        upload = await create(desk, bucket)
        await put_part(desk, upload, 1, 10)
        done = await create(desk, bucket, "u2")
        await complete(desk, done, await put_part(desk, done, 1, 10))
        await desk.delete(bucket, KEY)
        await desk.commit(
            buckets.delete_bucket, tenant_id=tenant.tenant_id, name=bucket.name, now_us=5
        )

        assert (await desk.load_tenant(tenant)).usage == Usage()
        assert await find(desk, upload) is None

    async def test_a_part_may_refer_to_the_bodies_of_a_version(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        source = await create(desk, bucket, "u1", b"source")
        parts = [await put_part(desk, source, number, 10) for number in (1, 2)]
        version = (await complete(desk, source, *parts)).version
        slices = tuple(await desk.read(versions.list_slices, version=version))

        upload = await create(desk, bucket, "u2")
        once = await put_part(desk, upload, 1, 20, references=slices)
        twice = await put_part(desk, upload, 2, 40, references=slices + slices)
        made = (await complete(desk, upload, once, twice)).version
        found = await desk.read(versions.list_slices, version=made)
        assert [(s.part_number, s.part_checksum) for s in found] == [
            (1, "crc1"),
            (1, None),
            (2, "crc2"),
            (2, None),
            (2, None),
            (2, None),
        ]
        assert [s.body_id for s in found] == [s.body_id for s in slices * 3]
        await desk.delete(bucket, b"source")
        assert await desk.catalog.check() == []
        await desk.delete(bucket, KEY)
        late = await create(desk, bucket, "u3")
        with pytest.raises(VersionMissing):
            await put_part(desk, late, 1, 20, references=slices)

    async def test_a_copy_of_a_multipart_object_has_its_parts(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        upload = await create(desk, bucket)
        parts = [await put_part(desk, upload, number, 10) for number in (1, 2)]
        source = (await complete(desk, upload, *parts)).version
        copy = (
            await desk.commit(
                versions.copy_version,
                new=desk.make_version(bucket, b"copy", etag=source.etag),
                source_sequence=source.sequence,
                conditions=WriteConditions(),
                now_us=desk.now_us,
            )
        ).version

        assert copy.part_count == 2
        slices = await desk.read(versions.list_slices, version=copy)
        assert slices == await desk.read(versions.list_slices, version=source)
        await desk.delete(bucket, KEY)
        assert await desk.read(versions.list_slices, version=copy) == slices

    @pytest.mark.slow
    async def test_ten_thousand_bodies_complete(self, desk: CatalogDesk, bucket: Bucket) -> None:
        source = (await desk.put(bucket, b"source", size_bytes=1)).version
        assert source.body_id is not None
        piece = BodySlice(body_id=source.body_id, size_bytes=1)
        upload = await create(desk, bucket)

        def put_many(connection: Connection) -> list[PartRecord]:
            made = []
            for number in range(1, 401):
                part = PartRecord(
                    part_number=number,
                    size_bytes=25,
                    etag="e",
                    checksum=None,
                    modified_us=0,
                )
                uploads.put_part(
                    connection,
                    tenant_id=bucket.tenant_id,
                    bucket_id=bucket.bucket_id,
                    key=KEY,
                    upload_id="u1",
                    part=part,
                    references=[piece] * 25,
                    now_us=0,
                )
                made.append(part)
            return made

        parts = await desk.catalog.commit(put_many)
        made = (await complete(desk, upload, *parts)).version

        assert len(await desk.read(versions.list_slices, version=made)) == 10_000
