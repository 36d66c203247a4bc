"""Keep the revisions of the policy and of its overlays.

Revision: 0004
After: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table, empty: the default policy is in force."""
    op.create_table(
        "policy_revisions",
        sa.Column("revision", BIG, nullable=False),
        sa.Column("tenant_id", BIG, nullable=True),
        sa.Column("blake3", sa.LargeBinary(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_us", BIG, nullable=False),
        sa.Column("is_active", sa.Boolean(create_constraint=False), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name="fk_policy_revisions_tenant_id_tenants"
        ),
        sa.PrimaryKeyConstraint("revision", name="pk_policy_revisions"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_policy_revisions_tenant_id_revision", "policy_revisions", ["tenant_id", "revision"]
    )
    op.create_index(
        "ix_policy_revisions_policy",
        "policy_revisions",
        ["is_active"],
        unique=True,
        sqlite_where=sa.text("is_active IS 1 AND tenant_id IS NULL"),
        postgresql_where=sa.text("is_active IS true AND tenant_id IS NULL"),
    )
    op.create_index(
        "ix_policy_revisions_overlay",
        "policy_revisions",
        ["tenant_id"],
        unique=True,
        sqlite_where=sa.text("is_active IS 1 AND tenant_id IS NOT NULL"),
        postgresql_where=sa.text("is_active IS true AND tenant_id IS NOT NULL"),
    )
    op.execute("INSERT INTO counters (name, value) VALUES ('policy_changes', 0)")


def downgrade() -> None:
    """Drop the table: an older program knows the default policy only."""
    op.execute("DELETE FROM counters WHERE name = 'policy_changes'")
    op.drop_table("policy_revisions")
