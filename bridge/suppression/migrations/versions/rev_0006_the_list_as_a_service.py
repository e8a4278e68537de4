"""The list as a service: domains, soft bounces, the allow-list, erasures, imports, freshness, and what retention needs."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_READ: Final = 10_000
"""Addresses that are in memory at once."""


def upgrade() -> None:
    key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    _add_domains(key)
    op.add_column("changes", sa.Column("expires_at", sa.BigInteger))
    _add_tables(key)
    op.create_index("ix_handled_events_handled_at", "handled_events", ["handled_at"])
    op.create_index("ix_known_messages_known_at", "known_messages", ["known_at"])


def _add_domains(key: sa.types.TypeEngine[str]) -> None:
    op.add_column("suppressions", sa.Column("domain", key, nullable=False, server_default=""))
    table = sa.table("suppressions", sa.column("address", sa.Text), sa.column("domain", sa.Text))
    connection = op.get_bind()
    filling = (
        sa.update(table)
        .where(table.c.address == sa.bindparam("of_address"))
        .values(domain=sa.bindparam("its_domain"))
    )
    last = ""
    while True:
        query = (
            sa.select(table.c.address)
            .distinct()
            .where(table.c.address > last)
            .order_by(table.c.address)
            .limit(_READ)
        )
        addresses = list(connection.scalars(query))
        if not addresses:
            break
        connection.execute(
            filling, [{"of_address": one, "its_domain": one.rpartition("@")[2]} for one in addresses]
        )
        last = addresses[-1]
    op.create_index("ix_suppressions_domain_address_reason", "suppressions", ["domain", "address", "reason"])
    op.create_index("ix_suppressions_updated_at", "suppressions", ["updated_at"])
    expiring = sa.text("expires_at IS NOT NULL")
    op.create_index(
        "ix_suppressions_expires_at",
        "suppressions",
        ["expires_at"],
        sqlite_where=expiring,
        postgresql_where=expiring,
    )


def _add_tables(key: sa.types.TypeEngine[str]) -> None:
    op.create_table(
        "soft_bounces",
        sa.Column("address", key, nullable=False),
        sa.Column("event_id", key, nullable=False),
        sa.Column("message_id", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("evidence", sa.LargeBinary),
        sa.PrimaryKeyConstraint("address", "event_id", name="pk_soft_bounces"),
    )
    op.create_index("ix_soft_bounces_at", "soft_bounces", ["at"])
    op.create_table(
        "deliveries",
        sa.Column("address", key, primary_key=True),
        sa.Column("delivered_at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_deliveries_delivered_at", "deliveries", ["delivered_at"])
    op.create_table(
        "allow_rules",
        sa.Column("pattern", key, primary_key=True),
        sa.Column("over_complaints", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_table(
        "erasures",
        sa.Column("key", key, primary_key=True),
        sa.Column("erased_at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_table(
        "imports",
        sa.Column("fingerprint", key, primary_key=True),
        sa.Column("rows_done", sa.BigInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("added", sa.BigInteger, nullable=False),
        sa.Column("updated", sa.BigInteger, nullable=False),
        sa.Column("unchanged", sa.BigInteger, nullable=False),
        sa.Column("rejected", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger),
    )
    op.create_table(
        "idempotent_requests",
        sa.Column("key", key, primary_key=True),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Column("made_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_idempotent_requests_made_at", "idempotent_requests", ["made_at"])
    op.create_table(
        "freshness",
        sa.Column("source", key, primary_key=True),
        sa.Column("reported_at", sa.Double, nullable=False),
        sa.Column("drained_at", sa.Double, nullable=False),
        sa.Column("caught_up_to", sa.Double, nullable=False),
        sa.Column("requeued_by", sa.Double, nullable=False),
        sa.Column("oldest_held", sa.Double),
        sa.Column("oldest_returning", sa.Double),
        sa.Column("returned_by", sa.Double),
        sa.Column("oldest_dead", sa.Double),
    )
    op.create_table(
        "marks",
        sa.Column("name", key, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in (
        "marks",
        "freshness",
        "idempotent_requests",
        "imports",
        "erasures",
        "allow_rules",
        "deliveries",
        "soft_bounces",
    ):
        op.drop_table(table)
    op.drop_index("ix_known_messages_known_at", "known_messages")
    op.drop_index("ix_handled_events_handled_at", "handled_events")
    op.drop_index("ix_suppressions_expires_at", "suppressions")
    op.drop_index("ix_suppressions_updated_at", "suppressions")
    op.drop_index("ix_suppressions_domain_address_reason", "suppressions")
    op.drop_column("suppressions", "domain")
    op.drop_column("changes", "expires_at")
