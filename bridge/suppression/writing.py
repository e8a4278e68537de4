"""The statements that change the list. The caller ends the transaction.

Rows are written in the order of their keys, so that two workers never deadlock.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sqlalchemy import and_, delete

from bridge.suppression import bulk, current_state, model
from bridge.suppression.change_log import NewChange, append_changes
from bridge.suppression.entry_rows import merged, upsert_statement
from bridge.suppression.expiry import end_entries

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.sql.dml import ReturningInsert

    from bridge.suppression.bulk import Insert
    from bridge.suppression.current_state import CurrentState, Key
    from bridge.suppression.entries import Entry
    from bridge.suppression.policy import Reason

    Done = Literal["added", "updated", "outdated"]


class PutEntries(NamedTuple):
    """What became of some causes."""

    changes: list[NewChange]
    """For `append_changes`."""
    done: list[Done]
    """What each did, in their order."""


class Cause(NamedTuple):
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
    marking = _mark_handled_statement(connection.dialect.name)
    return {event_id for (event_id,) in await bulk.fetch_rows(connection, marking, rows)}


async def upsert_entries(
    connection: AsyncConnection, causes: Sequence[Cause], *, actor: str, now: int
) -> list[Done]:
    """Insert or update the entries of these causes, and log each. Returns what each did, in their order.

    An event that is not newer than the lifting of its entry does nothing, whichever of the two
    was recorded first: the decision of a person counts. Neither does one whose entry would have ended by now.

    Args:
        connection: in a transaction that writes.
        causes: events and manual additions.
        actor: who makes the changes, for the change log.
        now: Unix seconds.
    """
    before = await current_state.read(connection, {cause.address for cause in causes})
    put = await put_entries(connection, causes, before, now=now)
    await append_changes(connection, put.changes, actor=actor, now=now)
    return put.done


async def put_entries(
    connection: AsyncConnection, causes: Sequence[Cause], current: CurrentState, *, now: int
) -> PutEntries:
    """The same as `upsert_entries`, but for the log.

    Args:
        connection: in a transaction that writes.
        causes: events and manual additions.
        current: the state of their addresses; it is kept up to date.
        now: Unix seconds.
    """
    outdated = [_is_outdated(cause, current, now) for cause in causes]
    valid = [cause for cause, late in zip(causes, outdated, strict=True) if not late]
    # What has ended makes room for a new entry, whether somebody has taken it off the list already or not.
    ended = {cause.address for cause in valid if _has_ended(current, cause, now)}
    changes = await end_entries(connection, ended, current, now=now) if ended else []
    made = await _put(connection, valid, current, now=now)
    done = iter(made)
    return PutEntries([*changes, *made], ["outdated" if late else _did(next(done)) for late in outdated])


def _did(change: NewChange) -> Done:
    return "added" if change.action == "added" else "updated"


def _is_outdated(cause: Cause, current: CurrentState, now: int) -> bool:
    if cause.event_id is None:  # a person's decision, made now
        return False
    if cause.expires_at is not None and cause.expires_at <= now:
        return True
    lifted_at = current.lifted_at.get(cause.key)
    # Events have whole seconds: within one second the order is not known.
    return lifted_at is not None and cause.at <= lifted_at


def _has_ended(current: CurrentState, cause: Cause, now: int) -> bool:
    end = current.ends.get(cause.address, {}).get(cause.reason)
    return end is not None and end <= now


async def _put(
    connection: AsyncConnection, causes: Sequence[Cause], current: CurrentState, *, now: int
) -> list[NewChange]:
    if not causes:
        return []
    rows = merged(causes, now)
    upsert = upsert_statement(connection.dialect.name)
    result = await bulk.fetch_rows(connection, upsert, [rows[key] for key in sorted(rows)])
    counts, ends = {}, {}
    for address, reason, count, expires_at in result:
        counts[address, reason], ends[address, reason] = count, expires_at
    # An entry that existed before has a greater count than the causes of this call.
    new = {key for key, row in rows.items() if counts[key] == row["count"]}
    changes = []
    for cause in causes:
        key = cause.key
        current.put(key, ends[key])
        changes.append(
            NewChange(
                "added" if key in new else "updated",
                cause.address,
                cause.reason,
                note=cause.note,
                event_id=cause.event_id,
                message_id=cause.message_id,
                evidence=cause.evidence,
                reasons=current.reasons(cause.address, now),
                expires_at=ends[key],
            )
        )
        new.discard(key)
    return changes


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
            NewChange(
                "removed",
                entry.address,
                entry.reason,
                note=note,
                message_id=entry.message_id,
                evidence=entry.evidence,
                reasons=reasons,
                expires_at=entry.expires_at,
            )
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


@lru_cache(maxsize=4)
def _mark_handled_statement(dialect: str) -> ReturningInsert[Any]:
    table = model.handled_events
    adding = bulk.insert_statement(dialect, table, ("event_id", "handled_at"))
    return adding.on_conflict_do_nothing(index_elements=[table.c.event_id]).returning(table.c.event_id)


@lru_cache(maxsize=4)
def _address_statement(dialect: str) -> Insert:
    adding = bulk.insert_statement(dialect, model.known_messages, ("message_id", "address", "known_at"))
    return adding.on_conflict_do_update(
        index_elements=["message_id"],
        set_={"address": adding.excluded.address, "known_at": adding.excluded.known_at},
    )
