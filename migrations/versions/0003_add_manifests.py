"""Let versions and buckets name the manifests that state them in the segments.

Revision: 0003
After: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_LET_GO = """
    UPDATE bodies SET reference_count = 0, died_us = 0
    WHERE body_id IN (
        SELECT manifest_body_id FROM versions WHERE manifest_body_id IS NOT NULL
        UNION ALL
        SELECT manifest_body_id FROM buckets WHERE manifest_body_id IS NOT NULL
    )
"""


def upgrade() -> None:
    """Add the columns, empty: what is there already has no manifest until it changes."""
    op.add_column("versions", sa.Column("manifest_body_id", BIG, nullable=True))
    op.add_column("versions", sa.Column("origin_id", BIG, nullable=True))
    op.add_column("buckets", sa.Column("manifest_body_id", BIG, nullable=True))


def downgrade() -> None:
    """Drop the columns; the manifests die, since nobody would refer to them any more."""
    op.execute(_LET_GO)
    op.drop_column("buckets", "manifest_body_id")
    op.drop_column("versions", "origin_id")
    op.drop_column("versions", "manifest_body_id")
