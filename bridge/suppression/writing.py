"""The statements that change the list. The caller ends the transaction.

Rows are written in the order of their keys, so that two workers never deadlock.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import and_, case, delete, func, select

from bridge.suppression import bulk, current_state, model
from bridge.suppression.address_keys import domain_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.sql.dml import ReturningInsert

    from bridge.suppression.bulk import Insert
    from bridge.suppression.current_state import CurrentState, Key
    from bridge.suppression.entries import Entry
    from bridge.suppression.policy import Reason

    Done = Literal["added", "updated", "outdated"]
    Row = dict[str, Any]

CHANGE_IDS_LOCK: Final = 0x627269646765_0002
"""Key of the advisory lock under which changes get their ids: `bridge` in ASCII, then 2."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What puts an address on the list: an event or a manual addition."""

    address: str
    """Normalised."""
    original: str
    """The spelling in which it came."""
    reason: Reason
    at: int
    """When it happened, in Unix seconds."""
    note: str = ""
    event_id: str | None = None
    message_id: str | None = None
    evidence: bytes | None = None
    expires_at: int | None = None

    @property
    def key(self) -> Key:
        """The key of the entry that it makes or counts in."""
        return self.address, self.reason


async def mark_handled(connection: AsyncConnection, event_ids: Iterable[str], now: int) -> set[str]:
    """Mark the events as handled at `now` (Unix seconds). Returns those that were not handled before.

    On PostgreSQL the INSERT waits for another worker's transaction with the same id, and the second one returns no row.
    So counts are exact without a lock on the list.
    """
    rows = [{"event_id": event_id, "handled_at": now} for event_id in sorted(event_ids)]
    return set(
        await connection.scalars(
            _mark_handled_statement(connection.dialect.name), bulk.as_parameters(connection, rows)
        )
    )


async def upsert_entries(
    connection: AsyncConnection, causes: Sequence[Cause], *, actor: str, now: int
) -> list[Done]:
    """Insert or update the entries of these causes, and log each. Returns what each did, in their order.

    An event that is not newer than the lifting of its entry does nothing, whichever of the two
    was recorded first: the decision of a person counts.

    Args:
        connection: in a transaction that writes.
        causes: events and manual additions.
        actor: who makes the changes, for the change log.
        now: Unix seconds.
    """
    before = await current_state.read(connection, {cause.address for cause in causes})
    outdated = [_is_outdated(cause, before) for cause in causes]
    valid = [cause for cause, late in zip(causes, outdated, strict=True) if not late]
    done = iter(await _put(connection, valid, before, actor=actor, now=now))
    return ["outdated" if late else next(done) for late in outdated]


def _is_outdated(cause: Cause, before: CurrentState) -> bool:
    lifted_at = before.lifted_at.get(cause.key)
    # A manual addition is a decision made now. Events have whole seconds: within one second the order is not known.
    return lifted_at is not None and cause.event_id is not None and cause.at <= lifted_at


async def _put(
    connection: AsyncConnection, causes: Sequence[Cause], current: CurrentState, *, actor: str, now: int
) -> list[Done]:
    if not causes:
        return []
    rows = _merged(causes, now)
    upsert = _upsert_statement(connection.dialect.name)
    result = await connection.execute(
        upsert, bulk.as_parameters(connection, [rows[key] for key in sorted(rows)])
    )
    counts, ends = {}, {}
    for address, reason, count, expires_at in result:
        counts[address, reason], ends[address, reason] = count, expires_at
    # An entry that existed before has a greater count than the causes of this call.
    new = {key for key, row in rows.items() if counts[key] == row["count"]}
    done: list[Done] = []
    remaining: list[str] = []
    for cause in causes:
        done.append("added" if cause.key in new else "updated")
        new.discard(cause.key)
        current.put(cause.key, ends[cause.key])
        remaining.append(current.reasons(cause.address, now))
    await append_changes(
        connection,
        [
            {
                "action": did,
                "address": cause.address,
                "reason": cause.reason.value,
                "note": cause.note,
                "event_id": cause.event_id,
                "message_id": cause.message_id,
                "evidence": cause.evidence,
                "reasons": reasons,
                "expires_at": ends[cause.key],
            }
            for cause, did, reasons in zip(causes, done, remaining, strict=True)
        ],
        actor=actor,
        now=now,
    )
    return done


async def delete_entries(
    connection: AsyncConnection,
    entries: Sequence[Entry],
    *,
    keys: Collection[str],
    reasons: Collection[Reason],
    actor: str,
    note: str,
    now: int,
) -> None:
    """Delete these entries of one address, and log each. Older events do not put it back for any of the reasons.

    The caller has called `current_state.exclude_writers`.

    Args:
        connection: in a transaction that writes.
        entries: one or more, of the same address.
        keys: under which the address may stand.
        reasons: for which older events do not put the address back.
        actor: who deletes them, for the change log.
        note: why, for the change log.
        now: Unix seconds.
    """
    current = await current_state.read(connection, keys)
    remaining = []
    for one in entries:
        del current.ends[one.address][one.reason]
        remaining.append(current.reasons(one.address, now))
    await current_state.record_removal(connection, keys, reasons, now)
    table = model.suppressions
    removed = {entry.reason.value for entry in entries}
    chosen = and_(table.c.address.in_(keys), table.c.reason.in_(removed))
    await connection.execute(delete(table).where(chosen))
    await append_changes(
        connection,
        [
            {
                "action": "removed",
                "address": entry.address,
                "reason": entry.reason.value,
                "note": note,
                "event_id": None,
                "message_id": entry.message_id,
                "evidence": entry.evidence,
                "reasons": reasons,
                "expires_at": entry.expires_at,
            }
            for entry, reasons in zip(entries, remaining, strict=True)
        ],
        actor=actor,
        now=now,
    )


