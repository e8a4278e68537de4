"""The tables. Times are Unix seconds. `migrations` creates them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)

metadata: Final = MetaData(
    naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s_%(column_0_N_name)s"}
)

# PostgreSQL orders text by the database's locale; the order of code points is the same everywhere.
_KEY: Final = Text().with_variant(Text(collation="C"), "postgresql")

# SQLite assigns row ids only if the type is called INTEGER.
_ROW_ID: Final = BigInteger().with_variant(Integer, "sqlite")

suppressions: Final = Table(
    "suppressions",
    metadata,
    Column("address", _KEY, nullable=False),
    Column("reason", _KEY, nullable=False),
    Column("original", Text, nullable=False),
    Column("first_event_at", BigInteger, nullable=False),
    Column("last_event_at", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("message_id", Text),
    Column("evidence", LargeBinary),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column(
        "domain", _KEY, nullable=False, server_default=""
    ),  # empty where only a hash of the address is kept
    PrimaryKeyConstraint("address", "reason"),
)
Index(
    "ix_suppressions_domain_address_reason",
    suppressions.c.domain,
    suppressions.c.address,
    suppressions.c.reason,
)
# Most addresses of a check are not on the list: one page says so, however long it is. SQLite has no such index.
Index(
    "ix_suppressions_address_hash",
    suppressions.c.address,
    postgresql_using="hash",
    info={"dialect": "postgresql"},
)
Index("ix_suppressions_updated_at", suppressions.c.updated_at)
Index(
    "ix_suppressions_expires_at",
    suppressions.c.expires_at,
    sqlite_where=suppressions.c.expires_at.is_not(None),
    postgresql_where=suppressions.c.expires_at.is_not(None),
)

changes: Final = Table(
    "changes",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("action", Text, nullable=False),
    Column("address", _KEY, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("event_id", Text),
    Column("message_id", Text),
    Column("evidence", LargeBinary),
    Column("published_at", BigInteger),
    Column("reasons", Text),  # in force after it, with commas between; none: '', not known: NULL
    Column("expires_at", BigInteger),  # when the entry ends, as of this change; never, or not known: NULL
    Column("trace", Text),  # context of the trace that it belongs to, for its message; none: NULL
    sqlite_autoincrement=True,
)
Index("ix_changes_address_id", changes.c.address, changes.c.id)
Index(
    "ix_changes_unpublished",
    changes.c.id,
    sqlite_where=changes.c.published_at.is_(None),
    postgresql_where=changes.c.published_at.is_(None),
)

liftings: Final = Table(
    "liftings",
    metadata,
    Column("address", _KEY, nullable=False),
    Column("reason", _KEY, nullable=False),
    Column("lifted_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("address", "reason"),
    sqlite_with_rowid=False,
)
"""When a person has last taken an address off the list, for each reason that this was about."""

handled_events: Final = Table(
    "handled_events",
    metadata,
    Column("event_id", _KEY, primary_key=True),
    Column("handled_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
Index("ix_handled_events_handled_at", handled_events.c.handled_at)

known_messages: Final = Table(
    "known_messages",
    metadata,
    Column("message_id", _KEY, primary_key=True),
    Column("address", Text, nullable=False),
    Column("known_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
Index("ix_known_messages_known_at", known_messages.c.known_at)

leases: Final = Table(
    "leases",
    metadata,
    Column("name", _KEY, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("renewals", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False),
    sqlite_with_rowid=False,
)
"""The leases: holder (empty: nobody), number of renewals, and duration in seconds."""

soft_bounces: Final = Table(
    "soft_bounces",
    metadata,
    Column("address", _KEY, nullable=False),
    Column("event_id", _KEY, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("evidence", LargeBinary),
    PrimaryKeyConstraint("address", "event_id"),
)
"""The soft bounces of each address: the policy counts them, in the order in which they happened."""
Index("ix_soft_bounces_at", soft_bounces.c.at)

deliveries: Final = Table(
    "deliveries",
    metadata,
    Column("address", _KEY, primary_key=True),
    Column("delivered_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""When a message was last delivered to an address: soft bounces until then do not count."""
Index("ix_deliveries_delivered_at", deliveries.c.delivered_at)

allow_rules: Final = Table(
    "allow_rules",
    metadata,
    Column("pattern", _KEY, primary_key=True),  # an address, or a domain
    Column("over_complaints", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("note", Text, nullable=False),
)
"""The allow-list."""

erasures: Final = Table(
    "erasures",
    metadata,
    Column("key", _KEY, primary_key=True),
    Column("erased_at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("note", Text, nullable=False),
)
"""The keyed hashes that have taken the place of erased addresses."""

imports: Final = Table(
    "imports",
    metadata,
    Column("fingerprint", _KEY, primary_key=True),
    Column("rows_done", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("added", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("unchanged", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
)
"""How far each import has come: written in the transaction of its rows, so that a killed one goes on where it was."""

idempotent_requests: Final = Table(
    "idempotent_requests",
    metadata,
    Column("key", _KEY, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("made_at", BigInteger, nullable=False),
)
"""Requests with an `Idempotency-Key`, and their answers, written in the transaction of what they did."""
Index("ix_idempotent_requests_made_at", idempotent_requests.c.made_at)

freshness: Final = Table(
    "freshness",
    metadata,
    Column("source", _KEY, primary_key=True),
    Column("reported_at", Double, nullable=False),
    Column("drained_at", Double, nullable=False),
    Column("caught_up_to", Double, nullable=False),
    Column("requeued_by", Double, nullable=False),
    Column("oldest_held", Double),
    Column("oldest_returning", Double),
    Column("returned_by", Double),
    Column("oldest_dead", Double),
)
"""What each worker knows of events that wait, in Unix seconds: `freshness.Report` explains the columns."""

subscribers: Final = Table(
    "subscribers",
    metadata,
    Column("queue", _KEY, primary_key=True),
    Column("settings", Text, nullable=False),
    Column("added_at", BigInteger, nullable=False),
    Column("added_by", Text, nullable=False),
    Column("in_force", Boolean, nullable=False),  # not while it is being added or removed
)
"""The queues of other services that were added while everything ran; their settings are JSON, with defaults left out."""

marks: Final = Table(
    "marks",
    metadata,
    Column("name", _KEY, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""How far work has come that goes through a table in small steps."""
