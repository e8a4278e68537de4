"""Addresses get today's keys: letters are folded wherever they stand, quotes are only where they are needed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from alembic import op

from bridge.suppression.addresses import InvalidAddressError, normalise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Row = dict[str, Any]

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ACTOR: Final = "migration 0003"
_READ: Final = 10_000
"""Addresses that are in memory at once."""
_MOVED: Final = 200
"""Keys that change in one statement: SQLite before 3.32 takes 999 parameters."""

_entries: Final = sa.table(
    "suppressions",
    sa.column("address", sa.Text),
    sa.column("reason", sa.Text),
    sa.column("original", sa.Text),
    sa.column("first_event_at", sa.BigInteger),
    sa.column("last_event_at", sa.BigInteger),
    sa.column("count", sa.BigInteger),
    sa.column("message_id", sa.Text),
    sa.column("evidence", sa.LargeBinary),
    sa.column("created_at", sa.BigInteger),
    sa.column("updated_at", sa.BigInteger),
    sa.column("expires_at", sa.BigInteger),
)
_changes: Final = sa.table(
    "changes",
    sa.column("at", sa.BigInteger),
    sa.column("action", sa.Text),
    sa.column("address", sa.Text),
    sa.column("reason", sa.Text),
    sa.column("actor", sa.Text),
    sa.column("note", sa.Text),
    sa.column("message_id", sa.Text),
    sa.column("evidence", sa.LargeBinary),
)


def upgrade() -> None:
    """Move what stands under another key than today's; entries that meet become one.

    The key is asked of the code as it is now, not as it was: whatever it becomes, this step brings the list there.
    """
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        # Who reads goes on; who writes waits, so that nothing is added under an old key behind us.
        connection.execute(sa.text("LOCK TABLE suppressions, changes IN SHARE ROW EXCLUSIVE MODE"))
    now = int(time.time())
    entries = _to_be_moved(connection, _entries)
    for some in _portions(entries):
        _move_entries(connection, some, now)
    for some in _portions(_to_be_moved(connection, _changes)):
        _move_changes(connection, some)


def downgrade() -> None:
    """The keys stay: which entries were two is not known any more, and the code before finds nearly all of them."""


def _to_be_moved(connection: sa.Connection, table: sa.TableClause) -> dict[str, str]:
    """Old key -> today's, for the few that are not the same."""
    found: dict[str, str] = {}
    # Page by page: PostgreSQL keeps a cursor open until the transaction ends, and then refuses to alter the table.
    page = sa.select(table.c.address).distinct().order_by(table.c.address).limit(_READ)
    addresses = connection.execute(page).scalars().all()
    while addresses:
        for old in addresses:
            try:
                new = normalise(old)
            except InvalidAddressError:
                continue  # it stays as it is: it is on the list, whatever it is
            if new != old:
                found[old] = new
        addresses = connection.execute(page.where(table.c.address > addresses[-1])).scalars().all()
    return found


def _portions(moves: dict[str, str]) -> Iterator[dict[str, str]]:
    """So many at once; those that become one stand side by side in this order."""
    ordered = sorted(moves.items(), key=lambda move: move[1])
    for start in range(0, len(ordered), _MOVED):
        yield dict(ordered[start : start + _MOVED])


def _move_entries(connection: sa.Connection, moves: dict[str, str], now: int) -> None:
    concerned = _entries.c.address.in_({*moves, *moves.values()})
    meeting: dict[tuple[str, str], list[Row]] = {}
    for row in connection.execute(sa.select(_entries).where(concerned)).mappings():
        key = moves.get(row["address"], row["address"]), row["reason"]
        meeting.setdefault(key, []).append(dict(row))
    moved = {key: rows for key, rows in meeting.items() if any(row["address"] in moves for row in rows)}
    connection.execute(sa.delete(_entries).where(concerned))
    connection.execute(sa.insert(_entries), [_one(key[0], rows) for key, rows in meeting.items()])
    connection.execute(sa.insert(_changes), [_change(key[0], rows, now) for key, rows in moved.items()])


def _one(address: str, rows: Sequence[Row]) -> Row:
    """What the list would hold if they had always been one: what first caused it stays, the longest term wins."""
    first = min(rows, key=lambda row: row["created_at"])
    ends = [row["expires_at"] for row in rows]
    return first | {
        "address": address,
        "first_event_at": min(row["first_event_at"] for row in rows),
        "last_event_at": max(row["last_event_at"] for row in rows),
        "count": sum(row["count"] for row in rows),
        "updated_at": max(row["updated_at"] for row in rows),
        "expires_at": None if None in ends else max(ends),
    }


def _change(address: str, rows: Sequence[Row], now: int) -> Row:
    """A change for the log, and for those who follow it: they know the entry by its old key only."""
    entry = _one(address, rows)
    before = sorted(row["address"] for row in rows if row["address"] != address)
    return {
        "at": now,
        "action": "added" if len(before) == len(rows) else "updated",
        "address": address,
        "reason": entry["reason"],
        "actor": ACTOR,
        "note": f"until now on the list as {', '.join(before)}",
        "message_id": entry["message_id"],
        "evidence": entry["evidence"],
    }


def _move_changes(connection: sa.Connection, moves: dict[str, str]) -> None:
    moving = sa.update(_changes).where(_changes.c.address == sa.bindparam("old"))
    connection.execute(
        moving.values(address=sa.bindparam("new")), [{"old": old, "new": new} for old, new in moves.items()]
    )
