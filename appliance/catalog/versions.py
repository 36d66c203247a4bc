"""Units: reading, writing and deleting versions of objects.

Every object row is a version from the first day; an unversioned bucket has one null version a key.
The newest sequence of a key is its current version, and the row says so (`is_current`), because
listings walk an index of those.

    versioning   a write                          a delete without version id
    off          replaces the null version        removes it
    enabled      adds a version                   adds a delete marker
    suspended    replaces the null version only   replaces the null version by a null delete marker

Source: Amazon S3 User Guide, "Adding objects to / Deleting object versions from versioning-enabled
(-suspended) buckets".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, insert, select, update

from appliance.catalog import tables
from appliance.catalog.bodies import (
    add_references,
    adopt_version_bodies,
    insert_body,
    release_body,
    release_version_bodies,
)
from appliance.catalog.dialects import allocate_sequence
from appliance.catalog.errors import ConditionFailed, ConditionMissing, VersionMissing
from appliance.catalog.records import (
    BodySlice,
    BucketId,
    Checksum,
    DeleteOutcome,
    PutOutcome,
    VersionAttributes,
    Versioning,
    VersionRecord,
    VersionStatement,
    WriteConditions,
)
from appliance.catalog.usage import LockedBucket, charge, lock_bucket
from appliance.catalog.version_ids import parse_version_id
from appliance.catalog.version_rows import (
    NULL_VERSION_ID,
    VERSION_COLUMNS,
    decode_version,
    encode_attributes,
    encode_version,
    format_shown_id,
)
from hal.records import BodyId

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from appliance.catalog.records import NewBody, NewVersion
    from tenants.records import TenantId

__all__ = [
    "Content",
    "attach_statement",
    "copy_version",
    "delete_object",
    "find_version",
    "install_version",
    "judge",
    "list_slices",
    "list_slices_of",
    "put_version",
    "replace_tags",
]

_v = tables.versions.c
_vb = tables.version_bodies.c

_SELECT = select(*VERSION_COLUMNS)
_OF_KEY = (_v.bucket_id == bindparam("bucket"), _v.key == bindparam("object"))
_FIND_NEWEST = _SELECT.where(*_OF_KEY).order_by(_v.sequence.desc()).limit(1)
_FIND_EXACT = _SELECT.where(*_OF_KEY, _v.sequence == bindparam("number"), ~_v.is_null_version)
_FIND_BURIED_NULL = _SELECT.where(*_OF_KEY, _v.is_null_version, ~_v.is_current)
_FIND_SEQUENCE = _SELECT.where(_v.sequence == bindparam("number"))
_OF_ROW = (*_OF_KEY, _v.sequence == bindparam("number"))
_INSERT = insert(tables.versions)
_DELETE = delete(tables.versions).where(*_OF_ROW)
_SET_CURRENT = update(tables.versions).where(*_OF_ROW).values(is_current=bindparam("current"))
_SET_ATTRIBUTES = update(tables.versions).where(*_OF_ROW).values(attributes=bindparam("encoded"))
_SET_MANIFEST = (
    update(tables.versions)
    .where(*_OF_ROW)
    .values(manifest_body_id=bindparam("manifest"), origin_id=bindparam("origin"))
)

_LIST_SLICES = (
    select(_vb.body_id, _vb.size_bytes, _vb.part_number, _vb.part_checksum)
    .where(_vb.sequence == bindparam("number"))
    .order_by(_vb.ordinal)
)
_COPY_SLICES = insert(tables.version_bodies).from_select(
    ["sequence", "ordinal", "body_id", "size_bytes", "part_number", "part_checksum"],
    select(
        bindparam("target_number", type_=_vb.sequence.type),
        _vb.ordinal,
        _vb.body_id,
        _vb.size_bytes,
        _vb.part_number,
        _vb.part_checksum,
    ).where(_vb.sequence == bindparam("number")),
)
_DELETE_SLICES = delete(tables.version_bodies).where(_vb.sequence == bindparam("number"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a new row of `versions` holds besides its place.

    Attributes:
        statement: Its manifest, None where its body's annex says enough.
    """

    is_delete_marker: bool = False
    size_bytes: int
    etag: str
    modified_us: int
    attributes: VersionAttributes
    checksum: Checksum | None
    body_id: BodyId | None
    part_count: int | None
    statement: VersionStatement | None = None


