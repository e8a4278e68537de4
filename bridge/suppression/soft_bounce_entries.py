"""Keeps the soft bounces and deliveries of each address, and makes its entry what `soft_bounces` says of them.

An entry that a person made has no message: of such a one only the end is moved, to a later time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, delete

from bridge.suppression import bulk, model
from bridge.suppression import soft_bounce_rows as rows
from bridge.suppression.address_keys import domain_of
from bridge.suppression.change_log import NewChange
from bridge.suppression.expiry import end_entries
from bridge.suppression.policy import Reason
from bridge.suppression.soft_bounces import last_episode

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.current_state import CurrentState
    from bridge.suppression.policy import SoftBounceRule
    from bridge.suppression.soft_bounce_rows import Standing
    from bridge.suppression.soft_bounces import Episode
    from bridge.suppression.suppressing_events import Delivered, RecordOutcome
    from bridge.suppression.writing import Cause

_SOFT = Reason.SOFT_BOUNCE

DELIVERED = "delivered"
"""The note of a removal by a delivery."""
NOT_ENOUGH = "not enough soft bounces"
"""The note of a removal because the rule asks for more than it did."""


class Settled(NamedTuple):
    """What became of the entries."""

    changes: list[NewChange]
    """For `append_changes`."""
    outcomes: dict[str, RecordOutcome]
    """Event id of each soft bounce -> what it did."""


async def keep(
    connection: AsyncConnection, bounces: Sequence[Cause], deliveries: Mapping[str, Delivered]
) -> set[str]:
    """Store soft bounces and deliveries. Returns the addresses of which the entry may be another one now.

    Until the transaction ends, no other can do the same for these addresses.

    Args:
        connection: in a transaction that writes, of which `current_state.exclude_removals` was called.
        bounces: soft bounces that are new.
        deliveries: address -> a delivery to it.
    """
    # 0 where it has only bounced: the row is there to be locked.
    last = dict.fromkeys((bounce.address for bounce in bounces), 0)
    last |= {address: delivered.event_at for address, delivered in deliveries.items()}
    times = [{"address": address, "delivered_at": last[address]} for address in sorted(last)]
    moved = set(
        await connection.scalars(
            rows.deliveries_statement(connection.dialect.name), bulk.as_parameters(connection, times)
        )
    )
    if bounces:
        await connection.execute(
            rows.bounces_statement(connection.dialect.name),
            bulk.as_parameters(
                connection,
                [
                    {
                        "address": bounce.address,
                        "event_id": bounce.event_id,
                        "message_id": bounce.message_id,
                        "at": bounce.at,
                        "evidence": bounce.evidence,
                    }
                    for bounce in sorted(bounces, key=lambda one: (one.address, one.event_id or ""))
                ],
            ),
        )
    bounced = {bounce.address for bounce in bounces}
    return bounced | await rows.with_bounces(connection, (moved & deliveries.keys()) - bounced)


async def settle(
    connection: AsyncConnection,
    addresses: Collection[str],
    bounces: Sequence[Cause],
    deliveries: Mapping[str, Delivered],
    current: CurrentState,
    *,
    rule: SoftBounceRule,
    now: int,
) -> Settled:
    """Make the entries of these addresses what the rule says of their soft bounces.

    Args:
        connection: of `keep`.
        addresses: what `keep` has returned.
        bounces: as for `keep`.
        deliveries: as for `keep`.
        current: the state of the addresses; it is kept up to date.
        rule: when soft bounces suppress.
        now: Unix seconds.
    """
    changes = await end_entries(connection, _ended(addresses, current, now), current, now=now)
    delivered = await rows.deliveries_to(connection, addresses)
    since = {
        address: max(delivered.get(address, 0), current.lifted_at.get((address, _SOFT), 0))
        for address in addresses
    }
    stored = await rows.bounces_of(connection, addresses)
    standing = await rows.entries_of(connection, addresses)
    wanted: dict[str, Episode] = {}
    ending: dict[str, str] = {}
    for address in sorted(addresses):
        episode = last_episode(stored.get(address, ()), rule, after=since[address])
        entry = standing.get(address)
        if episode is not None and episode.ends_at > now:
            if entry is None or _differs(entry, episode):
                wanted[address] = episode
        elif entry is not None and not entry.of_person:
            over = episode is not None
            ending[address] = (
                "" if over else DELIVERED if entry.first_event_at <= since[address] else NOT_ENOUGH
            )
    changes += await _put(connection, wanted, standing, current, now=now)
    changes += await _end(connection, ending, standing, deliveries, current, now=now)
    return Settled(changes, _outcomes(bounces, since, changes))


def _ended(addresses: Collection[str], current: CurrentState, now: int) -> set[str]:
    ends = {address: current.ends.get(address, {}).get(_SOFT) for address in addresses}
    return {address for address, end in ends.items() if end is not None and end <= now}


def _outcomes(
    bounces: Sequence[Cause], since: Mapping[str, int], changes: Sequence[NewChange]
) -> dict[str, RecordOutcome]:
    did: dict[str | None, RecordOutcome] = {
        change.event_id: "added" if change.action == "added" else "updated"
        for change in changes
        if change.action in {"added", "updated"}
    }
    return {
        bounce.event_id or "": "outdated"
        if bounce.at <= since[bounce.address]
        else did.get(bounce.event_id, "counted")
        for bounce in bounces
    }


def _differs(entry: Standing, episode: Episode) -> bool:
    if entry.of_person:
        return entry.expires_at is not None and entry.expires_at < episode.ends_at
    return (entry.first_event_at, entry.last_event_at, entry.count, entry.message_id, entry.expires_at) != (
        episode.first.at,
        episode.last.at,
        episode.count,
        episode.last.message_id,
        episode.ends_at,
    )


async def _put(
    connection: AsyncConnection,
    wanted: Mapping[str, Episode],
    standing: Mapping[str, Standing],
    current: CurrentState,
    *,
    now: int,
) -> list[NewChange]:
    if not wanted:
        return []
    evidence = {
        address: await rows.evidence_of(connection, address, episode.last.event_id)
        for address, episode in wanted.items()
    }
    made = [
        {
            "address": address,
            "reason": _SOFT.value,
            "original": address if domain_of(address) else "",
            "first_event_at": episode.first.at,
            "last_event_at": episode.last.at,
            "count": episode.count,
            "message_id": episode.last.message_id,
            "evidence": evidence[address],
            "created_at": now,
            "updated_at": now,
            "expires_at": episode.ends_at,
            "domain": domain_of(address),
        }
        for address, episode in wanted.items()
    ]
    statement = rows.entry_statement(connection.dialect.name)
    result = await connection.execute(statement, bulk.as_parameters(connection, made))
    ends: dict[str, int | None] = {row.address: row.expires_at for row in result}
    changes = []
    for address, episode in wanted.items():
        current.put((address, _SOFT), ends[address])
        changes.append(
            NewChange(
                "updated" if address in standing else "added",
                address,
                _SOFT,
                event_id=episode.last.event_id,
                message_id=episode.last.message_id,
                evidence=evidence[address],
                expires_at=ends[address],
                reasons=current.reasons(address, now),
            )
        )
    return changes


async def _end(
    connection: AsyncConnection,
    ending: Mapping[str, str],
    standing: Mapping[str, Standing],
    deliveries: Mapping[str, Delivered],
    current: CurrentState,
    *,
    now: int,
) -> list[NewChange]:
    """Delete entries. Args: address -> the note of its removal; empty: its time would be over by now."""
    table = model.suppressions
    for some in bulk.column_in(connection, table.c.address, ending.keys()):
        ours = and_(some, table.c.reason == _SOFT.value, table.c.message_id.is_not(None))
        await connection.execute(delete(table).where(ours))
    changes = []
    for address, note in ending.items():
        current.ends.get(address, {}).pop(_SOFT, None)
        entry = standing[address]
        delivered = deliveries.get(address) if note == DELIVERED else None
        changes.append(
            NewChange(
                "removed" if note else "expired",
                address,
                _SOFT,
                note=note,
                event_id=delivered.event_id if delivered else None,
                message_id=(delivered.message_id or None) if delivered else entry.message_id,
                evidence=(delivered.evidence or None) if delivered else entry.evidence,
                expires_at=entry.expires_at,
                reasons=current.reasons(address, now),
            )
        )
    return changes
