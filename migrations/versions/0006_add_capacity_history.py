"""Keep samples of capacity and what tenants used a month, and find the owner of a manifest.

Revision: 0006
After: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables, empty: history and counts begin now."""
    op.create_table(
        "volume_samples",
        sa.Column("at_us", BIG, autoincrement=False, nullable=False),
        sa.Column("volume_id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("total_bytes", BIG, nullable=False),
        sa.Column("free_bytes", BIG, nullable=False),
        sa.Column("live_bytes", BIG, nullable=False),
        sa.Column("shadow_bytes", BIG, nullable=False),
        sa.Column("dead_bytes", BIG, nullable=False),
        sa.PrimaryKeyConstraint("at_us", "volume_id", name="pk_volume_samples"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tenant_samples",
        sa.Column("at_us", BIG, autoincrement=False, nullable=False),
        sa.Column("tenant_id", BIG, nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("logical_bytes", BIG, nullable=False),
        sa.Column("physical_bytes", BIG, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name="fk_tenant_samples_tenant_id_tenants"
        ),
        sa.PrimaryKeyConstraint("at_us", "tenant_id", "tier", name="pk_tenant_samples"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_tenant_samples_tenant_id", "tenant_samples", ["tenant_id"])
    op.create_table(
        "usage_months",
        sa.Column("tenant_id", BIG, nullable=False),
        sa.Column("month", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reads", BIG, nullable=False),
        sa.Column("writes", BIG, nullable=False),
        sa.Column("lists", BIG, nullable=False),
        sa.Column("deletes", BIG, nullable=False),
        sa.Column("received_bytes", BIG, nullable=False),
        sa.Column("sent_bytes", BIG, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name="fk_usage_months_tenant_id_tenants"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "month", name="pk_usage_months"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage_stored",
        sa.Column("tenant_id", BIG, nullable=False),
        sa.Column("month", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("byte_hours", BIG, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name="fk_usage_stored_tenant_id_tenants"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "month", "tier", name="pk_usage_stored"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_versions_manifest_body_id",
        "versions",
        ["manifest_body_id"],
        sqlite_where=sa.text("manifest_body_id IS NOT NULL"),
        postgresql_where=sa.text("manifest_body_id IS NOT NULL"),
    )
    op.execute("INSERT INTO counters (name, value) VALUES ('capacity_sampled', 0)")
    op.execute("INSERT INTO counters (name, value) VALUES ('usage_counted_since', 0)")


def downgrade() -> None:
    """Forget history and counts: an older program keeps none."""
    op.execute("DELETE FROM counters WHERE name IN ('capacity_sampled', 'usage_counted_since')")
    op.drop_index("ix_versions_manifest_body_id", table_name="versions")
    op.drop_table("usage_stored")
    op.drop_table("usage_months")
    op.drop_table("tenant_samples")
    op.drop_table("volume_samples")
