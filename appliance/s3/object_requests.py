"""From a request to the operation record, for objects and multipart uploads.

Source: AWS, Amazon S3 API Reference, the page of each operation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.record import record
from appliance.s3.codes import S3Code
from appliance.s3.copy_source import parse_copy_range, parse_copy_source
from appliance.s3.errors import S3Error
from appliance.s3.object_headers import parse_object_headers, parse_overrides
from appliance.s3.operations import (
    AbortMultipartUpload,
    CompleteMultipartUpload,
    Conditions,
    CopyObject,
    CreateMultipartUpload,
    DeleteObject,
    DeleteObjectTagging,
    GetObject,
    GetObjectAcl,
    GetObjectAttributes,
    GetObjectTagging,
    HeadObject,
    ListParts,
    PutObject,
    PutObjectAcl,
    PutObjectTagging,
    UploadPart,
    UploadPartCopy,
)
from appliance.s3.query import parse_count

if TYPE_CHECKING:
    from appliance.s3.fields import Fields
    from appliance.s3.messages import RequestHead
    from appliance.s3.query import Query

__all__ = [
    "CHECKSUM_ALGORITHMS",
    "PARTS_PAGE_MAX",
    "PART_NUMBER_MAX",
    "ObjectRequest",
    "abort_multipart_upload",
    "complete_multipart_upload",
    "create_multipart_upload",
    "delete_object",
    "delete_object_tagging",
    "get_object",
    "get_object_acl",
    "get_object_attributes",
    "get_object_tagging",
    "head_object",
    "list_parts",
    "put_object",
    "put_object_acl",
    "put_object_tagging",
    "put_part",
]

PART_NUMBER_MAX = 10_000  # S3: parts of one object
PARTS_PAGE_MAX = 1000  # S3: parts of one page of ListParts and GetObjectAttributes
CHECKSUM_ALGORITHMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")

_CHECKSUM_TYPES = {  # the combinations that S3 has
    "COMPOSITE": frozenset({"CRC32", "CRC32C", "SHA1", "SHA256"}),
    "FULL_OBJECT": frozenset({"CRC32", "CRC32C", "CRC64NVME"}),
}
_ATTRIBUTES = frozenset({"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"})
_UNCONDITIONAL = Conditions()


@record
class ObjectRequest:
    """A request about an object."""

    head: RequestHead
    fields: Fields
    query: Query
    bucket: str
    key: bytes


def get_object(request: ObjectRequest) -> GetObject:
    """GET /bucket/key ."""
    return GetObject(
        bucket=request.bucket,
        key=request.key,
        version_id=_parse_version(request.query),
        range_header=request.fields.find_text(b"range"),
        part_number=_find_part_number(request.query),
        conditions=_parse_conditions(request.fields),
        overrides=parse_overrides(request.query),
        wants_checksum=_wants_checksum(request.fields),
    )


def head_object(request: ObjectRequest) -> HeadObject:
    """HEAD /bucket/key ."""
    return HeadObject(
        bucket=request.bucket,
        key=request.key,
        version_id=_parse_version(request.query),
        range_header=request.fields.find_text(b"range"),
        part_number=_find_part_number(request.query),
        conditions=_parse_conditions(request.fields),
        overrides=parse_overrides(request.query),
        wants_checksum=_wants_checksum(request.fields),
    )


def get_object_attributes(request: ObjectRequest) -> GetObjectAttributes:
    """GET /bucket/key?attributes .

    Raises:
        S3Error: `InvalidArgument` where no attribute, or an unknown one, is asked for.
    """
    fields = request.fields
    text = fields.find_list_text(b"x-amz-object-attributes") or ""
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    if not names or not names <= _ATTRIBUTES:
        message = "Invalid attribute name specified"
        raise _invalid("x-amz-object-attributes", text, message)
    max_parts = fields.find_text(b"x-amz-max-parts")
    marker = fields.find_text(b"x-amz-part-number-marker")
    return GetObjectAttributes(
        bucket=request.bucket,
        key=request.key,
        version_id=_parse_version(request.query),
        attributes=names,
        max_parts=min(parse_count(max_parts, "x-amz-max-parts"), PARTS_PAGE_MAX)
        if max_parts
        else PARTS_PAGE_MAX,
        part_number_marker=parse_count(marker, "x-amz-part-number-marker") if marker else 0,
    )


def get_object_tagging(request: ObjectRequest) -> GetObjectTagging:
    """GET /bucket/key?tagging ."""
    version_id = _parse_version(request.query)
    return GetObjectTagging(bucket=request.bucket, key=request.key, version_id=version_id)


def put_object_tagging(request: ObjectRequest) -> PutObjectTagging:
    """PUT /bucket/key?tagging ."""
    version_id = _parse_version(request.query)
    return PutObjectTagging(bucket=request.bucket, key=request.key, version_id=version_id)


def delete_object_tagging(request: ObjectRequest) -> DeleteObjectTagging:
    """DELETE /bucket/key?tagging ."""
    version_id = _parse_version(request.query)
    return DeleteObjectTagging(bucket=request.bucket, key=request.key, version_id=version_id)


def get_object_acl(request: ObjectRequest) -> GetObjectAcl:
    """GET /bucket/key?acl ."""
    version_id = _parse_version(request.query)
    return GetObjectAcl(bucket=request.bucket, key=request.key, version_id=version_id)


def put_object_acl(request: ObjectRequest) -> PutObjectAcl:
    """PUT /bucket/key?acl; grant headers have been refused before."""
    return PutObjectAcl(
        bucket=request.bucket,
        key=request.key,
        version_id=_parse_version(request.query),
        acl=request.fields.find_text(b"x-amz-acl"),
    )


def put_object(request: ObjectRequest) -> PutObject | CopyObject:
    """PUT /bucket/key, of a body or, with x-amz-copy-source, of another object.

    Raises:
        S3Error: `InvalidArgument` for a part number without an upload, and see the parsers.
    """
    _refuse_version(request.query)
    if "partNumber" in request.query:
        raise _invalid("partNumber", "", "A part number needs an uploadId")
    source = request.fields.find(b"x-amz-copy-source")
    if source is not None:
        return _copy_object(request, source)
    return PutObject(
        bucket=request.bucket,
        key=request.key,
        headers=parse_object_headers(request.head),
        conditions=_parse_conditions(request.fields),
        acl=request.fields.find_text(b"x-amz-acl"),
    )


def delete_object(request: ObjectRequest) -> DeleteObject:
    """DELETE /bucket/key ."""
    return DeleteObject(
        bucket=request.bucket,
        key=request.key,
        version_id=_parse_version(request.query),
        conditions=_parse_conditions(request.fields),
    )


def create_multipart_upload(request: ObjectRequest) -> CreateMultipartUpload:
    """POST /bucket/key?uploads .

    Raises:
        S3Error: `InvalidRequest` for a checksum algorithm or type, or a pair of them, that S3 does
            not have.
    """
    _refuse_version(request.query)
    algorithm = _parse_algorithm(request.fields)
    kind = request.fields.find_text(b"x-amz-checksum-type") or None
    if kind is not None and algorithm not in _CHECKSUM_TYPES.get(kind, ()):
        message = f"The {kind} checksum type cannot be used with the algorithm {algorithm}"
        raise S3Error(S3Code.INVALID_REQUEST, message)
    return CreateMultipartUpload(
        bucket=request.bucket,
        key=request.key,
        headers=parse_object_headers(request.head),
        checksum_algorithm=algorithm,
        checksum_type=kind,
        acl=request.fields.find_text(b"x-amz-acl"),
    )


def put_part(request: ObjectRequest) -> UploadPart | UploadPartCopy:
    """PUT /bucket/key?partNumber=N&uploadId=U, of a body or of a piece of another object.

    Raises:
        S3Error: `InvalidArgument` for a part number outside 1 to 10,000 or missing.
    """
    _refuse_version(request.query)
    upload_id, number = _parse_upload_id(request.query), _find_part_number(request.query)
    if number is None:
        raise _invalid("partNumber", "", "An uploadId needs a part number")
    source = request.fields.find(b"x-amz-copy-source")
    if source is None:
        return UploadPart(
            bucket=request.bucket, key=request.key, upload_id=upload_id, part_number=number
        )
    source_range = request.fields.find_text(b"x-amz-copy-source-range")
    return UploadPartCopy(
        bucket=request.bucket,
        key=request.key,
        upload_id=upload_id,
        part_number=number,
        source=parse_copy_source(source, request.head),
        source_range=parse_copy_range(source_range) if source_range is not None else None,
    )


def complete_multipart_upload(request: ObjectRequest) -> CompleteMultipartUpload:
    """POST /bucket/key?uploadId=U .

    Raises:
        S3Error: `InvalidRequest` for more than one checksum; `InvalidArgument` for a bad size.
    """
    _refuse_version(request.query)
    fields = request.fields
    size = fields.find_text(b"x-amz-mp-object-size")
    return CompleteMultipartUpload(
        bucket=request.bucket,
        key=request.key,
        upload_id=_parse_upload_id(request.query),
        conditions=_parse_conditions(fields),
        checksum=_find_checksum(fields),
        checksum_type=fields.find_text(b"x-amz-checksum-type") or None,
        object_size=_parse_size(size) if size is not None else None,
    )


def abort_multipart_upload(request: ObjectRequest) -> AbortMultipartUpload:
    """DELETE /bucket/key?uploadId=U ."""
    return AbortMultipartUpload(
        bucket=request.bucket, key=request.key, upload_id=_parse_upload_id(request.query)
    )


def list_parts(request: ObjectRequest) -> ListParts:
    """GET /bucket/key?uploadId=U ."""
    return ListParts(
        bucket=request.bucket,
        key=request.key,
        upload_id=_parse_upload_id(request.query),
        max_parts=request.query.find_count("max-parts", PARTS_PAGE_MAX, cap=PARTS_PAGE_MAX),
        part_number_marker=request.query.find_count("part-number-marker", 0),
    )


def _copy_object(request: ObjectRequest, source: bytes) -> CopyObject:
    fields = request.fields
    if b"x-amz-copy-source-range" in fields.values:
        # Passed over, it would make a whole copy of what was asked for in part.
        raise S3Error(S3Code.NOT_IMPLEMENTED, elements={"Header": "x-amz-copy-source-range"})
    replace_metadata = _parse_directive(fields, b"x-amz-metadata-directive")
    replace_tags = _parse_directive(fields, b"x-amz-tagging-directive")
    algorithm = _parse_algorithm(fields)
    return CopyObject(
        bucket=request.bucket,
        key=request.key,
        source=parse_copy_source(source, request.head),
        replace_metadata=replace_metadata,
        replace_tags=replace_tags,
        headers=parse_object_headers(request.head),
        changes_something=replace_metadata
        or replace_tags
        or algorithm is not None
        or b"x-amz-storage-class" in fields.values
        or b"x-amz-website-redirect-location" in fields.values,
        conditions=_parse_conditions(fields),
        checksum_algorithm=algorithm,
        acl=fields.find_text(b"x-amz-acl"),
    )


def _parse_directive(fields: Fields, name: bytes) -> bool:
    text = fields.find_text(name) or "COPY"
    if text not in ("COPY", "REPLACE"):
        raise _invalid(name.decode("ascii"), text, "Unknown directive")
    return text == "REPLACE"


def _parse_algorithm(fields: Fields) -> str | None:
    text = fields.find_text(b"x-amz-checksum-algorithm")
    if not text:
        return None
    if text.upper() not in CHECKSUM_ALGORITHMS:
        raise S3Error(
            S3Code.INVALID_REQUEST,
            "Checksum algorithm provided is unsupported. Please try again with any of the valid "
            f"types: [{', '.join(CHECKSUM_ALGORITHMS)}]",
        )
    return text.upper()


def _find_checksum(fields: Fields) -> tuple[str, str] | None:
    """The one `x-amz-checksum-<algorithm>` of a head; its value is judged against the parts."""
    found: list[tuple[str, str]] = []
    for algorithm in CHECKSUM_ALGORITHMS:
        value = fields.find_text(b"x-amz-checksum-" + algorithm.lower().encode("ascii"))
        if value is not None:
            found.append((algorithm, value))
    if len(found) > 1:
        raise S3Error(S3Code.INVALID_REQUEST, "Expecting a single x-amz-checksum- header")
    return found[0] if found else None


def _parse_size(text: str) -> int:
    # 18 digits: more than any object has, and no more than a database's integer holds.
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise _invalid("x-amz-mp-object-size", text, "The object size must be a whole number")
    return int(text)


def _wants_checksum(fields: Fields) -> bool:
    mode = fields.find_text(b"x-amz-checksum-mode")
    return mode is not None and mode.upper() == "ENABLED"


def _parse_conditions(fields: Fields) -> Conditions:
    values = fields.values
    if not (
        b"if-match" in values
        or b"if-none-match" in values
        or b"if-modified-since" in values
        or b"if-unmodified-since" in values
    ):
        return _UNCONDITIONAL
    return Conditions(
        if_match=fields.find_list_text(b"if-match"),
        if_none_match=fields.find_list_text(b"if-none-match"),
        if_modified_since=fields.find_text(b"if-modified-since"),
        if_unmodified_since=fields.find_text(b"if-unmodified-since"),
    )


def _parse_version(query: Query) -> str | None:
    version_id = query.find_text("versionId")
    if version_id is not None and not version_id:
        raise _invalid("versionId", "", "Version id cannot be the empty string")
    return version_id


def _refuse_version(query: Query) -> None:
    version_id = query.find_text("versionId")
    if version_id is not None:
        message = "This operation does not accept a version-id"
        raise _invalid("versionId", version_id, message)


def _parse_upload_id(query: Query) -> str:
    upload_id = query.find_text("uploadId")
    if not upload_id:
        raise _invalid("uploadId", "", "This operation does not accept an empty uploadId")
    return upload_id


def _find_part_number(query: Query) -> int | None:
    text = query.find_text("partNumber")
    if text is None:
        return None
    return parse_count(text, "partNumber", least=1, most=PART_NUMBER_MAX)


def _invalid(name: str, value: str, message: str) -> S3Error:
    elements = {"ArgumentName": name, "ArgumentValue": value}
    return S3Error(S3Code.INVALID_ARGUMENT, message, elements=elements)