def find_version(
    connection: Connection, *, bucket_id: BucketId, key: bytes, version_id: str | None
) -> VersionRecord | None:
    """One version of a key, delete markers included, or None where there is no such version.

    `version_id` is as S3 shows it; None asks for the current version.
    """
    if version_id is None:
        return _find_newest(connection, bucket_id, key)
    if version_id == NULL_VERSION_ID:
        return _find_null(connection, bucket_id, key, _find_newest(connection, bucket_id, key))
    sequence = parse_version_id(version_id)
    if sequence is None:
        return None
    row = connection.execute(
        _FIND_EXACT, {"bucket": bucket_id, "object": key, "number": sequence}
    ).first()
    return None if row is None else decode_version(row)


def list_slices(connection: Connection, *, version: VersionRecord) -> list[BodySlice]:
    """The bodies of a version in order; none for a delete marker.

    Complexity: one entry per part; more where parts were copied from multipart objects.
    """
    if version.body_id is not None:
        return [BodySlice(body_id=version.body_id, size_bytes=version.size_bytes)]
    if version.part_count is None:
        return []
    return list_slices_of(connection, version.sequence)


def list_slices_of(connection: Connection, sequence: int) -> list[BodySlice]:
    """The bodies in a version's list, in order; none where the version keeps no list."""
    return [
        BodySlice(
            body_id=BodyId(row[0]), size_bytes=row[1], part_number=row[2], part_checksum=row[3]
        )
        for row in connection.execute(_LIST_SLICES, {"number": sequence})
    ]


def put_version(
    connection: Connection,
    *,
    new: NewVersion,
    body: NewBody,
    conditions: WriteConditions,
    now_us: int,
) -> PutOutcome:
    """Make a body the current version of a key.

    Raises:
        BucketMissing: The tenant's bucket is gone.
        ConditionFailed: A precondition does not hold.
        ConditionMissing: If-Match on a key without an object.
        QuotaExceeded: A hard limit would be passed.
    """
    locked = lock_bucket(connection, new.tenant_id, new.bucket_id)
    current = _find_newest(connection, new.bucket_id, new.key)
    judge(conditions, current)
    insert_body(connection, new.tenant_id, body)
    content = Content(
        size_bytes=body.size_bytes,
        etag=new.etag,
        modified_us=new.modified_us,
        attributes=new.attributes,
        checksum=new.checksum,
        body_id=body.body_id,
        part_count=None,
    )
    return install_version(connection, locked, new.key, current, content, now_us=now_us)


