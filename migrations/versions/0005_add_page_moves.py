"""Keep a journal of moves, and find the owner of a body.

Revision: 0005
After: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Put the journal in the place of a table that nothing ever wrote to, and index bodies."""
    op.drop_table("moves")
    op.create_table(
        "page_moves",
        sa.Column("move_id", BIG, nullable=False),
        sa.Column("body_id", BIG, nullable=False),
        sa.Column("page_index", sa.Integer(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=True),
        sa.Column("from_volume", sa.SmallInteger(), nullable=False),
        sa.Column("to_volume", sa.SmallInteger(), nullable=False),
        sa.Column("record_bytes", sa.Integer(), nullable=False),
        sa.Column("at_us", BIG, nullable=False),
        sa.PrimaryKeyConstraint("move_id", name="pk_page_moves"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_page_moves_body_id_page_index", "page_moves", ["body_id", "page_index"])
    op.create_index("ix_page_moves_at_us", "page_moves", ["at_us"])
    op.create_index(
        "ix_versions_body_id",
        "versions",
        ["body_id"],
        sqlite_where=sa.text("body_id IS NOT NULL"),
        postgresql_where=sa.text("body_id IS NOT NULL"),
    )
    op.create_index("ix_version_bodies_body_id", "version_bodies", ["body_id"])
    op.create_index("ix_part_bodies_body_id", "part_bodies", ["body_id"])


def downgrade() -> None:
    """Forget the journal and give up shadows, which an older program does not know to free."""
    op.execute(
        "INSERT INTO dead_extents (volume_id, segment_id, segment_offset, record_bytes, died_us)"
        " SELECT volume_id, segment_id, segment_offset, record_bytes, 0 FROM page_shadows"
    )
    op.execute("DELETE FROM page_shadows")
    op.drop_index("ix_part_bodies_body_id", table_name="part_bodies")
    op.drop_index("ix_version_bodies_body_id", table_name="version_bodies")
    op.drop_index("ix_versions_body_id", table_name="versions")
    op.drop_table("page_moves")
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
