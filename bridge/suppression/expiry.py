"""Entries whose time is over leave the list, and the log says so. A check heeds the end of an entry by itself, at once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, select

from bridge.suppression import bulk, current_state, model
from bridge.suppression.change_log import NewChange, append_changes
from bridge.suppression.database import shielded
from bridge.suppression.list_part import ListPart
from bridge.suppression.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.current_state import CurrentState

ACTOR: Final = "policy"
"""The actor of what happens by the passing of time, in the change log."""

STEP: Final = 200
"""How many entries leave the list in one transaction, which takes some milliseconds."""


class Expiry(ListPart):
    """Takes entries that have ended off the list."""

    @shielded
    async def end_some(self, limit: int = STEP) -> Mapping[Reason, int]:
        """Delete about `limit` of the entries that have ended, the oldest end first, and log each.

        Returns how many of each reason; empty where nothing is left to do.
        """
        now = self._now()
        table = model.suppressions
        query = select(table.c.address).where(table.c.expires_at <= now)
        async with self._database.read() as connection:
            addresses = set(await connection.scalars(query.order_by(table.c.expires_at).limit(limit)))
        if not addresses:
            return {}
        async with self._database.write() as connection:
            current = await current_state.read(connection, addresses)
            ended = await end_entries(connection, addresses, current, now=now)
            await append_changes(connection, ended, actor=ACTOR, now=now)
        return Counter(change.reason for change in ended if change.reason is not None)


async def end_entries(
    connection: AsyncConnection, addresses: Collection[str], current: CurrentState, *, now: int
) -> list[NewChange]:
    """Delete what has ended of the entries of these addresses. Returns the changes, for `append_changes`.

    Args:
        connection: in a transaction that writes.
        addresses: keys.
        current: their state, from which the entries are taken.
        now: Unix seconds.
    """
    table = model.suppressions
    columns = (table.c.address, table.c.reason, table.c.message_id, table.c.evidence, table.c.expires_at)
    changes: list[NewChange] = []
    for some in bulk.column_in(connection, table.c.address, addresses):
        ended = some & (table.c.expires_at <= now)
        # Locked in the order of the keys, as by all that write.
        query = select(*columns).where(ended).order_by(table.c.address, table.c.reason).with_for_update()
        found: list[Any] = list(await connection.execute(query))
        if not found:
            continue
        await connection.execute(delete(table).where(ended))
        for one in found:
            current.ends.get(one.address, {}).pop(one.reason, None)
            changes.append(
                NewChange(
                    "expired",
                    one.address,
                    Reason(one.reason),
                    message_id=one.message_id,
                    evidence=one.evidence,
                    expires_at=one.expires_at,
                    reasons=current.reasons(one.address, now),
                    actor=ACTOR,
                )
            )
    return changes