def copy_version(
    connection: Connection,
    *,
    new: NewVersion,
    source_sequence: int,
    conditions: WriteConditions,
    now_us: int,
    statement: VersionStatement | None = None,
) -> PutOutcome:
    """Make the bodies of another version the current version of a key; no byte moves.

    The new version has the source's parts, where it has some, and the manifest of `statement`,
    where that is true.

    Raises:
        VersionMissing: The source is gone.
        BucketMissing, ConditionFailed, ConditionMissing, QuotaExceeded: As of `put_version`.
    """
    locked = lock_bucket(connection, new.tenant_id, new.bucket_id)
    row = connection.execute(_FIND_SEQUENCE, {"number": source_sequence}).first()
    if row is None:
        raise VersionMissing(f"version {source_sequence}")
    source = decode_version(row)
    if source.is_delete_marker:
        raise VersionMissing(f"version {source_sequence} is a delete marker")
    current = _find_newest(connection, new.bucket_id, new.key)
    judge(conditions, current)
    # Referred to before anything is released: the source may be the very version replaced.
    sequence = allocate_sequence(connection)
    if source.body_id is not None:
        add_references(connection, [source.body_id])
    else:
        copied = connection.execute(
            _COPY_SLICES, {"target_number": sequence, "number": source_sequence}
        )
        if copied.rowcount == 0:
            raise VersionMissing(f"version {source_sequence}")
        adopt_version_bodies(connection, sequence)
    content = Content(
        size_bytes=source.size_bytes,
        etag=new.etag,
        modified_us=new.modified_us,
        attributes=new.attributes,
        checksum=new.checksum,
        body_id=source.body_id,
        part_count=source.part_count,
        statement=_if_of(statement, lambda: list_slices(connection, version=source)),
    )
    return install_version(
        connection, locked, new.key, current, content, now_us=now_us, sequence=sequence
    )


def delete_object(  # noqa: PLR0913 - where, what, and when
    connection: Connection,
    *,
    bucket_id: BucketId,
    tenant_id: TenantId,
    key: bytes,
    version_id: str | None,
    now_us: int,
    if_match: tuple[str, ...] | None = None,
    statement: VersionStatement | None = None,
) -> DeleteOutcome:
    """Delete an object as the bucket's versioning has it, or one version for good.

    A version or key that does not exist is no error: there is nothing left to do. `if_match` holds
    ETags (without quotes, or `*`) of which the version must have one. A delete marker that is made
    gets the manifest of `statement`.

    Raises:
        BucketMissing: The tenant's bucket is gone.
        ConditionFailed: The ETag is another.
        ConditionMissing: If-Match on what does not exist.
    """
    locked = lock_bucket(connection, tenant_id, bucket_id)
    current = _find_newest(connection, bucket_id, key)
    if version_id is not None:
        return _delete_version(connection, locked, key, version_id, current, now_us, if_match)
    judge(WriteConditions(if_match=if_match), current)
    if locked.bucket.versioning is Versioning.OFF:
        if current is not None:
            _remove(connection, current, now_us=now_us)
            _credit(connection, locked, current)
        return DeleteOutcome(version_id=None, is_delete_marker=False)
    marker = Content(
        is_delete_marker=True,
        size_bytes=0,
        etag="",
        modified_us=now_us,
        attributes=VersionAttributes(content_type=""),
        checksum=None,
        body_id=None,
        part_count=None,
        statement=statement,
    )
    made = install_version(connection, locked, key, current, marker, now_us=now_us).version
    return DeleteOutcome(
        version_id=made.version_id, is_delete_marker=True, manifest_body_id=made.manifest_body_id
    )


def replace_tags(
    connection: Connection,
    *,
    bucket_id: BucketId,
    tenant_id: TenantId,
    key: bytes,
    version_id: str | None,
    tags: tuple[tuple[str, str], ...],
    statement: VersionStatement | None = None,
) -> VersionRecord:
    """Give a version another set of tags; nothing else of it changes but its manifest.

    Raises:
        BucketMissing: The tenant's bucket is gone.
        VersionMissing: No such version, or it is a delete marker.
    """
    lock_bucket(connection, tenant_id, bucket_id)
    found = find_version(connection, bucket_id=bucket_id, key=key, version_id=version_id)
    if found is None or found.is_delete_marker:
        raise VersionMissing(repr(key))
    attributes = replace(found.attributes, tags=tags)
    connection.execute(
        _SET_ATTRIBUTES, {**_row_of(found), "encoded": encode_attributes(attributes)}
    )
    found = replace(found, attributes=attributes)
    if statement is None or not _is_true_of(connection, statement, found):
        return found
    return _attach(connection, tenant_id, found, statement)


