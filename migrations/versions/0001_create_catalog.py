"""Create the catalog.

Revision: 0001
After: nothing
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create every table, and the counters at zero."""
    op.create_table(
        "audit",
        sa.Column("audit_id", BIG, nullable=False),
        sa.Column("at_us", BIG, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("audit_id", name="pk_audit"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "bodies",
        sa.Column("body_id", BIG, autoincrement=False, nullable=False),
        sa.Column("tenant_id", BIG, nullable=False),
        sa.Column("size_bytes", BIG, nullable=False),
        sa.Column("reference_count", sa.Integer(), nullable=False),
        sa.Column("died_us", BIG, nullable=True),
        sa.PrimaryKeyConstraint("body_id", name="pk_bodies"),
    )
    op.create_index(
        "ix_bodies_dead",
        "bodies",
        ["body_id", "died_us"],
        unique=False,
        sqlite_where=sa.text("died_us IS NOT NULL"),
        postgresql_where=sa.text("died_us IS NOT NULL"),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", BIG, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counters"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "dead_extents",
        sa.Column("dead_id", BIG, nullable=False),
        sa.Column("volume_id", sa.SmallInteger(), nullable=False),
        sa.Column("segment_id", BIG, nullable=False),
        sa.Column("segment_offset", BIG, nullable=False),
        sa.Column("record_bytes", sa.Integer(), nullable=False),
        sa.Column("died_us", BIG, nullable=False),
        sa.PrimaryKeyConstraint("dead_id", name="pk_dead_extents"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_dead_extents_volume_id_segment_id_segment_offset",
        "dead_extents",
        ["volume_id", "segment_id", "segment_offset"],
        unique=True,
    )
    op.create_table(
        "moves",
        sa.Column("body_id", BIG, nullable=False),
        sa.Column("page_index", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("volume_id", sa.SmallInteger(), nullable=False),
        sa.Column("segment_id", BIG, nullable=False),
        sa.Column("segment_offset", BIG, nullable=False),
        sa.Column("record_bytes", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("started_us", BIG, nullable=False),
        sa.PrimaryKeyConstraint("body_id", "page_index", name="pk_moves"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "settings",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_settings"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tenants",
        sa.Column("tenant_id", BIG, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("canonical_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_us", BIG, nullable=False),
        sa.Column("bytes_max", BIG, nullable=True),
        sa.Column("objects_max", BIG, nullable=True),
        sa.Column("buckets_max", BIG, nullable=True),
        sa.Column("used_bytes", BIG, nullable=False),
        sa.Column("object_count", BIG, nullable=False),
        sa.Column("bucket_count", BIG, nullable=False),
        sa.Column("open_upload_count", BIG, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_tenants"),
        sa.UniqueConstraint("canonical_id", name="uq_tenants_canonical_id"),
        sa.UniqueConstraint("name", name="uq_tenants_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "version_bodies",
        sa.Column("sequence", BIG, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("body_id", BIG, nullable=False),
        sa.Column("size_bytes", BIG, nullable=False),
        sa.Column("part_number", sa.Integer(), nullable=True),
        sa.Column("part_checksum", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("sequence", "ordinal", name="pk_version_bodies"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "volumes",
        sa.Column("volume_id", BIG, autoincrement=False, nullable=False),
        sa.Column("uuid", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("created_us", BIG, nullable=False),
        sa.PrimaryKeyConstraint("volume_id", name="pk_volumes"),
        sa.UniqueConstraint("uuid", name="uq_volumes_uuid"),
    )
    op.create_table(
        "buckets",
        sa.Column("bucket_id", BIG, nullable=False),
        sa.Column("tenant_id", BIG, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("created_us", BIG, nullable=False),
        sa.Column("versioning", sa.Text(), nullable=False),
        sa.Column("bytes_max", BIG, nullable=True),
        sa.Column("objects_max", BIG, nullable=True),
        sa.Column("used_bytes", BIG, nullable=False),
        sa.Column("object_count", BIG, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name="fk_buckets_tenant_id_tenants"
        ),
        sa.PrimaryKeyConstraint("bucket_id", name="pk_buckets"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_buckets_tenant_id_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "pages",
        sa.Column("body_id", BIG, nullable=False),
        sa.Column("page_index", sa.Integer(), nullable=False),
        sa.Column("payload_bytes", sa.Integer(), nullable=False),
        sa.Column("blake3", sa.LargeBinary(), nullable=False),
        sa.Column("volume_id", sa.SmallInteger(), nullable=False),
        sa.Column("segment_id", BIG, nullable=False),
        sa.Column("segment_offset", BIG, nullable=False),
        sa.Column("record_bytes", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["body_id"], ["bodies.body_id"], name="fk_pages_body_id_bodies"),
        sa.PrimaryKeyConstraint("body_id", "page_index", name="pk_pages"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_pages_volume_id_segment_id_segment_offset",
        "pages",
        ["volume_id", "segment_id", "segment_offset"],
        unique=True,
    )
    op.create_table(
        "users",
        sa.Column("user_id", BIG, nullable=False),
        sa.Column("tenant_id", BIG, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("created_us", BIG, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name="fk_users_tenant_id_tenants"
        ),
        sa.PrimaryKeyConstraint("user_id", name="pk_users"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_users_tenant_id_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "access_keys",
        sa.Column("access_key_id", NAME, nullable=False),
        sa.Column("tenant_id", BIG, nullable=False),
        sa.Column("user_id", BIG, nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("bucket_scope", sa.Text(), nullable=True),
        sa.Column("prefix_scope", sa.LargeBinary(), nullable=True),
        sa.Column("expires_us", BIG, nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_us", BIG, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name="fk_access_keys_tenant_id_tenants"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.user_id"], name="fk_access_keys_user_id_users"
        ),
        sa.PrimaryKeyConstraint("access_key_id", name="pk_access_keys"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_access_keys_tenant_id_access_key_id",
        "access_keys",
        ["tenant_id", "access_key_id"],
        unique=False,
    )
    op.create_index("ix_access_keys_user_id", "access_keys", ["user_id"], unique=False)
    op.create_table(
        "bucket_aliases",
        sa.Column("alias", NAME, nullable=False),
        sa.Column("bucket_id", BIG, nullable=False),
        sa.ForeignKeyConstraint(
            ["bucket_id"], ["buckets.bucket_id"], name="fk_bucket_aliases_bucket_id_buckets"
        ),
        sa.PrimaryKeyConstraint("alias", name="pk_bucket_aliases"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_bucket_aliases_bucket_id", "bucket_aliases", ["bucket_id"], unique=False)
    op.create_table(
        "page_shadows",
        sa.Column("body_id", BIG, nullable=False),
        sa.Column("page_index", sa.Integer(), nullable=False),
        sa.Column("volume_id", sa.SmallInteger(), nullable=False),
        sa.Column("segment_id", BIG, nullable=False),
        sa.Column("segment_offset", BIG, nullable=False),
        sa.Column("record_bytes", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["body_id", "page_index"],
            ["pages.body_id", "pages.page_index"],
            name="fk_page_shadows_body_id_page_index_pages",
        ),
        sa.PrimaryKeyConstraint("body_id", "page_index", name="pk_page_shadows"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_page_shadows_volume_id_segment_id_segment_offset",
        "page_shadows",
        ["volume_id", "segment_id", "segment_offset"],
        unique=True,
    )
    op.create_table(
        "uploads",
        sa.Column("upload_number", BIG, nullable=False),
        sa.Column("upload_id", NAME, nullable=False),
        sa.Column("tenant_id", BIG, nullable=False),
        sa.Column("bucket_id", BIG, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("initiated_us", BIG, nullable=False),
        sa.Column("initiator", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=True),
        sa.Column("checksum_algorithm", sa.Text(), nullable=True),
        sa.Column("checksum_type", sa.Text(), nullable=True),
        sa.Column("completed_us", BIG, nullable=True),
        sa.Column("completed_parts", sa.LargeBinary(), nullable=True),
        sa.Column("completed_result", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["bucket_id"], ["buckets.bucket_id"], name="fk_uploads_bucket_id_buckets"
        ),
        sa.PrimaryKeyConstraint("upload_number", name="pk_uploads"),
        sa.UniqueConstraint(
            "bucket_id", "key", "upload_id", name="uq_uploads_bucket_id_key_upload_id"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_uploads_completed",
        "uploads",
        ["completed_us"],
        unique=False,
        sqlite_where=sa.text("completed_us IS NOT NULL"),
        postgresql_where=sa.text("completed_us IS NOT NULL"),
    )
    op.create_table(
        "versions",
        sa.Column("bucket_id", BIG, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("sequence", BIG, nullable=False),
        sa.Column("is_current", sa.Boolean(), nullable=False),
        sa.Column("is_delete_marker", sa.Boolean(), nullable=False),
        sa.Column("is_null_version", sa.Boolean(), nullable=False),
        sa.Column("size_bytes", BIG, nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("modified_us", BIG, nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=True),
        sa.Column("checksum_algorithm", sa.Text(), nullable=True),
        sa.Column("checksum_value", sa.Text(), nullable=True),
        sa.Column("checksum_type", sa.Text(), nullable=True),
        sa.Column("body_id", BIG, nullable=True),
        sa.Column("part_count", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["bucket_id"], ["buckets.bucket_id"], name="fk_versions_bucket_id_buckets"
        ),
        sa.PrimaryKeyConstraint("bucket_id", "key", "sequence", name="pk_versions"),
        sa.UniqueConstraint("sequence", name="uq_versions_sequence"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_versions_buried_null",
        "versions",
        ["bucket_id", "key"],
        unique=True,
        sqlite_where=sa.text("is_null_version = 1 AND is_current = 0"),
        postgresql_where=sa.text("is_null_version AND NOT is_current"),
    )
    op.create_index(
        "ix_versions_listed",
        "versions",
        ["bucket_id", "key"],
        unique=False,
        sqlite_where=sa.text("is_current = 1 AND is_delete_marker = 0"),
        postgresql_where=sa.text("is_current AND NOT is_delete_marker"),
    )
    op.create_table(
        "parts",
        sa.Column("upload_number", BIG, nullable=False),
        sa.Column("part_number", sa.Integer(), nullable=False),
        sa.Column("size_bytes", BIG, nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("checksum_algorithm", sa.Text(), nullable=True),
        sa.Column("checksum_value", sa.Text(), nullable=True),
        sa.Column("checksum_type", sa.Text(), nullable=True),
        sa.Column("modified_us", BIG, nullable=False),
        sa.ForeignKeyConstraint(
            ["upload_number"], ["uploads.upload_number"], name="fk_parts_upload_number_uploads"
        ),
        sa.PrimaryKeyConstraint("upload_number", "part_number", name="pk_parts"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "part_bodies",
        sa.Column("upload_number", BIG, nullable=False),
        sa.Column("part_number", sa.Integer(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("body_id", BIG, nullable=False),
        sa.Column("size_bytes", BIG, nullable=False),
        sa.ForeignKeyConstraint(
            ["upload_number", "part_number"],
            ["parts.upload_number", "parts.part_number"],
            name="fk_part_bodies_upload_number_part_number_parts",
        ),
        sa.PrimaryKeyConstraint("upload_number", "part_number", "ordinal", name="pk_part_bodies"),
        sqlite_with_rowid=False,
    )
    counters = sa.table("counters", sa.column("name", sa.Text()), sa.column("value", BIG))
    op.bulk_insert(
        counters,
        [
            {"name": "boot_epoch", "value": 0},
            {"name": "keyring_revision", "value": 0},
            {"name": "version_sequence", "value": 0},
        ],
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            sa.schema.CreateSequence(sa.Sequence("version_sequence", data_type=sa.BigInteger()))
        )


def downgrade() -> None:
    """Drop every table, and with them everything the catalog knows."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(sa.schema.DropSequence(sa.Sequence("version_sequence")))

    op.drop_table("part_bodies")
    op.drop_table("parts")
    op.drop_index("ix_versions_listed", table_name="versions")
    op.drop_index("ix_versions_buried_null", table_name="versions")
    op.drop_table("versions")
    op.drop_index("ix_uploads_completed", table_name="uploads")
    op.drop_table("uploads")
    op.drop_index("ix_page_shadows_volume_id_segment_id_segment_offset", table_name="page_shadows")
    op.drop_table("page_shadows")
    op.drop_index("ix_bucket_aliases_bucket_id", table_name="bucket_aliases")
    op.drop_table("bucket_aliases")
    op.drop_index("ix_access_keys_user_id", table_name="access_keys")
    op.drop_index("ix_access_keys_tenant_id_access_key_id", table_name="access_keys")
    op.drop_table("access_keys")
    op.drop_table("users")
    op.drop_index("ix_pages_volume_id_segment_id_segment_offset", table_name="pages")
    op.drop_table("pages")
    op.drop_table("buckets")
    op.drop_table("volumes")
    op.drop_table("version_bodies")
    op.drop_table("tenants")
    op.drop_table("settings")
    op.drop_table("moves")
    op.drop_index(
        "ix_dead_extents_volume_id_segment_id_segment_offset", table_name="dead_extents"
    )
    op.drop_table("dead_extents")
    op.drop_table("counters")
    op.drop_index("ix_bodies_dead", table_name="bodies")
    op.drop_table("bodies")
    op.drop_table("audit")
