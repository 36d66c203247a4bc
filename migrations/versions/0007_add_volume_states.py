"""Let a volume be emptied and taken out.

Revision: 0007
After: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every volume there is takes part."""
    op.add_column("volumes", sa.Column("state", sa.Text(), server_default="active", nullable=False))


def downgrade() -> None:
    """Forget volumes that were taken out; those that are emptied take part again."""
    op.execute("DELETE FROM volumes WHERE state = 'removed'")
    op.drop_column("volumes", "state")
