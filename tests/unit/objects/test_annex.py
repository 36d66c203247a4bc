"""The annex: what rebuilds a catalog survives a round trip, and garbage is recognised."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from appliance.catalog.records import Checksum, ChecksumType, VersionAttributes, Versioning
from appliance.objects.annex import Annex, AnnexInvalid, decode_annex, encode_annex

texts = st.text(max_size=40)
pairs = st.lists(st.tuples(texts, texts), max_size=4).map(tuple)
checksums = st.builds(
    Checksum,
    algorithm=st.sampled_from(["CRC32", "SHA256"]),
    value=texts,
    kind=st.sampled_from(ChecksumType),
)
attributes = st.builds(
    VersionAttributes, content_type=texts, system=pairs, user=pairs, tags=pairs, storage_class=texts
)
annexes = st.builds(
    Annex,
    tenant_name=texts,
    bucket_name=texts,
    bucket_id=st.integers(0, 2**62),
    key=st.binary(max_size=100),
    size_bytes=st.integers(0, 2**62),
    etag=texts,
    checksum=st.none() | checksums,
    attributes=st.none() | attributes,
    bucket_created_us=st.none() | st.integers(0, 2**62),
    versioning=st.none() | st.sampled_from(Versioning),
    modified_us=st.none() | st.integers(0, 2**62),
)


@given(annexes)
def test_an_annex_survives_its_bytes(annex: Annex) -> None:
    assert decode_annex(encode_annex(annex)) == annex


def test_a_part_names_its_upload() -> None:
    annex = Annex(
        tenant_name="t",
        bucket_name="b",
        bucket_id=1,
        key=b"k",
        size_bytes=5,
        etag="0" * 32,
        checksum=None,
        attributes=None,
        upload_id="u",
        part_number=3,
    )

    assert decode_annex(encode_annex(annex)) == annex


def test_an_annex_of_before_its_later_fields_is_read() -> None:
    text = b'{"t":"t","b":"b","i":1,"k":"k","s":5,"e":"e"}'

    annex = decode_annex(b"\x01" + text)

    assert (annex.bucket_created_us, annex.versioning, annex.modified_us) == (None, None, None)
    assert annex.key == b"k"


@given(st.binary(max_size=200))
def test_garbage_raises_only_its_own_error(data: bytes) -> None:
    for candidate in (data, b"\x01" + data):
        try:
            decode_annex(candidate)
        except AnnexInvalid:
            continue


@given(annexes, st.data())
def test_a_truncated_annex_is_refused(annex: Annex, data: st.DataObject) -> None:
    encoded = encode_annex(annex)
    length = data.draw(st.integers(0, len(encoded) - 1))

    with pytest.raises(AnnexInvalid):
        decode_annex(encoded[:length])
