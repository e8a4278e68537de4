"""Records events, with all that follows from them, in the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.suppression import current_state, soft_bounce_entries, writing
from bridge.suppression.change_log import append_changes
from bridge.suppression.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.policy import SoftBounceRule
    from bridge.suppression.suppressing_events import Delivered, RecordOutcome
    from bridge.suppression.writing import Cause

    Deliveries = Mapping[str, Delivered]
    """Key of an address -> the last delivery to it."""


async def record(
    connection: AsyncConnection,
    causes: Mapping[str, Cause],
    deliveries: Deliveries,
    *,
    rule: SoftBounceRule,
    actor: str,
    now: int,
    traces: Mapping[str, str],
) -> dict[str, RecordOutcome]:
    """Record events that were not handled before. Returns what each suppressing event did; without the repeated ones.

    Rows of `handled_events`, `deliveries` and `suppressions` are locked in this order, and the log comes last.

    Args:
        connection: in a transaction that writes.
        causes: event id -> a suppressing event.
        deliveries: to which addresses something was delivered.
        rule: when soft bounces suppress.
        actor: who makes the changes, for the change log.
        now: Unix seconds.
        traces: event id -> trace context, for the change log.
    """
    fresh = await writing.mark_handled(connection, causes, now) if causes else set()
    new = [cause for event_id, cause in causes.items() if event_id in fresh]
    bounces = [cause for cause in new if cause.reason is Reason.SOFT_BOUNCE]
    others = [cause for cause in new if cause.reason is not Reason.SOFT_BOUNCE]
    settled: set[str] = set()
    if bounces or deliveries:
        await current_state.exclude_removals(connection)
        settled = await soft_bounce_entries.keep(connection, bounces, deliveries)
    if not (others or settled):
        return {}
    current = await current_state.read(connection, {cause.address for cause in others} | settled)
    put = await writing.put_entries(connection, others, current, now=now)
    outcomes: dict[str, RecordOutcome] = dict(zip(_ids(others), put.done, strict=True))
    changes = put.changes
    if settled:
        soft = await soft_bounce_entries.settle(
            connection, settled, bounces, deliveries, current, rule=rule, now=now
        )
        changes += soft.changes
        outcomes |= soft.outcomes
    await append_changes(connection, changes, actor=actor, now=now, traces=traces)
    return outcomes


def _ids(causes: Sequence[Cause]) -> list[str]:
    return [cause.event_id or "" for cause in causes]
