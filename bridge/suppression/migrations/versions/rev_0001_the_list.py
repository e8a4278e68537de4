"""The list, its change log, the events that were handled and the messages that are known."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "suppressions",
        sa.Column("address", key, nullable=False),
        sa.Column("reason", key, nullable=False),
        sa.Column("original", sa.Text, nullable=False),
        sa.Column("first_event_at", sa.BigInteger, nullable=False),
        sa.Column("last_event_at", sa.BigInteger, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("message_id", sa.Text),
        sa.Column("evidence", sa.LargeBinary),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("address", "reason", name="pk_suppressions"),
    )
    op.create_table(
        "changes",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
        ),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("address", key, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text),
        sa.Column("message_id", sa.Text),
        sa.Column("evidence", sa.LargeBinary),
        sa.Column("published_at", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_changes_address_id", "changes", ["address", "id"])
    unpublished = sa.text("published_at IS NULL")
    op.create_index(
        "ix_changes_unpublished", "changes", ["id"], sqlite_where=unpublished, postgresql_where=unpublished
    )
    op.create_table(
        "handled_events",
        sa.Column("event_id", key, primary_key=True),
        sa.Column("handled_at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "known_messages",
        sa.Column("message_id", key, primary_key=True),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("known_at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    for table in ("known_messages", "handled_events", "changes", "suppressions"):
        op.drop_table(table)
