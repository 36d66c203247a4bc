"""Manifests survive a round trip, garbage is recognised, and the largest fits one record."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from appliance.catalog.records import BodySlice, Versioning
from appliance.objects.manifest import (
    BucketManifest,
    Manifest,
    ManifestInvalid,
    VersionManifest,
    decode_manifest,
    encode_manifest,
)
from hal.geometry import PAGE_BYTES_MAX
from hal.records import BodyId
from tenants.records import QuotaLimits
from tests.unit.objects.test_annex import attributes, checksums, texts

numbers = st.integers(0, 2**62)
body_ids = numbers.map(BodyId)
bucket_manifests = st.builds(
    BucketManifest,
    tenant_name=texts,
    canonical_id=texts,
    bucket_name=texts,
    created_us=numbers,
    versioning=st.sampled_from(Versioning),
    limits=st.builds(QuotaLimits, bytes_max=st.none() | numbers, objects_max=st.none() | numbers),
)
slices = st.builds(
    BodySlice,
    body_id=body_ids,
    size_bytes=numbers,
    part_number=st.none() | st.integers(1, 10_000),
    part_checksum=st.none() | texts,
)
version_manifests = st.builds(
    VersionManifest,
    tenant_name=texts,
    bucket_name=texts,
    bucket_id=numbers,
    bucket_created_us=numbers,
    key=st.binary(max_size=100),
    origin_id=st.none() | body_ids,
    is_null_version=st.booleans(),
    is_delete_marker=st.booleans(),
    size_bytes=numbers,
    etag=texts,
    modified_us=numbers,
    attributes=attributes,
    checksum=st.none() | checksums,
    part_count=st.none() | numbers,
    bodies=st.lists(slices, max_size=4).map(tuple),
)
manifests = bucket_manifests | version_manifests


@given(manifests)
def test_a_manifest_survives_its_bytes(manifest: Manifest) -> None:
    assert decode_manifest(encode_manifest(manifest)) == manifest


@given(st.binary(max_size=200))
def test_garbage_raises_only_its_own_error(data: bytes) -> None:
    for candidate in (data, b"\x01" + data):
        with pytest.raises(ManifestInvalid):
            decode_manifest(candidate)


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"[]",
        b"null",
        b'{"of":"user"}',
        b'{"of":"bucket","t":1}',
        b'{"of":"version","a":null,"l":[],"o":null}',
        b'{"of":"version","a":{},"l":[1],"o":1.5}',
    ],
)
def test_what_only_looks_like_a_manifest_is_refused(text: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        decode_manifest(b"\x01" + text)


@given(manifests, st.data())
def test_a_truncated_manifest_is_refused(manifest: Manifest, data: st.DataObject) -> None:
    encoded = encode_manifest(manifest)
    length = data.draw(st.integers(0, len(encoded) - 1))

    with pytest.raises(ManifestInvalid):
        decode_manifest(encoded[:length])


@given(version_manifests)
def test_the_longest_version_fits_one_record(manifest: VersionManifest) -> None:
    longest = 10_000 * len('[9223372036854775807,5368709120,10000,"' + "=" * 44 + '"],')

    # Besides its parts a version says what fits a request's header section and its key.
    assert longest + 6 * (16 * 1024 + 1024) < PAGE_BYTES_MAX // 2
    assert len(encode_manifest(manifest)) < PAGE_BYTES_MAX