def attach_statement(
    connection: Connection,
    *,
    bucket_id: BucketId,
    tenant_id: TenantId,
    key: bytes,
    sequence: int,
    statement: VersionStatement,
) -> bool:
    """Give a version a manifest, in place of the one it has; False where it is not true of it.

    Raises:
        BucketMissing: The tenant's bucket is gone.
        VersionMissing: The version is gone.
    """
    lock_bucket(connection, tenant_id, bucket_id)
    row = connection.execute(_FIND_SEQUENCE, {"number": sequence}).first()
    if row is None:
        raise VersionMissing(repr(key))
    found = decode_version(row)
    assert (found.bucket_id, found.key) == (bucket_id, key)
    if not _is_true_of(connection, statement, found):
        return False
    _attach(connection, tenant_id, found, statement)
    return True


def judge(conditions: WriteConditions, current: VersionRecord | None) -> None:
    """Compare preconditions with the version they speak of; a delete marker counts as missing.

    Raises:
        ConditionFailed: The ETag is another, or an object exists that must not.
        ConditionMissing: If-Match, and there is no object.
    """
    exists = current is not None and not current.is_delete_marker
    if conditions.if_none_match and exists:
        raise ConditionFailed("the object exists")
    if conditions.if_match is not None:
        if current is None or not exists:
            raise ConditionMissing("there is no object to match")
        if "*" not in conditions.if_match and current.etag not in conditions.if_match:
            raise ConditionFailed("the object has another ETag")


def install_version(  # noqa: PLR0913 - the one place where every write ends
    connection: Connection,
    locked: LockedBucket,
    key: bytes,
    current: VersionRecord | None,
    content: Content,
    *,
    now_us: int,
    sequence: int | None = None,
    counted_bytes: int = 0,
) -> PutOutcome:
    """Insert a version or delete marker, remove what it replaces, and count both.

    `current` is the key's newest version and `sequence` (None: allocate it here) was allocated,
    both under the lock that `locked` stands for. `counted_bytes` are counted already (the parts of
    an upload) and are counted anew as the content's.

    Raises:
        QuotaExceeded: A hard limit would be passed.
    """
    bucket = locked.bucket
    versioning = bucket.versioning
    if sequence is None:
        sequence = allocate_sequence(connection)
    assert current is None or current.sequence < sequence
    replaced = None
    if versioning is not Versioning.ENABLED:
        replaced = _find_null(connection, bucket.bucket_id, key, current)
    charge(
        connection,
        locked,
        bytes_delta=content.size_bytes - counted_bytes - _bytes_of(replaced),
        objects_delta=(not content.is_delete_marker) - _objects_of(replaced),
    )
    if current is not None and (replaced is None or replaced.sequence != current.sequence):
        connection.execute(_SET_CURRENT, {**_row_of(current), "current": False})
    if replaced is not None:
        _remove(connection, replaced, now_us=now_us)
    made = VersionRecord(
        bucket_id=bucket.bucket_id,
        key=key,
        sequence=sequence,
        version_id=format_shown_id(sequence, is_null_version=versioning is not Versioning.ENABLED),
        is_current=True,
        is_delete_marker=content.is_delete_marker,
        size_bytes=content.size_bytes,
        etag=content.etag,
        modified_us=content.modified_us,
        attributes=content.attributes,
        checksum=content.checksum,
        body_id=content.body_id,
        part_count=content.part_count,
    )
    statement = content.statement
    if statement is not None and statement.is_null_version == (made.version_id == NULL_VERSION_ID):
        assert statement.origin_id is None, "a new version is stated for the first time"
        insert_body(connection, bucket.tenant_id, statement.body)
        made = replace(made, manifest_body_id=statement.body.body_id)
    _insert(connection, made)
    return PutOutcome(version=made, versioning=versioning)


def _if_of(
    statement: VersionStatement | None, list_bodies: Callable[[], list[BodySlice]]
) -> VersionStatement | None:
    """The statement, if it is of these bodies."""
    if statement is None or statement.slices != tuple(list_bodies()):
        return None
    return statement


