"""Every response document against its file in `tests/golden/s3`.

A change of a file is a change of what clients read: compare it with the AWS page of the operation.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.s3 import operations as ops, xml_documents as documents, xml_listings as listings
from appliance.s3.subresources import PROBES
from appliance.s3.xml_documents import ChecksumText, Deleted, DeleteFailure, ListedPart, PartsPage
from appliance.s3.xml_listings import ListedBucket, ListedObject, ListedUpload, ListedVersion
from appliance.s3.xml_writer import Owner

FOLDER = Path(__file__).parent / "s3"
MOMENT_US = 1_795_178_096_123_456
ETAG = "9a0364b9e99bb480dd25e1f0284c8555"
OWNER = Owner(canonical_id="75aa57f0" * 8, display_name="acme")
CRC32 = ChecksumText(algorithm="CRC32", value="AAAAAA==", kind="FULL_OBJECT")
SHA256 = ChecksumText(algorithm="SHA256", value="47DEQ-2", kind="COMPOSITE")
PART_SHA256 = ChecksumText(algorithm="SHA256", value="47DEQ=")
STRANGE = 'a b+c%&<"\x01\r\né/'.encode()

OBJECTS = [
    ListedObject(key=b"plain", modified_us=MOMENT_US, etag=ETAG, size_bytes=5),
    ListedObject(
        key=STRANGE,
        modified_us=0,
        etag=ETAG + "-2",
        size_bytes=2**40,
        storage_class="STANDARD_IA",
        checksum_algorithm="CRC64NVME",
        checksum_type="FULL_OBJECT",
        owner=OWNER,
    ),
]
VERSIONS = [
    ListedVersion(
        key=b"k",
        version_id="v2",
        is_latest=True,
        is_delete_marker=True,
        modified_us=MOMENT_US,
        owner=OWNER,
    ),
    ListedVersion(
        key=b"k",
        version_id="null",
        is_latest=False,
        is_delete_marker=False,
        modified_us=MOMENT_US,
        owner=OWNER,
        etag=ETAG,
        size_bytes=5,
        checksum_algorithm="CRC32",
        checksum_type="FULL_OBJECT",
    ),
]
UPLOADS = [
    ListedUpload(
        key=STRANGE,
        upload_id="u1",
        initiated_us=MOMENT_US,
        initiator=OWNER,
        owner=OWNER,
        checksum_algorithm="SHA256",
        checksum_type="COMPOSITE",
    )
]
PARTS = PartsPage(
    parts=[
        ListedPart(
            part_number=3,
            size_bytes=5_242_880,
            etag=ETAG,
            modified_us=MOMENT_US,
            checksum=PART_SHA256,
        ),
        ListedPart(part_number=4, size_bytes=1, etag=ETAG, modified_us=MOMENT_US),
    ],
    marker=2,
    max_parts=2,
    is_truncated=True,
)

DOCUMENTS: dict[str, bytes] = {
    "error": documents.error_document(
        code="NoSuchKey",
        message="The specified key does not exist",
        resource="/bucket/a&b",
        request_id="R1",
        host_id="H1",
        elements={"Key": "a&b"},
    ),
    "location": documents.location("eu-central-1"),
    "location-first-region": documents.location("us-east-1"),
    "versioning-never": documents.versioning(None),
    "versioning-enabled": documents.versioning("Enabled"),
    "access-control": documents.access_control(OWNER),
    "initiate-upload": documents.initiate_upload(bucket="b", key=STRANGE, upload_id="u1"),
    "complete-upload": documents.complete_result(
        location_url="http://host/b/a%26b",
        bucket="b",
        key=b"a&b",
        etag=ETAG + "-2",
        checksum=SHA256,
    ),
    "copy": documents.copy_result(etag=ETAG, modified_us=MOMENT_US, checksum=CRC32),
    "copy-part": documents.copy_part_result(etag=ETAG, modified_us=MOMENT_US, checksum=None),
    "delete": documents.delete_result(
        deleted=[
            Deleted(key=b"plain"),
            Deleted(key=b"marked", marker_version_id="m1"),
            Deleted(key=b"unmarked", version_id="m1", marker_version_id="m1"),
            Deleted(key=b"version", version_id="v1"),
        ],
        failures=[
            DeleteFailure(key=b"no", version_id=None, code="AccessDenied", message="Access Denied")
        ],
        quiet=False,
    ),
    "delete-quiet": documents.delete_result(
        deleted=[Deleted(key=b"plain")],
        failures=[DeleteFailure(key=b"no", version_id="v1", code="X", message="Y")],
        quiet=True,
    ),
    "tagging": documents.tagging([("Project", "Blue Sky"), ("empty", "")]),
    "tagging-none": documents.tagging([]),
    "attributes": documents.object_attributes(
        etag=ETAG + "-2",
        checksum=SHA256,
        parts=PARTS,
        parts_count=9,
        storage_class="STANDARD",
        size_bytes=5_242_881,
    ),
    "attributes-count-only": documents.object_attributes(parts_count=9),
    "attributes-none": documents.object_attributes(),
    "list-buckets": listings.list_buckets(
        ops.ListBuckets(),
        owner=OWNER,
        buckets=[ListedBucket(name="backups", created_us=MOMENT_US)],
    ),
    "list-buckets-page": listings.list_buckets(
        ops.ListBuckets(prefix="b"), owner=OWNER, buckets=[], next_token="t1"
    ),
    "list-objects": listings.list_objects(
        ops.ListObjects(bucket="b", prefix=b"p", delimiter=b"/", marker=b"m", max_keys=3),
        entries=OBJECTS,
        common_prefixes=[b"p/"],
        is_truncated=True,
        next_marker=b"p/",
    ),
    "list-objects-flat": listings.list_objects(
        ops.ListObjects(bucket="b"),
        entries=[],
        common_prefixes=[],
        is_truncated=True,
        next_marker=b"m",
    ),
    "list-objects-v2": listings.list_objects_v2(
        ops.ListObjectsV2(
            bucket="b",
            prefix=b"a b",
            delimiter=b"+",
            start_after=b"%",
            continuation_token="t0",
            encode_url=True,
        ),
        entries=OBJECTS,
        common_prefixes=[b"a b+"],
        is_truncated=True,
        next_token="t1",
    ),
    "list-objects-v2-empty": listings.list_objects_v2(
        ops.ListObjectsV2(bucket="b"),
        entries=[],
        common_prefixes=[],
        is_truncated=False,
        next_token=None,
    ),
    "list-versions": listings.list_object_versions(
        ops.ListObjectVersions(bucket="b", delimiter=b"/"),
        entries=VERSIONS,
        common_prefixes=[b"p/"],
        is_truncated=True,
        next_key_marker=b"k",
        next_version_id_marker="null",
    ),
    "list-versions-last": listings.list_object_versions(
        ops.ListObjectVersions(bucket="b", key_marker=b"k", version_id_marker="v2"),
        entries=[],
        common_prefixes=[],
        is_truncated=False,
        next_key_marker=None,
        next_version_id_marker=None,
    ),
    "list-uploads": listings.list_multipart_uploads(
        ops.ListMultipartUploads(bucket="b", encode_url=True, max_uploads=1),
        entries=UPLOADS,
        common_prefixes=[],
        is_truncated=True,
        next_key_marker=STRANGE,
        next_upload_id_marker="u1",
    ),
    "list-parts": listings.list_parts(
        ops.ListParts(bucket="b", key=b"k", upload_id="u1", max_parts=2, part_number_marker=2),
        page=PARTS,
        initiator=OWNER,
        owner=OWNER,
        checksum_algorithm="SHA256",
        checksum_type="COMPOSITE",
    ),
    "list-parts-none": listings.list_parts(
        ops.ListParts(bucket="b", key=b"k", upload_id="u1"),
        page=PartsPage(parts=[], marker=0, max_parts=1000, is_truncated=False),
        initiator=OWNER,
        owner=OWNER,
    ),
    **{f"probe-{name}": answer for name, answer in PROBES.items() if isinstance(answer, bytes)},
}


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_a_document_is_what_clients_have_read_before(name: str) -> None:
    assert DOCUMENTS[name] + b"\n" == (FOLDER / f"{name}.xml").read_bytes()


def test_every_file_has_its_document() -> None:
    assert {path.stem for path in FOLDER.glob("*.xml")} == set(DOCUMENTS)
