"""The tables. Times are Unix seconds. `migrations` creates them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
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
    PrimaryKeyConstraint("address", "reason"),
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

known_messages: Final = Table(
    "known_messages",
    metadata,
    Column("message_id", _KEY, primary_key=True),
    Column("address", Text, nullable=False),
    Column("known_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

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
