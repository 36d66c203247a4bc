"""All that a GET or HEAD asks the catalog for, in one statement where the object is a plain one.

The statement joins the bucket, the newest version of the key and some pages of its only body. What
has no such body (a multipart object) or is asked for by a version id takes the statements of
`versions` and `bodies` besides, in the same snapshot.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from sqlalchemy import Integer, and_, bindparam, func, literal_column, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.compiler import SQLCompiler

from appliance.catalog import tables
from appliance.catalog.bodies import PAGE_COLUMNS, decode_page, list_pages
from appliance.catalog.buckets import BUCKET_COLUMNS, decode_bucket, find_bucket
from appliance.catalog.dialects import is_postgres
from appliance.catalog.records import BodySlice
from appliance.catalog.version_rows import VERSION_COLUMNS, decode_version
from appliance.catalog.versions import find_version, list_slices

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, Select

    from appliance.catalog.bodies import PageRow
    from appliance.catalog.records import Bucket, VersionRecord
    from tenants.records import TenantId
    from tiers.records import StoredPage

__all__ = [
    "FIRST_PAGES",
    "ObjectFacts",
    "ObjectQuery",
    "decode_facts",
    "find_facts",
    "make_parameters",
    "render_for_postgres",
    "render_for_sqlite",
]

FIRST_PAGES = 8  # pages brought along by the first look-up: 32 MiB of an object need no second one

_b = tables.buckets.c
_v = tables.versions.c
_p = tables.pages.c

# Of rows that are read again and again, 1.5 KiB each as traced. To make the records of a row costs
# as much as half of reading it.
DECODED_MAX = 4_096

_VERSION_AT = len(BUCKET_COLUMNS)
_PAGE_AT = _VERSION_AT + len(VERSION_COLUMNS)
_SEQUENCE_AT = _VERSION_AT + VERSION_COLUMNS.index(_v.sequence)


@dataclass(frozen=True, slots=True)
class ObjectQuery:
    """What is asked for.

    Attributes:
        bucket: Name in the tenant's namespace.
        version_id: As S3 shows it, None for the current version.
        with_pages: Bring slices and pages along.
        first_page_index: From which on the pages of the version's first body are brought along.
    """

    tenant_id: TenantId
    bucket: str
    key: bytes
    version_id: str | None = None
    with_pages: bool = True
    first_page_index: int = 0


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """What the catalog knows of it, all from one snapshot.

    Attributes:
        bucket: None where there is none.
        version: None where there is none; may be a delete marker.
        slices: Every body of the version in order; empty where pages were not asked for.
        pages: At most `FIRST_PAGES` of the first body, by index.
    """

    bucket: Bucket | None = None
    version: VersionRecord | None = None
    slices: Sequence[BodySlice] = ()
    pages: Sequence[StoredPage] = ()


def find_facts(connection: Connection, query: ObjectQuery) -> ObjectFacts:
    """The facts of a query, by as many statements as it takes. A unit that reads."""
    if query.version_id is None:
        statement = _make_statement(
            with_pages=query.with_pages, is_postgres=is_postgres(connection)
        )
        rows = connection.execute(statement, make_parameters(query)).all()
        facts = decode_facts(rows, query)
        if facts is not None:
            return facts
    bucket = find_bucket(connection, tenant_id=query.tenant_id, name=query.bucket)
    if bucket is None:
        return ObjectFacts()
    version = find_version(
        connection, bucket_id=bucket.bucket_id, key=query.key, version_id=query.version_id
    )
    if version is None or version.is_delete_marker or not query.with_pages:
        return ObjectFacts(bucket, version)
    slices = list_slices(connection, version=version)
    if not slices:
        return ObjectFacts(bucket, version)
    pages = list_pages(
        connection,
        body_id=slices[0].body_id,
        first_index=query.first_page_index if len(slices) == 1 else 0,
        limit=FIRST_PAGES,
    )
    return ObjectFacts(bucket, version, slices, pages)


def make_parameters(query: ObjectQuery) -> Mapping[str, object]:
    """The parameters of the one statement."""
    first = query.first_page_index
    return {
        "tenant": query.tenant_id,
        "bucket_name": query.bucket,
        "object": query.key,
        "first": first,
        "page_end": first + FIRST_PAGES,
    }


def decode_facts(rows: Sequence[Sequence[object]], query: ObjectQuery) -> ObjectFacts | None:
    """What the rows of the one statement say; None where they do not say all that is asked for."""
    if not rows:
        return ObjectFacts()
    facts = _decode_row(tuple(rows[0]))
    if facts.version is None or facts.version.is_delete_marker or not query.with_pages:
        return facts
    body_id = facts.version.body_id
    if body_id is None:
        return None
    if len(rows) == 1:
        return facts
    pages = [
        decode_page(body_id, cast("PageRow", tuple(row[_PAGE_AT:])))
        for row in rows
        # On SQLite older versions of the key may follow.
        if row[_SEQUENCE_AT] == facts.version.sequence and row[_PAGE_AT] is not None
    ]
    pages.sort(key=_index_of)
    return replace(facts, pages=tuple(pages))


@functools.lru_cache(maxsize=DECODED_MAX)
def _decode_row(row: tuple[object, ...]) -> ObjectFacts:
    """What one row says, with its page where it has one. The same row gives the same record."""
    bucket = decode_bucket(row[:_VERSION_AT])
    if row[_SEQUENCE_AT] is None:
        return ObjectFacts(bucket)
    version = decode_version(row[_VERSION_AT:_PAGE_AT])
    body_id = version.body_id
    if body_id is None or len(row) == _PAGE_AT:
        return ObjectFacts(bucket, version)
    slices = (BodySlice(body_id=body_id, size_bytes=version.size_bytes),)
    pages = (
        ()
        if row[_PAGE_AT] is None
        else (decode_page(body_id, cast("PageRow", tuple(row[_PAGE_AT:]))),)
    )
    return ObjectFacts(bucket, version, slices, pages)


@functools.cache
def render_for_sqlite(*, with_pages: bool) -> str:
    """The one statement as SQLite's driver takes it, its parameters by name."""
    compiled = _make_statement(with_pages=with_pages, is_postgres=False).compile(
        dialect=sqlite.dialect(paramstyle="named"), compile_kwargs={"render_postcompile": True}
    )
    wanted = {"tenant", "bucket_name", "object"} | ({"first", "page_end"} if with_pages else set())
    assert set(compiled.params) == wanted, "a parameter that nobody gives"
    return str(compiled)


