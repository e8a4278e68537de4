"""A change says for which reasons its address is suppressed after it; those of before do not know."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("changes", sa.Column("reasons", sa.Text))


def downgrade() -> None:
    op.drop_column("changes", "reasons")
