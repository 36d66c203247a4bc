"""Units: one page of keys, versions or uploads in S3's order, from where the last page ended.

Nothing here knows prefixes, delimiters or tokens: `appliance.s3.listing` asks for ranges of keys. A
range is `start` (inclusive or not) to `end` (exclusive, None: the bucket's end); keys compare as
bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import BindParameter, Integer, bindparam, select, tuple_

from appliance.catalog import tables
from appliance.catalog.upload_rows import UPLOAD_COLUMNS, decode_upload
from appliance.catalog.version_rows import VERSION_COLUMNS, decode_version

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

    from appliance.catalog.records import BucketId, UploadRecord, VersionRecord

__all__ = ["list_current", "list_uploads", "list_versions"]

_v = tables.versions.c
_u = tables.uploads.c
_limit = bindparam("row_limit", type_=Integer)

_CURRENT = (
    select(*VERSION_COLUMNS)
    .where(_v.bucket_id == bindparam("bucket"), _v.is_current, ~_v.is_delete_marker)
    .order_by(_v.key)
    .limit(_limit)
)
_OLDER_OF_KEY = (
    select(*VERSION_COLUMNS)
    .where(
        _v.bucket_id == bindparam("bucket"),
        _v.key == bindparam("start"),
        _v.sequence < bindparam("before"),
    )
    .order_by(_v.sequence.desc())
    .limit(_limit)
)
_VERSIONS = (
    select(*VERSION_COLUMNS)
    .where(_v.bucket_id == bindparam("bucket"))
    .order_by(_v.key, _v.sequence.desc())
    .limit(_limit)
)
_UPLOADS = (
    select(*UPLOAD_COLUMNS)
    .where(_u.bucket_id == bindparam("bucket"), _u.completed_us.is_(None))
    .order_by(_u.key, _u.upload_id)
    .limit(_limit)
)

_FROM: BindParameter[bytes] = bindparam("start")
_TO: BindParameter[bytes] = bindparam("end_key")


def _ranged(
    statement: Select[tuple[object, ...]],
) -> dict[tuple[bool, bool], Select[tuple[object, ...]]]:
    """The four shapes of a range over versions' keys: (is_inclusive, has an end)."""
    return {
        (is_inclusive, has_end): statement.where(
            _v.key >= _FROM if is_inclusive else _v.key > _FROM,
            *((_v.key < _TO,) if has_end else ()),
        )
        for is_inclusive in (False, True)
        for has_end in (False, True)
    }


_CURRENT_RANGES = _ranged(_CURRENT)
_VERSION_RANGES = _ranged(_VERSIONS)


def list_current(
    connection: Connection,
    *,
    bucket_id: BucketId,
    start: bytes,
    is_inclusive: bool,
    end: bytes | None,
    limit: int,
) -> list[VersionRecord]:
    """Current versions that are no delete markers, in order of keys.

    Complexity: one index walk of at most `limit` entries.
    """
    values = {"bucket": bucket_id, "start": start, "row_limit": limit}
    if end is not None:
        values["end_key"] = end
    found = connection.execute(_CURRENT_RANGES[is_inclusive, end is not None], values)
    return [decode_version(row) for row in found.all()]


def list_versions(
    connection: Connection,
    *,
    bucket_id: BucketId,
    start: bytes,
    start_sequence: int | None,
    end: bytes | None,
    limit: int,
    is_inclusive: bool = True,
) -> list[VersionRecord]:
    """All versions and delete markers, keys ascending, newest first within a key.

    Of the key `start` only versions below `start_sequence` are listed; None lists all of them, or
    none where `is_inclusive` is False.
    """
    found: list[VersionRecord] = []
    values: dict[str, object] = {"bucket": bucket_id, "start": start, "row_limit": limit}
    if start_sequence is not None:
        older = connection.execute(_OLDER_OF_KEY, {**values, "before": start_sequence})
        found = [decode_version(row) for row in older.all()]
        is_inclusive = False
        values["row_limit"] = limit - len(found)
    if end is not None:
        values["end_key"] = end
    if len(found) < limit:
        rest = connection.execute(_VERSION_RANGES[is_inclusive, end is not None], values)
        found.extend(decode_version(row) for row in rest.all())
    return found


def list_uploads(
    connection: Connection,
    *,
    bucket_id: BucketId,
    start: bytes,
    start_upload: str | None,
    end: bytes | None,
    limit: int,
    is_inclusive: bool = True,
) -> list[UploadRecord]:
    """Uploads in progress, ascending by key and upload id.

    Of the key `start` only uploads with ids above `start_upload` are listed; None lists them all,
    or none where `is_inclusive` is False.
    """
    values: dict[str, object] = {"bucket": bucket_id, "start": start, "row_limit": limit}
    if start_upload is not None:
        statement = _UPLOADS.where(
            tuple_(_u.key, _u.upload_id) > tuple_(_FROM, bindparam("start_id"))
        )
        values["start_id"] = start_upload
    else:
        statement = _UPLOADS.where(_u.key >= _FROM if is_inclusive else _u.key > _FROM)
    if end is not None:
        statement = statement.where(_u.key < _TO)
        values["end_key"] = end
    return [decode_upload(row) for row in connection.execute(statement, values).all()]