async def upsert_addresses(connection: AsyncConnection, addresses: Mapping[str, str], now: int) -> None:
    """Store message id -> address. A known id gets the new address."""
    if not addresses:
        return
    rows = [{"message_id": key, "address": addresses[key], "known_at": now} for key in sorted(addresses)]
    await connection.execute(
        _address_statement(connection.dialect.name), bulk.as_parameters(connection, rows)
    )


async def append_changes(
    connection: AsyncConnection, changes: Sequence[Row], *, actor: str, now: int
) -> None:
    """Append these changes to the log: the columns that they do not share.

    It is the last statement of a transaction that locks rows: the lock under which ids are given is held until its end.
    """
    await _lock_change_ids(connection)
    rows = [{"at": now, "actor": actor} | change for change in changes]
    adding = bulk.insert_statement(connection.dialect.name, model.changes, tuple(rows[0]))
    await bulk.write_rows(connection, adding, rows)


async def _lock_change_ids(connection: AsyncConnection) -> None:
    """From here to the commit one transaction at a time: so ids become visible in their order.

    PostgreSQL gives ids before the commit: without this, whoever reads changes behind the last id that he knows could
    miss one that is committed later. SQLite has one writer at a time anyway.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(select(func.pg_advisory_xact_lock(CHANGE_IDS_LOCK)))


def _merged(causes: Sequence[Cause], now: int) -> dict[Key, Row]:
    """One row for each entry: a statement can insert or update an entry only once."""
    rows: dict[Key, Row] = {}
    for cause in causes:
        row = rows.get(cause.key)
        if row is None:
            rows[cause.key] = {
                "address": cause.address,
                "reason": cause.reason.value,
                "original": cause.original,
                "first_event_at": cause.at,
                "last_event_at": cause.at,
                "count": 1,
                "message_id": cause.message_id,
                "evidence": cause.evidence,
                "created_at": now,
                "updated_at": now,
                "expires_at": cause.expires_at,
                "domain": domain_of(cause.address),
            }
        else:
            row["first_event_at"] = min(row["first_event_at"], cause.at)
            row["last_event_at"] = max(row["last_event_at"], cause.at)
            row["count"] += 1
            row["expires_at"] = _later(row["expires_at"], cause.expires_at)
    return rows


def _later(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else max(one, other)


@lru_cache(maxsize=4)
def _mark_handled_statement(dialect: str) -> ReturningInsert[Any]:
    table = model.handled_events
    adding = bulk.insert_statement(dialect, table, ("event_id", "handled_at"))
    return adding.on_conflict_do_nothing(index_elements=[table.c.event_id]).returning(table.c.event_id)


@lru_cache(maxsize=4)
def _upsert_statement(dialect: str) -> ReturningInsert[Any]:
    """Insert an entry, or add to its count. Its first cause stays, and it never expires earlier than before."""
    stored = model.suppressions.c
    adding = bulk.insert_statement(dialect, model.suppressions, tuple(column.name for column in stored))
    given = adding.excluded
    for_good = stored.expires_at.is_(None) | given.expires_at.is_(None)
    return adding.on_conflict_do_update(
        index_elements=[stored.address, stored.reason],
        set_={
            "first_event_at": _smaller(stored.first_event_at, given.first_event_at),
            "last_event_at": _greater(stored.last_event_at, given.last_event_at),
            "count": stored.count + given.count,
            "updated_at": given.updated_at,
            "expires_at": case((for_good, None), else_=_greater(stored.expires_at, given.expires_at)),
        },
    ).returning(stored.address, stored.reason, stored.count, stored.expires_at)


@lru_cache(maxsize=4)
def _address_statement(dialect: str) -> Insert:
    adding = bulk.insert_statement(dialect, model.known_messages, ("message_id", "address", "known_at"))
    return adding.on_conflict_do_update(
        index_elements=["message_id"],
        set_={"address": adding.excluded.address, "known_at": adding.excluded.known_at},
    )


# SQLite's `min` and `max` of two values are LEAST and GREATEST in PostgreSQL; CASE works in both.
def _smaller(one: ColumnElement[int], other: ColumnElement[int]) -> ColumnElement[int]:
    return case((other < one, other), else_=one)


def _greater(one: ColumnElement[int], other: ColumnElement[int]) -> ColumnElement[int]:
    return case((other > one, other), else_=one)
