"""Subscribers that are registered beside the settings', the trace of a change, and a hash index for checks on PostgreSQL."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.add_column("changes", sa.Column("trace", sa.Text))
    op.create_table(
        "subscribers",
        sa.Column("queue", key, primary_key=True),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("added_at", sa.BigInteger, nullable=False),
        sa.Column("added_by", sa.Text, nullable=False),
        sa.Column("in_force", sa.Boolean, nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.create_index("ix_suppressions_address_hash", "suppressions", ["address"], postgresql_using="hash")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_index("ix_suppressions_address_hash", "suppressions")
    op.drop_table("subscribers")
    op.drop_column("changes", "trace")
