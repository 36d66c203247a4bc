"""Add the scrub's cursors and the pages that it set aside.

Revision: 0002
After: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create both tables, empty: every volume's first pass is due."""
    op.create_table(
        "quarantined_pages",
        sa.Column("body_id", BIG, nullable=False),
        sa.Column("page_index", sa.Integer(), nullable=False),
        sa.Column("volume_id", sa.SmallInteger(), nullable=False),
        sa.Column("segment_id", BIG, nullable=False),
        sa.Column("segment_offset", BIG, nullable=False),
        sa.Column("is_readable", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("found_us", BIG, nullable=False),
        sa.PrimaryKeyConstraint("body_id", "page_index", name="pk_quarantined_pages"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "scrub_passes",
        sa.Column("volume_id", BIG, autoincrement=False, nullable=False),
        sa.Column("number", BIG, nullable=False),
        sa.Column("is_running", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("is_urgent", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("segment_id", BIG, nullable=False),
        sa.Column("segment_offset", BIG, nullable=False),
        sa.Column("started_us", BIG, nullable=False),
        sa.Column("done_pages", BIG, nullable=False),
        sa.Column("done_bytes", BIG, nullable=False),
        sa.Column("bad_pages", BIG, nullable=False),
        sa.Column("last_started_us", BIG, nullable=True),
        sa.Column("last_ended_us", BIG, nullable=True),
        sa.Column("last_bytes", BIG, nullable=False),
        sa.PrimaryKeyConstraint("volume_id", name="pk_scrub_passes"),
    )


def downgrade() -> None:
    """Drop both: what was found bad is found again by a next pass."""
    op.drop_table("scrub_passes")
    op.drop_table("quarantined_pages")
