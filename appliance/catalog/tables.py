"""The catalog's tables, the same on SQLite and PostgreSQL.

`metadata` is what the migrations are compared with; they are written out all the same. What
holds for every table:

- Keys of objects are bytes, so that both databases sort them as S3 lists them.
- Times are integer microseconds, sizes bytes, ids of our own making 63-bit integers.
- On SQLite a table whose primary key is the order it is read in is `WITHOUT ROWID`.
- No foreign key points at `bodies` from a side without an index on it: removing a body must not
  scan a table of 10^8 rows. `appliance.catalog.check` compares reference counts instead.

A small PUT is three rows: one of `versions`, one of `bodies`, one of `pages`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    and_,
)

__all__ = [
    "access_keys",
    "audit",
    "bodies",
    "bucket_aliases",
    "buckets",
    "counters",
    "dead_extents",
    "metadata",
    "page_moves",
    "page_shadows",
    "pages",
    "part_bodies",
    "parts",
    "policy_revisions",
    "quarantined_pages",
    "scrub_passes",
    "settings",
    "tenant_samples",
    "tenants",
    "uploads",
    "usage_months",
    "usage_stored",
    "users",
    "version_bodies",
    "version_sequence",
    "versions",
    "volume_samples",
    "volumes",
    "workers",
]

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# INTEGER is 64 bits on SQLite, and only a column of that very type is the row id itself.
_BIG = BigInteger().with_variant(Integer(), "sqlite")
# Names sort by code point on both databases, whatever collation the server was set up with.
_NAME = Text().with_variant(Text(collation="C"), "postgresql")

version_sequence = Sequence("version_sequence", metadata=metadata, data_type=BigInteger())
"""PostgreSQL only; SQLite has a row of `counters`."""

settings = Table(
    "settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)

counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", _BIG, nullable=False),
    sqlite_with_rowid=False,
)

# The server processes that may commit: `appliance.catalog.workers` says what a row means.
workers = Table(
    "workers",
    metadata,
    Column("epoch", _BIG, primary_key=True, autoincrement=False),
    Column("worker_uuid", Text, nullable=False, unique=True),
    Column("started_us", _BIG, nullable=False),
    Column("lease_until_us", _BIG),
    Column("reading_since_us", _BIG, nullable=False),
    Column("commit_mark", _BIG, nullable=False),
    sqlite_with_rowid=False,
)

tenants = Table(
    "tenants",
    metadata,
    Column("tenant_id", _BIG, primary_key=True),
    Column("name", _NAME, nullable=False, unique=True),
    Column("canonical_id", Text, nullable=False, unique=True),
    Column("state", Text, nullable=False),
    Column("created_us", _BIG, nullable=False),
    Column("bytes_max", _BIG),
    Column("objects_max", _BIG),
    Column("buckets_max", _BIG),
    Column("used_bytes", _BIG, nullable=False),
    Column("object_count", _BIG, nullable=False),
    Column("bucket_count", _BIG, nullable=False),
    Column("open_upload_count", _BIG, nullable=False),
    sqlite_autoincrement=True,  # a tenant's id is never used again: records on volumes carry it
)

users = Table(
    "users",
    metadata,
    Column("user_id", _BIG, primary_key=True),
    Column("tenant_id", _BIG, ForeignKey(tenants.c.tenant_id), nullable=False),
    Column("name", _NAME, nullable=False),
    Column("created_us", _BIG, nullable=False),
    UniqueConstraint("tenant_id", "name"),
    sqlite_autoincrement=True,
)

access_keys = Table(
    "access_keys",
    metadata,
    Column("access_key_id", _NAME, primary_key=True),
    Column("tenant_id", _BIG, ForeignKey(tenants.c.tenant_id), nullable=False),
    Column("user_id", _BIG, ForeignKey(users.c.user_id), nullable=False, index=True),
    Column("sealed_secret", LargeBinary, nullable=False),
    Column("role", Text, nullable=False),
    Column("bucket_scope", Text),
    Column("prefix_scope", LargeBinary),
    Column("expires_us", _BIG),
    Column("enabled", Boolean(create_constraint=False), nullable=False),
    Column("created_us", _BIG, nullable=False),
    Index(None, "tenant_id", "access_key_id"),
    sqlite_with_rowid=False,
)

buckets = Table(
    "buckets",
    metadata,
    Column("bucket_id", _BIG, primary_key=True),
    Column("tenant_id", _BIG, ForeignKey(tenants.c.tenant_id), nullable=False),
    Column("name", _NAME, nullable=False),
    Column("created_us", _BIG, nullable=False),
    Column("versioning", Text, nullable=False),
    Column("bytes_max", _BIG),
    Column("objects_max", _BIG),
    Column("used_bytes", _BIG, nullable=False),
    Column("object_count", _BIG, nullable=False),
    Column("manifest_body_id", _BIG),
    UniqueConstraint("tenant_id", "name"),
    sqlite_autoincrement=True,
)

bucket_aliases = Table(
    "bucket_aliases",
    metadata,
    Column("alias", _NAME, primary_key=True),
    Column("bucket_id", _BIG, ForeignKey(buckets.c.bucket_id), nullable=False, index=True),
    sqlite_with_rowid=False,
)

volumes = Table(
    "volumes",
    metadata,
    Column("volume_id", _BIG, primary_key=True, autoincrement=False),
    Column("uuid", Text, nullable=False, unique=True),
    Column("tier", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("created_us", _BIG, nullable=False),
    Column("state", Text, nullable=False, server_default="active"),
)

versions = Table(
    "versions",
    metadata,
    Column("bucket_id", _BIG, ForeignKey(buckets.c.bucket_id), primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("sequence", _BIG, primary_key=True),
    Column("is_current", Boolean(create_constraint=False), nullable=False),
    Column("is_delete_marker", Boolean(create_constraint=False), nullable=False),
    Column("is_null_version", Boolean(create_constraint=False), nullable=False),
    Column("size_bytes", _BIG, nullable=False),
    Column("etag", Text, nullable=False),
    Column("modified_us", _BIG, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("attributes", Text),
    Column("checksum_algorithm", Text),
    Column("checksum_value", Text),
    Column("checksum_type", Text),
    Column("body_id", _BIG),
    Column("part_count", Integer),
    Column("manifest_body_id", _BIG),
    Column("origin_id", _BIG),
    UniqueConstraint("sequence"),
    sqlite_with_rowid=False,
)
# What ListObjects walks: a key whose newest version is a marker, and old versions, cost it nothing.
Index(
    "ix_versions_listed",
    versions.c.bucket_id,
    versions.c.key,
    sqlite_where=and_(versions.c.is_current, ~versions.c.is_delete_marker),
    postgresql_where=and_(versions.c.is_current, ~versions.c.is_delete_marker),
)
# A null version under newer ones; the newest version is found without it.
Index(
    "ix_versions_buried_null",
    versions.c.bucket_id,
    versions.c.key,
    unique=True,
    sqlite_where=and_(versions.c.is_null_version, ~versions.c.is_current),
    postgresql_where=and_(versions.c.is_null_version, ~versions.c.is_current),
)
# Of what has no bytes of its own; reports tell it apart from what a tenant stored.
Index(
    "ix_versions_manifest_body_id",
    versions.c.manifest_body_id,
    sqlite_where=versions.c.manifest_body_id.is_not(None),
    postgresql_where=versions.c.manifest_body_id.is_not(None),
)
# From a page to its owner: moves, plans and reports ask the policy about a body's object.
Index(
    "ix_versions_body_id",
    versions.c.body_id,
    sqlite_where=versions.c.body_id.is_not(None),
    postgresql_where=versions.c.body_id.is_not(None),
)

version_bodies = Table(
    "version_bodies",
    metadata,
    Column("sequence", _BIG, primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("body_id", _BIG, nullable=False),
    Column("size_bytes", _BIG, nullable=False),
    Column("part_number", Integer),
    Column("part_checksum", Text),
    Index(None, "body_id"),
    sqlite_with_rowid=False,
)

bodies = Table(
    "bodies",
    metadata,
    Column("body_id", _BIG, primary_key=True, autoincrement=False),
    Column("tenant_id", _BIG, nullable=False),
    Column("size_bytes", _BIG, nullable=False),
    Column("reference_count", Integer, nullable=False),
    Column("died_us", _BIG),
)
Index(
    "ix_bodies_dead",
    bodies.c.body_id,
    bodies.c.died_us,
    sqlite_where=bodies.c.died_us.is_not(None),
    postgresql_where=bodies.c.died_us.is_not(None),
)

pages = Table(
    "pages",
    metadata,
    Column("body_id", _BIG, ForeignKey(bodies.c.body_id), primary_key=True),
    Column("page_index", Integer, primary_key=True),
    Column("payload_bytes", Integer, nullable=False),
    Column("blake3", LargeBinary, nullable=False),
    Column("volume_id", SmallInteger, nullable=False),
    Column("segment_id", _BIG, nullable=False),
    Column("segment_offset", _BIG, nullable=False),
    Column("record_bytes", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Index(None, "volume_id", "segment_id", "segment_offset", unique=True),
    sqlite_with_rowid=False,
)

page_shadows = Table(
    "page_shadows",
    metadata,
    Column("body_id", _BIG, primary_key=True),
    Column("page_index", Integer, primary_key=True),
    Column("volume_id", SmallInteger, nullable=False),
    Column("segment_id", _BIG, nullable=False),
    Column("segment_offset", _BIG, nullable=False),
    Column("record_bytes", Integer, nullable=False),
    ForeignKeyConstraint(["body_id", "page_index"], [pages.c.body_id, pages.c.page_index]),
    Index(None, "volume_id", "segment_id", "segment_offset", unique=True),
    sqlite_with_rowid=False,
)

uploads = Table(
    "uploads",
    metadata,
    Column("upload_number", _BIG, primary_key=True),
    Column("upload_id", _NAME, nullable=False),
    Column("tenant_id", _BIG, nullable=False),
    Column("bucket_id", _BIG, ForeignKey(buckets.c.bucket_id), nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("initiated_us", _BIG, nullable=False),
    Column("initiator", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("attributes", Text),
    Column("checksum_algorithm", Text),
    Column("checksum_type", Text),
    Column("completed_us", _BIG),
    Column("completed_parts", LargeBinary),
    Column("completed_result", Text),
    UniqueConstraint("bucket_id", "key", "upload_id"),
    sqlite_autoincrement=True,
)
Index(
    "ix_uploads_completed",
    uploads.c.completed_us,
    sqlite_where=uploads.c.completed_us.is_not(None),
    postgresql_where=uploads.c.completed_us.is_not(None),
)

parts = Table(
    "parts",
    metadata,
    Column("upload_number", _BIG, ForeignKey(uploads.c.upload_number), primary_key=True),
    Column("part_number", Integer, primary_key=True),
    Column("size_bytes", _BIG, nullable=False),
    Column("etag", Text, nullable=False),
    Column("checksum_algorithm", Text),
    Column("checksum_value", Text),
    Column("checksum_type", Text),
    Column("modified_us", _BIG, nullable=False),
    sqlite_with_rowid=False,
)

part_bodies = Table(
    "part_bodies",
    metadata,
    Column("upload_number", _BIG, primary_key=True),
    Column("part_number", Integer, primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("body_id", _BIG, nullable=False),
    Column("size_bytes", _BIG, nullable=False),
    ForeignKeyConstraint(
        ["upload_number", "part_number"], [parts.c.upload_number, parts.c.part_number]
    ),
    Index(None, "body_id"),
    sqlite_with_rowid=False,
)

dead_extents = Table(
    "dead_extents",
    metadata,
    Column("dead_id", _BIG, primary_key=True),
    Column("volume_id", SmallInteger, nullable=False),
    Column("segment_id", _BIG, nullable=False),
    Column("segment_offset", _BIG, nullable=False),
    Column("record_bytes", Integer, nullable=False),
    Column("died_us", _BIG, nullable=False),
    Index(None, "volume_id", "segment_id", "segment_offset", unique=True),
    sqlite_autoincrement=True,
)

# The journal of moves: for people, reports, and the look at what moved last after an unclean end.
# No page depends on it, and it is pruned by age.
page_moves = Table(
    "page_moves",
    metadata,
    Column("move_id", _BIG, primary_key=True),
    Column("body_id", _BIG, nullable=False),
    Column("page_index", Integer, nullable=False),
    Column("action", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("plan", Text),
    Column("from_volume", SmallInteger, nullable=False),
    Column("to_volume", SmallInteger, nullable=False),
    Column("record_bytes", Integer, nullable=False),
    Column("at_us", _BIG, nullable=False),
    Index(None, "body_id", "page_index"),
    Index(None, "at_us"),
    sqlite_autoincrement=True,
)

# No key to `pages`: reclaim forgets a page without asking here, and the scrub prunes what is left.
quarantined_pages = Table(
    "quarantined_pages",
    metadata,
    Column("body_id", _BIG, primary_key=True),
    Column("page_index", Integer, primary_key=True),
    Column("volume_id", SmallInteger, nullable=False),
    Column("segment_id", _BIG, nullable=False),
    Column("segment_offset", _BIG, nullable=False),
    Column("is_readable", Boolean(create_constraint=False), nullable=False),
    Column("reason", Text, nullable=False),
    Column("found_us", _BIG, nullable=False),
    sqlite_with_rowid=False,
)

scrub_passes = Table(
    "scrub_passes",
    metadata,
    Column("volume_id", _BIG, primary_key=True, autoincrement=False),
    Column("number", _BIG, nullable=False),
    Column("is_running", Boolean(create_constraint=False), nullable=False),
    Column("is_urgent", Boolean(create_constraint=False), nullable=False),
    Column("segment_id", _BIG, nullable=False),
    Column("segment_offset", _BIG, nullable=False),
    Column("started_us", _BIG, nullable=False),
    Column("done_pages", _BIG, nullable=False),
    Column("done_bytes", _BIG, nullable=False),
    Column("bad_pages", _BIG, nullable=False),
    Column("last_started_us", _BIG),
    Column("last_ended_us", _BIG),
    Column("last_bytes", _BIG, nullable=False),
)

# The policy where no tenant is named, else that tenant's overlay; at most one of each is active.
policy_revisions = Table(
    "policy_revisions",
    metadata,
    Column("revision", _BIG, primary_key=True),
    Column("tenant_id", _BIG, ForeignKey(tenants.c.tenant_id)),
    Column("blake3", LargeBinary, nullable=False),
    Column("source", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("created_us", _BIG, nullable=False),
    Column("is_active", Boolean(create_constraint=False), nullable=False),
    Index(None, "tenant_id", "revision"),
    sqlite_autoincrement=True,  # a number that was shown to somebody names one text for ever
)
_active_policy = and_(
    policy_revisions.c.is_active.is_(True), policy_revisions.c.tenant_id.is_(None)
)
Index(
    "ix_policy_revisions_policy",
    policy_revisions.c.is_active,
    unique=True,
    sqlite_where=_active_policy,
    postgresql_where=_active_policy,
)
_active_overlay = and_(
    policy_revisions.c.is_active.is_(True), policy_revisions.c.tenant_id.is_not(None)
)
Index(
    "ix_policy_revisions_overlay",
    policy_revisions.c.tenant_id,
    unique=True,
    sqlite_where=_active_overlay,
    postgresql_where=_active_overlay,
)

# What capacity reports know of the past: one sample an hour, later one a day. All rows of a sample
# have the same moment, by which they are read and thinned out.
volume_samples = Table(
    "volume_samples",
    metadata,
    Column("at_us", _BIG, primary_key=True, autoincrement=False),
    Column("volume_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("tier", Text, nullable=False),
    Column("total_bytes", _BIG, nullable=False),
    Column("free_bytes", _BIG, nullable=False),
    Column("live_bytes", _BIG, nullable=False),
    Column("shadow_bytes", _BIG, nullable=False),
    Column("dead_bytes", _BIG, nullable=False),
    sqlite_with_rowid=False,
)

tenant_samples = Table(
    "tenant_samples",
    metadata,
    Column("at_us", _BIG, primary_key=True, autoincrement=False),
    Column("tenant_id", _BIG, ForeignKey(tenants.c.tenant_id), primary_key=True),
    Column("tier", Text, primary_key=True),
    Column("logical_bytes", _BIG, nullable=False),
    Column("physical_bytes", _BIG, nullable=False),
    Index(None, "tenant_id"),
    sqlite_with_rowid=False,
)

# For bills: what a tenant asked for in a month (as 202611), and what it kept on a tier.
usage_months = Table(
    "usage_months",
    metadata,
    Column("tenant_id", _BIG, ForeignKey(tenants.c.tenant_id), primary_key=True),
    Column("month", Integer, primary_key=True, autoincrement=False),
    Column("reads", _BIG, nullable=False),
    Column("writes", _BIG, nullable=False),
    Column("lists", _BIG, nullable=False),
    Column("deletes", _BIG, nullable=False),
    Column("received_bytes", _BIG, nullable=False),
    Column("sent_bytes", _BIG, nullable=False),
    sqlite_with_rowid=False,
)

usage_stored = Table(
    "usage_stored",
    metadata,
    Column("tenant_id", _BIG, ForeignKey(tenants.c.tenant_id), primary_key=True),
    Column("month", Integer, primary_key=True, autoincrement=False),
    Column("tier", Text, primary_key=True),
    Column("byte_hours", _BIG, nullable=False),
    sqlite_with_rowid=False,
)

audit = Table(
    "audit",
    metadata,
    Column("audit_id", _BIG, primary_key=True),
    Column("at_us", _BIG, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("detail", Text, nullable=False),
    sqlite_autoincrement=True,
)
