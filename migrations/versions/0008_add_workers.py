"""Let server processes share a catalog: a row for each that may commit.

Revision: 0008
After: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Nobody is at work while a schema changes, so the table begins empty."""
    op.create_table(
        "workers",
        sa.Column("epoch", BIG, nullable=False, autoincrement=False),
        sa.Column("worker_uuid", sa.Text(), nullable=False),
        sa.Column("started_us", BIG, nullable=False),
        sa.Column("lease_until_us", BIG, nullable=True),
        sa.Column("reading_since_us", BIG, nullable=False),
        sa.Column("commit_mark", BIG, nullable=False),
        sa.PrimaryKeyConstraint("epoch", name="pk_workers"),
        sa.UniqueConstraint("worker_uuid", name="uq_workers_worker_uuid"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Forget who was at work; an older program asks nobody."""
    op.drop_table("workers")
