"""Puts of one group commit run together: a handful of statements for all of them (SQLite).

Alone, a put of a small object is ten statements, and most of its commit is their overhead. Here
every statement is of all puts at once: find the buckets, find what the keys hold, judge in memory,
then write. All of it is judged before anything is written, so a put that is refused has changed
nothing. What is not plain (parts to release, a null version under newer ones, a key or body that
another put of the batch touches as well) is left to `versions.put_version`, one by one.

What a put means is said there; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select
from sqlalchemy.dialects import sqlite

from appliance.catalog import tables, versions
from appliance.catalog.dialects import VERSION_COUNTER
from appliance.catalog.errors import BucketMissing, ConditionFailed, ConditionMissing
from appliance.catalog.records import PutOutcome, Versioning, VersionRecord
from appliance.catalog.sqlite_statements import SqliteStatements, iter_slices
from appliance.catalog.unit import Connection, JointUnit
from appliance.catalog.usage import (
    LOCKED_COLUMNS,
    LockedBucket,
    admit_change,
    decode_locked,
)
from appliance.catalog.version_rows import (
    NULL_VERSION_ID,
    VERSION_COLUMNS,
    decode_version,
    encode_version,
    format_shown_id,
)
from tenants.errors import QuotaExceeded
from tenants.records import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.catalog.records import BucketId, NewBody, NewVersion, WriteConditions
    from hal.records import BodyId
    from tenants.records import TenantId

__all__ = ["PutUnit"]

_b, _t = tables.buckets.c, tables.tenants.c
_LOCK_BUCKET = str(
    select(*LOCKED_COLUMNS)
    .select_from(tables.buckets.join(tables.tenants))
    .where(_b.bucket_id == bindparam("bucket"), _b.tenant_id == bindparam("tenant"))
    .compile(dialect=sqlite.dialect(paramstyle="qmark"))
)
_COLUMNS = ", ".join(f"v.{column.name}" for column in VERSION_COLUMNS)
_ADVANCE = "UPDATE counters SET value = value + ? WHERE name = ? RETURNING value"
_CHARGE_TENANT = (
    "UPDATE tenants SET used_bytes = used_bytes + ?, object_count = object_count + ?"
    " WHERE tenant_id = ?"
)
_CHARGE_BUCKET = (
    "UPDATE buckets SET used_bytes = used_bytes + ?, object_count = object_count + ?"
    " WHERE bucket_id = ?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PutUnit(JointUnit[PutOutcome]):
    """Makes a body the current version of a key, see `versions.put_version`."""

    new: NewVersion
    body: NewBody
    conditions: WriteConditions
    now_us: int

    def __call__(self, connection: Connection) -> PutOutcome:
        """See `JointUnit`."""
        return versions.put_version(
            connection,
            new=self.new,
            body=self.body,
            conditions=self.conditions,
            now_us=self.now_us,
        )

    @classmethod
    def run_jointly(
        cls, connection: Connection, units: Sequence[PutUnit]
    ) -> Sequence[PutOutcome | Exception | None]:
        """See `JointUnit`."""
        return _JointPuts(connection, units).run()


@dataclass(slots=True, kw_only=True)
class _Made:
    """One put that was admitted.

    Attributes:
        replaced: What goes.
        left: What stays and is no longer current.
    """

    place: int
    put: PutUnit
    versioning: Versioning
    replaced: VersionRecord | None
    left: VersionRecord | None


@dataclass(slots=True)
class _Change:
    """What the puts add to a bucket or tenant."""

    used_bytes: int = 0
    object_count: int = 0

    def as_usage(self) -> Usage:
        return Usage(used_bytes=self.used_bytes, object_count=self.object_count)

    def add(self, *, bytes_delta: int, objects_delta: int) -> None:
        self.used_bytes += bytes_delta
        self.object_count += objects_delta


@dataclass(slots=True)
class _Account:
    """A bucket with what the puts change of it and of its tenant."""

    locked: LockedBucket
    of_tenant: _Change
    own: _Change = field(default_factory=_Change)


class _JointPuts:
    """One run over the puts of a batch."""

    def __init__(self, connection: Connection, puts: Sequence[PutUnit]) -> None:
        self._statements = SqliteStatements(connection)
        self._puts = puts
        self._results: list[PutOutcome | Exception | None] = [None] * len(puts)
        self._tenants: dict[TenantId, _Change] = {}
        self._accounts: dict[BucketId, _Account] = {}
        self._made: list[_Made] = []
        self._released: set[BodyId] = set()

    def run(self) -> list[PutOutcome | Exception | None]:
        by_bucket: dict[tuple[TenantId, BucketId], dict[bytes, int]] = {}
        for place, put in enumerate(self._puts):
            new = put.new
            # The second put of a key runs alone, behind the first.
            by_bucket.setdefault((new.tenant_id, new.bucket_id), {}).setdefault(new.key, place)
        for (tenant_id, bucket_id), places in by_bucket.items():
            self._judge_bucket(tenant_id, bucket_id, places)
        if self._made:
            self._write()
        return self._results

    def _judge_bucket(
        self, tenant_id: TenantId, bucket_id: BucketId, places: dict[bytes, int]
    ) -> None:
        rows = self._statements.fetch(_LOCK_BUCKET, (bucket_id, tenant_id))
        try:
            locked = decode_locked(
                rows[0] if rows else None, tenant_id=tenant_id, bucket_id=bucket_id
            )
        except BucketMissing as error:
            for place in places.values():
                self._results[place] = error
            return
        account = _Account(locked, self._tenants.setdefault(tenant_id, _Change()))
        self._accounts[bucket_id] = account
        found = self._find_newest(bucket_id, list(places))
        for key, place in places.items():
            try:
                self._judge(place, account, found.get(key))
            except (ConditionFailed, ConditionMissing, QuotaExceeded) as error:
                self._results[place] = error

    def _find_newest(
        self, bucket_id: BucketId, keys: Sequence[bytes]
    ) -> dict[bytes, VersionRecord]:
        found: dict[bytes, VersionRecord] = {}
        for some in iter_slices(keys):
            for row in self._statements.fetch(_find_text(len(some)), (bucket_id, *some)):
                version = decode_version(row)
                found[version.key] = version
        return found

    def _judge(self, place: int, account: _Account, current: VersionRecord | None) -> None:
        """Admit a put, refuse it, or leave it to be run alone."""
        put = self._puts[place]
        versions.judge(put.conditions, current)
        versioning = account.locked.bucket.versioning
        replaced = left = None
        if versioning is Versioning.ENABLED:
            left = current
        else:
            replaced = current
            if replaced is not None and not self._is_plain(replaced):
                return
        bytes_delta, objects_delta = put.body.size_bytes, 1
        if replaced is not None:
            bytes_delta -= replaced.size_bytes
            objects_delta -= not replaced.is_delete_marker
        if account.locked.has_limits:
            admit_change(
                account.locked,
                bytes_delta=bytes_delta,
                objects_delta=objects_delta,
                tenant_change=account.of_tenant.as_usage(),
                bucket_change=account.own.as_usage(),
            )
        account.own.add(bytes_delta=bytes_delta, objects_delta=objects_delta)
        account.of_tenant.add(bytes_delta=bytes_delta, objects_delta=objects_delta)
        if replaced is not None and replaced.body_id is not None:
            self._released.add(replaced.body_id)
        self._made.append(
            _Made(place=place, put=put, versioning=versioning, replaced=replaced, left=left)
        )

    def _is_plain(self, replaced: VersionRecord) -> bool:
        """Whether a version goes with its one body, to which no other put here refers."""
        return (
            replaced.version_id == NULL_VERSION_ID
            and replaced.part_count is None
            and replaced.manifest_body_id is None
            and replaced.body_id not in self._released
        )

    def _write(self) -> None:
        made = self._made
        statements = self._statements
        last = statements.fetch(_ADVANCE, (len(made), VERSION_COUNTER))[0][0]
        assert isinstance(last, int)
        outcomes = [
            _outcome_of(one, last - len(made) + number) for number, one in enumerate(made, 1)
        ]
        self._remove()
        statements.insert(
            "bodies",
            [
                (one.put.body.body_id, one.put.new.tenant_id, one.put.body.size_bytes, 1, None)
                for one in made
            ],
        )
        statements.insert("pages", [row for one in made for row in _page_rows(one.put.body)])
        statements.insert(
            "versions",
            [tuple(encode_version(outcome.version).values()) for outcome in outcomes],
        )
        self._charge()
        for one, outcome in zip(made, outcomes, strict=True):
            assert one.replaced is None or one.replaced.sequence < outcome.version.sequence
            self._results[one.place] = outcome

    def _remove(self) -> None:
        """Take away what is replaced, and what is current no longer."""
        goes = [one.replaced.sequence for one in self._made if one.replaced is not None]
        for sequences in iter_slices(goes):
            removed = self._statements.change(_delete_text(len(sequences)), sequences)
            assert removed == len(sequences)
        died = {
            one.replaced.body_id: one.put.now_us
            for one in self._made
            if one.replaced is not None and one.replaced.body_id is not None
        }
        for bodies in iter_slices(list(died)):
            # One time for all of a statement: the latest, so that no grace is cut short.
            now_us = max(died[body_id] for body_id in bodies)
            released = self._statements.change(_release_text(len(bodies)), (now_us, *bodies))
            assert released == len(bodies), "a body had no reference to lose"
        stays = [one.left.sequence for one in self._made if one.left is not None]
        for sequences in iter_slices(stays):
            changed = self._statements.change(_bury_text(len(sequences)), sequences)
            assert changed == len(sequences)

    def _charge(self) -> None:
        for bucket_id, account in self._accounts.items():
            own = account.own
            if own.used_bytes or own.object_count:
                self._statements.change(
                    _CHARGE_BUCKET, (own.used_bytes, own.object_count, bucket_id)
                )
        for tenant_id, change in self._tenants.items():
            if change.used_bytes or change.object_count:
                self._statements.change(
                    _CHARGE_TENANT, (change.used_bytes, change.object_count, tenant_id)
                )


def _outcome_of(made: _Made, sequence: int) -> PutOutcome:
    new, body = made.put.new, made.put.body
    return PutOutcome(
        version=VersionRecord(
            bucket_id=new.bucket_id,
            key=new.key,
            sequence=sequence,
            version_id=format_shown_id(
                sequence, is_null_version=made.versioning is not Versioning.ENABLED
            ),
            is_current=True,
            is_delete_marker=False,
            size_bytes=body.size_bytes,
            etag=new.etag,
            modified_us=new.modified_us,
            attributes=new.attributes,
            checksum=new.checksum,
            body_id=body.body_id,
            part_count=None,
        ),
        versioning=made.versioning,
    )


def _page_rows(body: NewBody) -> list[tuple[object, ...]]:
    assert sum(page.payload_bytes for page in body.pages) == body.size_bytes
    assert [page.page_index for page in body.pages] == list(range(len(body.pages)))
    return [
        (
            body.body_id,
            page.page_index,
            page.payload_bytes,
            page.blake3,
            page.extent.volume_id,
            page.extent.segment_id,
            page.extent.offset,
            page.extent.length_bytes,
            page.generation,
        )
        for page in body.pages
    ]


@cache
def _find_text(keys: int) -> str:
    """The newest versions of so many keys of a bucket: parameters are the bucket, then the keys.

    Each key costs two walks down the primary key, however many versions it has.
    """
    wanted = ", ".join(f"(?{number})" for number in range(2, keys + 2))
    return (
        f"WITH wanted(key) AS (VALUES {wanted})"  # noqa: S608 - parameters only
        f" SELECT {_COLUMNS} FROM wanted CROSS JOIN versions v"
        " ON v.bucket_id = ?1 AND v.key = wanted.key AND v.sequence ="
        " (SELECT max(sequence) FROM versions WHERE bucket_id = ?1 AND key = wanted.key)"
    )


@cache
def _delete_text(rows: int) -> str:
    return f"DELETE FROM versions WHERE sequence IN ({_marks(rows)})"  # noqa: S608


@cache
def _bury_text(rows: int) -> str:
    return f"UPDATE versions SET is_current = 0 WHERE sequence IN ({_marks(rows)})"  # noqa: S608


@cache
def _release_text(rows: int) -> str:
    """Takes a reference from each body; the parameters are the time, then the bodies."""
    return (
        "UPDATE bodies SET reference_count = reference_count - 1,"  # noqa: S608
        " died_us = CASE WHEN reference_count = 1 THEN ? END"
        f" WHERE body_id IN ({_marks(rows)}) AND reference_count > 0"
    )


def _marks(count: int) -> str:
    return ", ".join("?" * count)
