"""Units: multipart uploads and their parts, up to the version they become.

An upload's parts count against the quota from the moment they are committed. Complete moves no
bytes and touches no page: it hands the parts' bodies to the new version in O(parts), and the row of
the upload stays as the memory of its result, so that a retry of Complete gets the same answer.

Source: Amazon S3 User Guide, "Uploading and copying objects using multipart upload".
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from sqlalchemy import Integer, bindparam, case, delete, func, insert, select, update

from appliance.catalog import tables
from appliance.catalog.bodies import (
    add_references,
    insert_body,
    release_bucket_parts,
    release_upload_bodies,
)
from appliance.catalog.dialects import allocate_sequence
from appliance.catalog.errors import PartInvalid, PartOrderInvalid, PartTooSmall, UploadMissing
from appliance.catalog.records import BodySlice, PartRecord, PutOutcome, UploadRecord
from appliance.catalog.upload_rows import (
    UPLOAD_COLUMNS,
    ListedPart,
    decode_result,
    decode_upload,
    digest_parts,
    encode_result,
)
from appliance.catalog.usage import charge, charge_uploads, lock_bucket
from appliance.catalog.version_rows import decode_checksum, encode_attributes, encode_checksum
from appliance.catalog.versions import (
    Content,
    find_version,
    install_version,
    judge,
    list_slices_of,
)
from hal.records import BodyId
from tenants.errors import QuotaExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from appliance.catalog.records import (
        BucketId,
        Checksum,
        NewBody,
        VersionStatement,
        WriteConditions,
    )
    from tenants.records import TenantId

__all__ = [
    "EXPIRED_MAX",
    "ListedPart",
    "abort_upload",
    "complete_upload",
    "create_upload",
    "discard_bucket_uploads",
    "expire_completed",
    "find_upload",
    "list_parts",
    "plan_completion",
    "put_part",
]

_u = tables.uploads.c
_p = tables.parts.c
_pb = tables.part_bodies.c
_vb = tables.version_bodies.c

_PART_COLUMNS = (
    _p.part_number,
    _p.size_bytes,
    _p.etag,
    _p.checksum_algorithm,
    _p.checksum_value,
    _p.checksum_type,
    _p.modified_us,
)

_FIND = select(*UPLOAD_COLUMNS, _u.upload_number, _u.completed_result).where(
    _u.bucket_id == bindparam("bucket"),
    _u.key == bindparam("object"),
    _u.upload_id == bindparam("upload_text"),
)
_INSERT_UPLOAD = insert(tables.uploads)
_DELETE_UPLOAD = delete(tables.uploads).where(_u.upload_number == bindparam("upload"))
_STORE_RESULT = (
    update(tables.uploads)
    .where(_u.upload_number == bindparam("upload"))
    .values(
        completed_us=bindparam("at"),
        completed_parts=bindparam("digest"),
        completed_result=bindparam("result"),
    )
)
# Bounds one unit: the caller comes again while it gets as many as it asked for.
EXPIRED_MAX = 1_000
_expired = (
    select(_u.upload_number)
    .where(_u.completed_us < bindparam("before"))
    .order_by(_u.completed_us)
    .limit(bindparam("row_limit", type_=Integer))
)
_EXPIRE = delete(tables.uploads).where(_u.upload_number.in_(_expired))

_PART_SIZE = select(_p.size_bytes).where(
    _p.upload_number == bindparam("upload"), _p.part_number == bindparam("part")
)
_LIST_PARTS = (
    select(*_PART_COLUMNS)
    .where(_p.upload_number == bindparam("upload"), _p.part_number > bindparam("after"))
    .order_by(_p.part_number)
    .limit(bindparam("row_limit", type_=Integer))
)
_ALL_PARTS = (
    select(*_PART_COLUMNS).where(_p.upload_number == bindparam("upload")).order_by(_p.part_number)
)
_SUM_PARTS = select(func.coalesce(func.sum(_p.size_bytes), 0)).where(
    _p.upload_number == bindparam("upload")
)
_of_bucket = select(_u.upload_number).where(_u.bucket_id == bindparam("bucket"))
_SUM_BUCKET_PARTS = select(func.coalesce(func.sum(_p.size_bytes), 0)).where(
    _p.upload_number.in_(_of_bucket)
)
_COUNT_BUCKET_OPEN = select(func.count()).where(
    _u.bucket_id == bindparam("bucket"), _u.completed_us.is_(None)
)
_DISCARD_BUCKET = (
    delete(tables.part_bodies).where(_pb.upload_number.in_(_of_bucket)),
    delete(tables.parts).where(_p.upload_number.in_(_of_bucket)),
    delete(tables.uploads).where(_u.bucket_id == bindparam("bucket")),
)
_ALL_BODIES = (
    select(_pb.part_number, _pb.ordinal, _pb.body_id, _pb.size_bytes)
    .where(_pb.upload_number == bindparam("upload"))
    .order_by(_pb.part_number, _pb.ordinal)
)
_INSERT_PART = insert(tables.parts)
_INSERT_PART_BODY = insert(tables.part_bodies)
_DELETE_PART = delete(tables.parts).where(
    _p.upload_number == bindparam("upload"), _p.part_number == bindparam("part")
)
_DELETE_PART_BODIES = delete(tables.part_bodies).where(
    _pb.upload_number == bindparam("upload"), _pb.part_number == bindparam("part")
)
_DELETE_PARTS = delete(tables.parts).where(_p.upload_number == bindparam("upload"))
_DELETE_ALL_BODIES = delete(tables.part_bodies).where(_pb.upload_number == bindparam("upload"))
_HAND_OVER = insert(tables.version_bodies).from_select(
    ["sequence", "ordinal", "body_id", "size_bytes", "part_number", "part_checksum"],
    select(
        bindparam("target_number", type_=_vb.sequence.type),
        func.row_number().over(order_by=(_pb.part_number, _pb.ordinal)) - 1,
        _pb.body_id,
        _pb.size_bytes,
        _pb.part_number,
        # On the part's first body only, as `BodySlice` has it.
        case((_pb.ordinal == 0, _p.checksum_value), else_=None),
    )
    .select_from(tables.part_bodies.join(tables.parts))
    .where(_pb.upload_number == bindparam("upload")),
)


def create_upload(connection: Connection, *, upload: UploadRecord, open_max: int) -> None:
    """Begin an upload, where the tenant has fewer than `open_max` in progress.

    Raises:
        BucketMissing: The tenant's bucket is gone.
        QuotaExceeded: The tenant has `open_max` uploads in progress.
    """
    locked = lock_bucket(connection, upload.tenant_id, upload.bucket_id)
    if locked.open_upload_count >= open_max:
        raise QuotaExceeded(
            f"tenant {locked.tenant_name!r} uploads in progress",
            limit=open_max,
            used=locked.open_upload_count,
            wanted=1,
        )
    charge_uploads(connection, upload.tenant_id, uploads_delta=1)
    connection.execute(
        _INSERT_UPLOAD,
        {
            "upload_id": upload.upload_id,
            "tenant_id": upload.tenant_id,
            "bucket_id": upload.bucket_id,
            "key": upload.key,
            "initiated_us": upload.initiated_us,
            "initiator": upload.initiator,
            "content_type": upload.attributes.content_type,
            "attributes": encode_attributes(upload.attributes),
            "checksum_algorithm": upload.checksum_algorithm,
            "checksum_type": upload.checksum_type,
        },
    )


def find_upload(
    connection: Connection, *, bucket_id: BucketId, key: bytes, upload_id: str
) -> UploadRecord | None:
    """An upload in progress, or a completed one that is still remembered (`completed` set)."""
    found = _find(connection, bucket_id, key, upload_id)
    return None if found is None else found[0]


def put_part(  # noqa: PLR0913 - where, what, and when
    connection: Connection,
    *,
    tenant_id: TenantId,
    bucket_id: BucketId,
    key: bytes,
    upload_id: str,
    part: PartRecord,
    body: NewBody | None = None,
    references: Sequence[BodySlice] = (),
    now_us: int,
) -> None:
    """Add a part, in place of an earlier one of that number, whose bodies die.

    The part's bytes are either `body`, newly written, or `references`: whole bodies of a version
    that is copied, whose sizes sum to the part's.

    Raises:
        BucketMissing: The tenant's bucket is gone.
        UploadMissing: No such upload in progress.
        VersionMissing: A body of `references` is gone.
        QuotaExceeded: A hard limit of bytes would be passed.
    """
    slices = [(body.body_id, body.size_bytes)] if body is not None else []
    slices += [(piece.body_id, piece.size_bytes) for piece in references]
    assert (body is None) != (not references)
    assert sum(size for _, size in slices) == part.size_bytes
    locked = lock_bucket(connection, tenant_id, bucket_id)
    number = _load_open(connection, bucket_id, key, upload_id)
    of_part = {"upload": number, "part": part.part_number}
    replaced_bytes: int | None = connection.execute(_PART_SIZE, of_part).scalar()
    charge(
        connection,
        locked,
        bytes_delta=part.size_bytes - (replaced_bytes or 0),
        objects_delta=0,
    )
    if body is not None:
        insert_body(connection, tenant_id, body)
    else:
        add_references(connection, (piece.body_id for piece in references))
    if replaced_bytes is not None:
        _discard_part(connection, number, part.part_number, now_us=now_us)
    algorithm, value, kind = encode_checksum(part.checksum)
    connection.execute(
        _INSERT_PART,
        {
            "upload_number": number,
            "part_number": part.part_number,
            "size_bytes": part.size_bytes,
            "etag": part.etag,
            "checksum_algorithm": algorithm,
            "checksum_value": value,
            "checksum_type": kind,
            "modified_us": part.modified_us,
        },
    )
    connection.execute(
        _INSERT_PART_BODY,
        [
            {
                "upload_number": number,
                "part_number": part.part_number,
                "ordinal": ordinal,
                "body_id": body_id,
                "size_bytes": size_bytes,
            }
            for ordinal, (body_id, size_bytes) in enumerate(slices)
        ],
    )


def list_parts(
    connection: Connection,
    *,
    bucket_id: BucketId,
    key: bytes,
    upload_id: str,
    after: int,
    limit: int,
) -> list[PartRecord]:
    """Parts with numbers above `after`, ascending, at most `limit`.

    Raises:
        UploadMissing: No such upload in progress.
    """
    number = _load_open(connection, bucket_id, key, upload_id)
    found = connection.execute(_LIST_PARTS, {"upload": number, "after": after, "row_limit": limit})
    return [_decode_part(tuple(row)) for row in found]


def complete_upload(  # noqa: PLR0913 - where, what, and when
    connection: Connection,
    *,
    tenant_id: TenantId,
    bucket_id: BucketId,
    key: bytes,
    upload_id: str,
    listed: Sequence[ListedPart],
    compute: Callable[[list[PartRecord]], tuple[str, Checksum | None]],
    minimum_part_bytes: int,
    conditions: WriteConditions,
    now_us: int,
    statement: VersionStatement | None = None,
) -> PutOutcome:
    """Make the listed parts one version; parts not listed die.

    Called again with the same list it gives the same outcome, until `expire_completed`. `listed`
    has at least one part; a checksum of None in it is not compared. `compute` is pure and gives the
    object's ETag and checksum; what it raises is raised here. `minimum_part_bytes` is asked of
    every part but the last. The version gets the manifest of `statement`, where that is of the
    very bodies that the parts have now.

    Raises:
        BucketMissing: The tenant's bucket is gone.
        UploadMissing: No such upload, or completed with another list.
        PartOrderInvalid, PartInvalid, PartTooSmall: The list does not fit the parts.
        ConditionFailed, ConditionMissing: A precondition does not hold.
        QuotaExceeded: A hard limit of objects would be passed.

    Complexity: O(parts), whatever their sizes.
    """
    assert listed
    locked = lock_bucket(connection, tenant_id, bucket_id)
    found = _find(connection, bucket_id, key, upload_id)
    if found is None:
        raise UploadMissing(upload_id)
    upload, number, result = found
    digest = digest_parts(listed)
    if result is not None:
        if upload.completed_parts != digest:
            raise UploadMissing(upload_id)
        return decode_result(upload, result)
    stored = {
        row[0]: _decode_part(tuple(row))
        for row in connection.execute(_ALL_PARTS, {"upload": number})
    }
    chosen = _choose(listed, stored, minimum_part_bytes)
    current = find_version(connection, bucket_id=bucket_id, key=key, version_id=None)
    judge(conditions, current)
    etag, checksum = compute(chosen)
    all_bytes = sum(part.size_bytes for part in stored.values())
    for part_number in stored.keys() - {part.part_number for part in chosen}:
        _discard_part(connection, number, part_number, now_us=now_us)
    sequence = allocate_sequence(connection)
    connection.execute(_HAND_OVER, {"target_number": sequence, "upload": number})
    content = Content(
        size_bytes=sum(part.size_bytes for part in chosen),
        etag=etag,
        modified_us=now_us,
        attributes=upload.attributes,
        checksum=checksum,
        body_id=None,
        part_count=len(chosen),
        statement=statement
        if statement is not None and statement.slices == tuple(list_slices_of(connection, sequence))
        else None,
    )
    outcome = install_version(
        connection,
        locked,
        key,
        current,
        content,
        now_us=now_us,
        sequence=sequence,
        counted_bytes=all_bytes,
    )
    charge_uploads(connection, tenant_id, uploads_delta=-1)
    connection.execute(_DELETE_ALL_BODIES, {"upload": number})
    connection.execute(_DELETE_PARTS, {"upload": number})
    connection.execute(
        _STORE_RESULT,
        {"upload": number, "at": now_us, "digest": digest, "result": encode_result(outcome)},
    )
    return outcome


def plan_completion(
    connection: Connection,
    *,
    bucket_id: BucketId,
    key: bytes,
    upload_id: str,
    listed: Sequence[ListedPart],
    minimum_part_bytes: int,
) -> tuple[list[PartRecord], tuple[BodySlice, ...]] | None:
    """What `complete_upload` would make now: the chosen parts and their bodies; changes nothing.

    None where it would refuse, or answer a retry: let it speak.
    """
    found = _find(connection, bucket_id, key, upload_id)
    if found is None or found[2] is not None:
        return None
    number = found[1]
    stored = {
        row[0]: _decode_part(tuple(row))
        for row in connection.execute(_ALL_PARTS, {"upload": number})
    }
    try:
        chosen = _choose(listed, stored, minimum_part_bytes)
    except (PartInvalid, PartOrderInvalid, PartTooSmall):
        return None
    checksums = {part.part_number: part.checksum for part in chosen}
    slices = []
    for part_number, ordinal, body_id, size_bytes in connection.execute(
        _ALL_BODIES, {"upload": number}
    ):
        if part_number not in checksums:
            continue
        checksum = checksums[part_number]
        slices.append(
            BodySlice(
                body_id=BodyId(body_id),
                size_bytes=size_bytes,
                part_number=part_number,
                part_checksum=checksum.value if checksum is not None and ordinal == 0 else None,
            )
        )
    return chosen, tuple(slices)


def abort_upload(
    connection: Connection,
    *,
    tenant_id: TenantId,
    bucket_id: BucketId,
    key: bytes,
    upload_id: str,
    now_us: int,
) -> None:
    """End an upload; its parts die.

    Raises:
        BucketMissing: The tenant's bucket is gone.
        UploadMissing: No such upload in progress.
    """
    locked = lock_bucket(connection, tenant_id, bucket_id)
    number = _load_open(connection, bucket_id, key, upload_id)
    freed: int = connection.execute(_SUM_PARTS, {"upload": number}).scalar_one()
    charge(connection, locked, bytes_delta=-int(freed), objects_delta=0)
    charge_uploads(connection, tenant_id, uploads_delta=-1)
    _discard(connection, number, now_us=now_us)


def discard_bucket_uploads(
    connection: Connection, tenant_id: TenantId, bucket_id: BucketId, *, now_us: int
) -> None:
    """End every upload of a bucket that is being deleted, and forget its completed ones.

    Complexity: a fixed number of statements, O(parts) in all.
    """
    locked = lock_bucket(connection, tenant_id, bucket_id)
    of_bucket = {"bucket": bucket_id}
    freed: int = connection.execute(_SUM_BUCKET_PARTS, of_bucket).scalar_one()
    ended: int = connection.execute(_COUNT_BUCKET_OPEN, of_bucket).scalar_one()
    charge(connection, locked, bytes_delta=-int(freed), objects_delta=0)
    charge_uploads(connection, tenant_id, uploads_delta=-ended)
    release_bucket_parts(connection, bucket_id, now_us=now_us)
    for statement in _DISCARD_BUCKET:
        connection.execute(statement, of_bucket)


def expire_completed(connection: Connection, *, before_us: int, limit: int = EXPIRED_MAX) -> int:
    """Forget the results of uploads completed before a time, at most `limit`; return how many."""
    return connection.execute(_EXPIRE, {"before": before_us, "row_limit": limit}).rowcount


def _choose(
    listed: Sequence[ListedPart], stored: dict[int, PartRecord], minimum_part_bytes: int
) -> list[PartRecord]:
    numbers = [number for number, _, _ in listed]
    if any(earlier >= later for earlier, later in pairwise(numbers)):
        raise PartOrderInvalid(f"{len(numbers)} parts")
    chosen = []
    for number, etag, checksum in listed:
        part = stored.get(number)
        if part is None or part.etag != etag:
            raise PartInvalid(number)
        if checksum is not None and (part.checksum is None or part.checksum.value != checksum):
            raise PartInvalid(number)
        chosen.append(part)
    for part in chosen[:-1]:
        if part.size_bytes < minimum_part_bytes:
            raise PartTooSmall(
                part.part_number, size_bytes=part.size_bytes, minimum_bytes=minimum_part_bytes
            )
    return chosen


def _find(
    connection: Connection, bucket_id: BucketId, key: bytes, upload_id: str
) -> tuple[UploadRecord, int, str | None] | None:
    row = connection.execute(
        _FIND, {"bucket": bucket_id, "object": key, "upload_text": upload_id}
    ).first()
    if row is None:
        return None
    *columns, number, result = row
    return decode_upload(columns), number, result


def _load_open(connection: Connection, bucket_id: BucketId, key: bytes, upload_id: str) -> int:
    found = _find(connection, bucket_id, key, upload_id)
    if found is None or found[2] is not None:
        raise UploadMissing(upload_id)
    return found[1]


def _discard_part(connection: Connection, number: int, part_number: int, *, now_us: int) -> None:
    release_upload_bodies(connection, number, part_number=part_number, now_us=now_us)
    of_part = {"upload": number, "part": part_number}
    connection.execute(_DELETE_PART_BODIES, of_part)
    connection.execute(_DELETE_PART, of_part)


def _discard(connection: Connection, number: int, *, now_us: int) -> None:
    release_upload_bodies(connection, number, part_number=None, now_us=now_us)
    connection.execute(_DELETE_ALL_BODIES, {"upload": number})
    connection.execute(_DELETE_PARTS, {"upload": number})
    connection.execute(_DELETE_UPLOAD, {"upload": number})


def _decode_part(row: tuple[object, ...]) -> PartRecord:
    part_number, size_bytes, etag, algorithm, value, kind, modified_us = row
    assert isinstance(part_number, int)
    assert isinstance(size_bytes, int)
    assert isinstance(etag, str)
    assert isinstance(modified_us, int)
    return PartRecord(
        part_number=part_number,
        size_bytes=size_bytes,
        etag=etag,
        checksum=decode_checksum(algorithm, value, kind),
        modified_us=modified_us,
    )