@functools.cache
def render_for_postgres(*, with_pages: bool) -> tuple[str, tuple[str, ...]]:
    """The one statement as libpq takes it, and the order of its numbered parameters."""
    compiled = _make_statement(with_pages=with_pages, is_postgres=True).compile(
        dialect=postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
    )
    assert isinstance(compiled, SQLCompiler)
    assert compiled.positiontup is not None
    return str(compiled), tuple(compiled.positiontup)


def _index_of(page: StoredPage) -> int:
    return page.page_index


@functools.cache
def _make_statement(*, with_pages: bool, is_postgres: bool) -> Select[tuple[object, ...]]:
    """The one statement.

    Its row of the newest version is found by the primary key alone. SQLite walks that key backwards
    and stops as soon as it has rows enough: this costs it least. PostgreSQL would sort all versions
    of the key for that, and is asked for the greatest sequence instead.
    """
    of_key = and_(_v.bucket_id == _b.bucket_id, _v.key == bindparam("object", type_=_v.key.type))
    if is_postgres:
        other = tables.versions.alias("other")
        newest = select(func.max(other.c.sequence)).where(
            other.c.bucket_id == _b.bucket_id,
            other.c.key == bindparam("object", type_=_v.key.type),
        )
        of_key = and_(of_key, _v.sequence == newest.correlate(tables.buckets).scalar_subquery())
    found = tables.buckets.outerjoin(tables.versions, of_key)
    columns = [*BUCKET_COLUMNS, *VERSION_COLUMNS]
    if with_pages:
        found = found.outerjoin(
            tables.pages,
            and_(
                _p.body_id == _v.body_id,
                _p.page_index >= bindparam("first", type_=Integer),
                _p.page_index < bindparam("page_end", type_=Integer),
            ),
        )
        columns += PAGE_COLUMNS
    statement = (
        select(*columns)
        .select_from(found)
        .where(_b.tenant_id == bindparam("tenant"), _b.name == bindparam("bucket_name"))
    )
    if is_postgres:
        return statement
    rows_max = literal_column(str(FIRST_PAGES if with_pages else 1), Integer)
    # The offset written out: the dialect would make a parameter of it.
    none = literal_column("0", Integer)
    return statement.order_by(_v.sequence.desc()).limit(rows_max).offset(none)
