"""Appends lines to the change log, in the transaction of what they tell of."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bridge.suppression import bulk, model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.change import Action
    from bridge.suppression.policy import Reason

NO_TRACES: Final[Mapping[str, str]] = MappingProxyType({})

CHANGE_IDS_LOCK: Final = 0x627269646765_0002
"""Key of the advisory lock under which changes get their ids: `bridge` in ASCII, then 2."""


class NewChange(NamedTuple):
    """A line for the log."""

    action: Action
    address: str
    """Key of the entry, or pattern of the rule."""
    reason: Reason | None
    """Of the entry; None where it is another change."""
    reasons: str | None
    """Those in force after it, as `CurrentState.reasons` has them; None: not known."""
    expires_at: int | None = None
    """When the entry ends, as of this change, Unix seconds."""
    note: str = ""
    """Why."""
    event_id: str | None = None
    """The event that did it, if one did."""
    message_id: str | None = None
    """Of this event; of an entry that leaves the list, of the one that had made it."""
    evidence: bytes | None = None
    """The same, as the provider sent it."""
    actor: str | None = None
    """Who did it; None: who makes all changes of this transaction."""


async def append_changes(
    connection: AsyncConnection,
    changes: Sequence[NewChange],
    *,
    actor: str,
    now: int,
    traces: Mapping[str, str] = NO_TRACES,
) -> None:
    """Append these changes to the log, in their order; each may have an actor of its own.

    It is the last statement of a transaction that locks rows: see `append_rows`.

    Args:
        connection: in a transaction that writes.
        changes: the lines.
        actor: who makes those that name nobody.
        now: Unix seconds.
        traces: event id -> trace context of the changes that it makes.
    """
    rows = [
        {
            "action": change.action,
            "address": change.address,
            "reason": "" if change.reason is None else str(change.reason),
            "actor": actor if change.actor is None else change.actor,
            "note": change.note,
            "event_id": change.event_id,
            "message_id": change.message_id,
            "evidence": change.evidence,
            "reasons": change.reasons,
            "expires_at": change.expires_at,
            "trace": traces.get(change.event_id or ""),
        }
        for change in changes
    ]
    if rows:
        await append_rows(connection, rows, actor=actor, now=now)


async def append_rows(
    connection: AsyncConnection, rows: Sequence[dict[str, Any]], *, actor: str, now: int
) -> None:
    """The same with rows of the table, at least one, which have the same keys. Those that they do not have are shared.

    From here to the commit one transaction at a time, so that ids become visible in their order. PostgreSQL gives them
    before the commit: otherwise whoever reads behind the last id that he knows could miss one that is committed later.
    (SQLite has one writer at a time anyway.) So a transaction locks no more rows after this: it might wait for another
    that waits here.
    """
    complete = [{"at": now, "actor": actor} | row for row in rows]
    names = tuple(complete[0])
    adding = bulk.insert_statement(connection.dialect.name, model.changes, names, lock=CHANGE_IDS_LOCK)
    await bulk.write_rows(connection, adding, complete)