def _is_true_of(connection: Connection, statement: VersionStatement, found: VersionRecord) -> bool:
    return (
        statement.origin_id == found.stated_id
        and statement.is_null_version == (found.version_id == NULL_VERSION_ID)
        and statement.attributes == found.attributes
        and statement.slices == tuple(list_slices(connection, version=found))
    )


def _attach(
    connection: Connection,
    tenant_id: TenantId,
    found: VersionRecord,
    statement: VersionStatement,
) -> VersionRecord:
    insert_body(connection, tenant_id, statement.body)
    stated = replace(found, manifest_body_id=statement.body.body_id, origin_id=statement.origin_id)
    connection.execute(
        _SET_MANIFEST,
        {
            **_row_of(found),
            "manifest": stated.manifest_body_id,
            "origin": stated.origin_id,
        },
    )
    if found.manifest_body_id is not None:
        release_body(connection, found.manifest_body_id, now_us=statement.at_us)
    return stated


def _delete_version(
    connection: Connection,
    locked: LockedBucket,
    key: bytes,
    version_id: str,
    current: VersionRecord | None,
    now_us: int,
    if_match: tuple[str, ...] | None,
) -> DeleteOutcome:
    bucket_id = locked.bucket.bucket_id
    if current is not None and current.version_id == version_id:
        found: VersionRecord | None = current
    else:
        found = find_version(connection, bucket_id=bucket_id, key=key, version_id=version_id)
    judge(WriteConditions(if_match=if_match), found)
    if found is None:
        return DeleteOutcome(version_id=version_id, is_delete_marker=False)
    _remove(connection, found, now_us=now_us)
    _credit(connection, locked, found)
    if found.is_current:
        newest = _find_newest(connection, bucket_id, key)
        if newest is not None:
            connection.execute(_SET_CURRENT, {**_row_of(newest), "current": True})
    return DeleteOutcome(version_id=version_id, is_delete_marker=found.is_delete_marker)


def _find_newest(connection: Connection, bucket_id: BucketId, key: bytes) -> VersionRecord | None:
    row = connection.execute(_FIND_NEWEST, {"bucket": bucket_id, "object": key}).first()
    return None if row is None else decode_version(row)


def _find_null(
    connection: Connection, bucket_id: BucketId, key: bytes, newest: VersionRecord | None
) -> VersionRecord | None:
    if newest is None or newest.version_id == NULL_VERSION_ID:
        return newest
    row = connection.execute(_FIND_BURIED_NULL, {"bucket": bucket_id, "object": key}).first()
    return None if row is None else decode_version(row)


def _insert(connection: Connection, made: VersionRecord) -> None:
    connection.execute(_INSERT, encode_version(made))


def _remove(connection: Connection, version: VersionRecord, *, now_us: int) -> None:
    if version.body_id is not None:
        release_body(connection, version.body_id, now_us=now_us)
    elif version.part_count is not None:
        release_version_bodies(connection, version.sequence, now_us=now_us)
        connection.execute(_DELETE_SLICES, {"number": version.sequence})
    if version.manifest_body_id is not None:
        release_body(connection, version.manifest_body_id, now_us=now_us)
    removed = connection.execute(_DELETE, _row_of(version))
    assert removed.rowcount == 1


def _credit(connection: Connection, locked: LockedBucket, removed: VersionRecord) -> None:
    charge(
        connection,
        locked,
        bytes_delta=-_bytes_of(removed),
        objects_delta=-_objects_of(removed),
    )


def _bytes_of(version: VersionRecord | None) -> int:
    return 0 if version is None else version.size_bytes


def _objects_of(version: VersionRecord | None) -> int:
    return 0 if version is None or version.is_delete_marker else 1


def _row_of(version: VersionRecord) -> dict[str, object]:
    return {"bucket": version.bucket_id, "object": version.key, "number": version.sequence}
