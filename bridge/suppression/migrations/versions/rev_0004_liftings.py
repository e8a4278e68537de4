"""When a person has taken an address off the list, and for which reason: so that no older event puts it back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "liftings",
        sa.Column("address", key, nullable=False),
        sa.Column("reason", key, nullable=False),
        sa.Column("lifted_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("address", "reason", name="pk_liftings"),
        sqlite_with_rowid=False,
    )
    # Only persons have ever removed anything.
    op.execute(
        "INSERT INTO liftings (address, reason, lifted_at) "
        "SELECT address, reason, max(at) FROM changes WHERE action = 'removed' GROUP BY address, reason"
    )


def downgrade() -> None:
    op.drop_table("liftings")
