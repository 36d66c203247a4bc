"""The fold: what is believed of what the segments say, and what is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from appliance.catalog.records import BodySlice, VersionAttributes, Versioning
from appliance.objects.annex import Annex
from appliance.objects.manifest import BucketManifest, Manifest, VersionManifest
from appliance.rebuild.evidence import Evidence, FoundBody
from appliance.rebuild.fold import Rebuilt, fold
from hal.records import BodyId, Extent, SegmentId, VolumeId
from tenants.records import QuotaLimits, TenantId
from tiers.records import StoredPage

if TYPE_CHECKING:
    from appliance.rebuild.fold import StatedId

ACME = TenantId(1)
TEXT = VersionAttributes(content_type="text/plain")


def make_annex(
    key: bytes, at: int, versioning: Versioning | None = Versioning.OFF, **more: object
) -> Annex:
    annex = Annex(
        tenant_name="acme",
        bucket_name="data",
        bucket_id=7,
        key=key,
        size_bytes=10,
        etag=f"e{at}",
        checksum=None,
        attributes=TEXT,
        bucket_created_us=1,
        versioning=versioning,
        modified_us=at,
    )
    return replace(annex, **more)  # type: ignore[arg-type]


def make_manifest(key: bytes, at: int, bodies: tuple[int, ...], **more: object) -> VersionManifest:
    manifest = VersionManifest(
        tenant_name="acme",
        bucket_name="data",
        bucket_id=7,
        bucket_created_us=1,
        key=key,
        origin_id=None,
        is_null_version=True,
        is_delete_marker=not bodies,
        size_bytes=10 * len(bodies),
        etag=f"e{at}",
        modified_us=at,
        attributes=TEXT,
        checksum=None,
        part_count=None,
        bodies=tuple(BodySlice(body_id=BodyId(one), size_bytes=10) for one in bodies),
    )
    return replace(manifest, **more)  # type: ignore[arg-type]


def make_bucket(**more: object) -> BucketManifest:
    manifest = BucketManifest(
        tenant_name="acme",
        canonical_id="c" * 64,
        bucket_name="data",
        created_us=1,
        versioning=Versioning.OFF,
        limits=QuotaLimits(),
    )
    return replace(manifest, **more)  # type: ignore[arg-type]


def add(
    evidence: Evidence,
    number: int,
    said: Annex | Manifest | None,
    *,
    at: int = 0,
    sizes: tuple[int, ...] = (10,),
    tenant_id: TenantId = ACME,
) -> FoundBody:
    body = evidence.body(BodyId(number), tenant_id)
    for index, size in enumerate(sizes):
        extent = Extent(VolumeId(1), SegmentId(1), number << 20 | index << 12, 4096)
        body.pages[index] = [
            StoredPage(
                body_id=BodyId(number),
                page_index=index,
                payload_bytes=size,
                blake3=bytes(32),
                extent=extent,
            )
        ]
    body.last_index = len(sizes) - 1
    body.written_us = at or number
    if isinstance(said, Annex):
        body.annex = said
    else:
        body.manifest = said
    return body


def found(evidence: Evidence, sequences: dict[StatedId, int] | None = None) -> Rebuilt:
    return fold(evidence, first_sequence=100, sequences=sequences)


def shown(rebuilt: Rebuilt) -> list[tuple[bytes, str, bool, bool]]:
    """Key, ETag, current and null of every version, by sequence."""
    return [
        (
            version.statement.key,
            version.statement.etag,
            version.is_current,
            version.is_null_version,
        )
        for version in sorted(rebuilt.versions, key=lambda one: one.sequence)
    ]


def test_nothing_makes_an_empty_catalog() -> None:
    rebuilt = found(Evidence())

    assert (rebuilt.tenants, rebuilt.buckets, rebuilt.versions) == ([], [], [])
    assert rebuilt.sequence_next == 100


def test_a_null_version_takes_the_place_of_the_one_before() -> None:
    evidence = Evidence()
    add(evidence, 2, make_annex(b"k", 20))
    add(evidence, 1, make_annex(b"k", 10))

    assert shown(found(evidence)) == [(b"k", "e20", True, True)]


def test_versions_stand_beside_each_other_once_versioning_is_on() -> None:
    evidence = Evidence()
    add(evidence, 1, make_annex(b"k", 10))
    add(evidence, 2, make_annex(b"k", 20, Versioning.ENABLED))
    add(evidence, 3, make_annex(b"k", 30, Versioning.SUSPENDED))
    add(evidence, 4, make_manifest(b"k", 40, ()))

    assert shown(found(evidence)) == [(b"k", "e20", False, False), (b"k", "e40", True, True)]


def test_an_upload_that_a_crash_cut_off_costs_nobody_his_version() -> None:
    evidence = Evidence()
    add(evidence, 1, make_annex(b"k", 10))
    cut = add(evidence, 2, make_annex(b"k", 20, size_bytes=20), sizes=(10, 10))
    del cut.pages[0]

    rebuilt = found(evidence)

    assert shown(rebuilt) == [(b"k", "e10", True, True)]
    assert [(out.key, out.reason) for out in rebuilt.left_out] == [
        ("k", "body 2 lacks a page, or one is damaged")
    ]


def test_a_renamed_object_has_its_new_name_alone() -> None:
    evidence = Evidence()
    add(evidence, 1, make_annex(b"old", 10))
    add(evidence, 3, make_manifest(b"new", 30, (1,)), sizes=(5,))

    rebuilt = found(evidence)

    assert shown(rebuilt) == [(b"new", "e30", True, True)]
    assert rebuilt.references == {1: 1, 3: 1}


def test_a_source_that_is_still_there_speaks_by_its_own_manifest() -> None:
    evidence = Evidence()
    add(evidence, 1, make_annex(b"old", 10))
    add(evidence, 2, make_manifest(b"old", 10, (1,), origin_id=BodyId(1)), sizes=(5,))
    add(evidence, 3, make_manifest(b"new", 30, (1,)), sizes=(5,))

    rebuilt = found(evidence)

    assert shown(rebuilt) == [(b"old", "e10", True, True), (b"new", "e30", True, True)]
    assert rebuilt.references == {1: 2, 2: 1, 3: 1}


def test_the_last_manifest_of_a_version_counts_and_keeps_its_place() -> None:
    evidence = Evidence()
    add(evidence, 1, make_annex(b"k", 10, Versioning.ENABLED))
    add(evidence, 2, make_annex(b"k", 20, Versioning.ENABLED))
    for number, value in ((3, "one"), (4, "two")):
        tagged = replace(TEXT, tags=(("tag", value),))
        said = make_manifest(
            b"k", 10, (1,), origin_id=BodyId(1), is_null_version=False, attributes=tagged
        )
        add(evidence, number, said, sizes=(5,))

    rebuilt = found(evidence)

    first, second = sorted(rebuilt.versions, key=lambda one: one.sequence)
    assert first.statement.attributes.tags == (("tag", "two"),)
    assert first.statement.manifest_id == 4
    assert second.is_current
    assert 3 not in rebuilt.references


def test_a_part_is_of_no_version_until_a_manifest_lists_it() -> None:
    evidence = Evidence()
    part = make_annex(b"k", 10, None, upload_id="u", part_number=1, attributes=None)
    add(evidence, 1, part)
    add(evidence, 2, part)

    assert found(evidence).versions == []
    add(evidence, 3, make_manifest(b"k", 30, (1,), part_count=1), sizes=(5,))
    assert found(evidence).references == {1: 1, 3: 1}


def test_a_bucket_is_as_its_last_manifest_says() -> None:
    evidence = Evidence()
    limits = QuotaLimits(bytes_max=5)
    add(evidence, 1, make_bucket())
    add(evidence, 3, make_bucket(versioning=Versioning.ENABLED, limits=limits))
    add(evidence, 2, make_bucket(versioning=Versioning.SUSPENDED))

    [bucket] = found(evidence).buckets

    assert (bucket.versioning, bucket.limits, bucket.manifest_id) == (
        Versioning.ENABLED,
        limits,
        3,
    )


def test_a_bucket_without_a_manifest_is_as_its_last_annex_says() -> None:
    evidence = Evidence()
    add(evidence, 1, make_annex(b"a", 10, Versioning.ENABLED))
    add(evidence, 2, make_annex(b"b", 20, Versioning.SUSPENDED))

    [bucket] = found(evidence).buckets

    assert (bucket.bucket_id, bucket.versioning, bucket.created_us) == (
        7,
        Versioning.SUSPENDED,
        1,
    )


def test_a_bucket_that_holds_versions_is_not_taken_for_an_unversioned_one() -> None:
    evidence = Evidence()
    add(evidence, 1, make_annex(b"a", 10, Versioning.ENABLED))
    add(evidence, 2, make_bucket())

    [bucket] = found(evidence).buckets

    assert bucket.versioning is Versioning.ENABLED


def test_an_annex_of_before_its_later_fields_is_taken_by_its_records_time() -> None:
    evidence = Evidence()
    old = make_annex(b"k", 0, None, bucket_created_us=None, modified_us=None)
    add(evidence, 1, old, at=50)
    add(evidence, 2, make_annex(b"k", 40))

    [version] = found(evidence).versions

    assert (version.statement.origin_id, version.statement.modified_us) == (1, 50)


def test_what_a_deleted_tenant_left_is_not_given_to_its_namesake() -> None:
    evidence = Evidence()
    add(evidence, 1, make_annex(b"before", 10))
    add(evidence, 2, make_annex(b"after", 20, bucket_id=9), tenant_id=TenantId(5))

    rebuilt = found(evidence)

    assert [tenant.tenant_id for tenant in rebuilt.tenants] == [5]
    assert shown(rebuilt) == [(b"after", "e20", True, True)]
    assert rebuilt.left_out_count == 1


def test_known_sequences_are_kept_and_the_others_come_behind() -> None:
    evidence = Evidence()
    add(evidence, 1, make_annex(b"k", 10, Versioning.ENABLED))
    add(evidence, 2, make_annex(b"k", 20, Versioning.ENABLED))
    add(evidence, 3, make_annex(b"k", 15, Versioning.ENABLED))
    known: dict[StatedId, int] = {(1, "data", b"k", 1): 41, (1, "data", b"k", 2): 40}

    rebuilt = found(evidence, known)

    assert [(v.sequence, v.statement.origin_id, v.is_current) for v in rebuilt.versions] == [
        (40, 2, False),
        (41, 1, False),
        (100, 3, True),
    ]
    assert rebuilt.sequence_next == 101


def test_a_manifest_whose_bodies_are_gone_is_left_out() -> None:
    evidence = Evidence()
    add(evidence, 3, make_manifest(b"k", 30, (1, 2), part_count=2), sizes=(5,))

    rebuilt = found(evidence)

    assert rebuilt.versions == []
    assert rebuilt.references == {}
    assert rebuilt.left_out[0].reason == "body 1 is gone"
