"""The statements about soft bounces, deliveries, and the entries that they make. The caller ends the transaction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, select

from bridge.suppression import bulk, model
from bridge.suppression.policy import Reason
from bridge.suppression.soft_bounces import SoftBounce

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.sql.dml import ReturningInsert

    from bridge.suppression.bulk import Insert


@dataclass(frozen=True, slots=True)
class Standing:
    """An entry for soft bounces as it is on the list."""

    of_person: bool
    first_event_at: int
    last_event_at: int
    count: int
    message_id: str | None
    evidence: bytes | None
    expires_at: int | None


async def deliveries_to(connection: AsyncConnection, addresses: Collection[str]) -> dict[str, int]:
    """Address -> when something was last delivered to it, Unix seconds."""
    table = model.deliveries
    found: dict[str, int] = {}
    for some in bulk.column_in(connection, table.c.address, addresses):
        found.update(
            (row.address, row.delivered_at) for row in await connection.execute(select(table).where(some))
        )
    return found


async def bounces_of(connection: AsyncConnection, addresses: Collection[str]) -> dict[str, list[SoftBounce]]:
    """Address -> its soft bounces."""
    table = model.soft_bounces
    found: dict[str, list[SoftBounce]] = {}
    for some in bulk.column_in(connection, table.c.address, addresses):
        query = select(table.c.address, table.c.at, table.c.event_id, table.c.message_id).where(some)
        for address, *bounce in await connection.execute(query):
            found.setdefault(address, []).append(SoftBounce(*bounce))
    return found


async def with_bounces(connection: AsyncConnection, addresses: Collection[str]) -> set[str]:
    """Those of these addresses that have bounced softly."""
    table = model.soft_bounces
    found: set[str] = set()
    for some in bulk.column_in(connection, table.c.address, addresses):
        found.update(await connection.scalars(select(table.c.address).where(some).distinct()))
    return found


async def entries_of(connection: AsyncConnection, addresses: Collection[str]) -> dict[str, Standing]:
    """Address -> its entry for soft bounces."""
    c = model.suppressions.c
    columns = (c.first_event_at, c.last_event_at, c.count, c.message_id, c.evidence, c.expires_at)
    found: dict[str, Standing] = {}
    for some in bulk.column_in(connection, c.address, addresses):
        query = select(c.address, c.message_id.is_(None), *columns).where(
            some, c.reason == Reason.SOFT_BOUNCE.value
        )
        for address, *entry in await connection.execute(query):
            found[address] = Standing(*entry)
    return found


async def evidence_of(connection: AsyncConnection, address: str, event_id: str) -> bytes | None:
    """A soft bounce as the provider sent it; None where it is kept no more."""
    table = model.soft_bounces
    chosen = and_(table.c.address == address, table.c.event_id == event_id)
    evidence: bytes | None = await connection.scalar(select(table.c.evidence).where(chosen))
    return evidence


@lru_cache(maxsize=4)
def deliveries_statement(dialect: str) -> ReturningInsert[Any]:
    """Returns the addresses of which the time is another one now. The others' rows are locked, too."""
    table = model.deliveries
    adding = bulk.insert_statement(dialect, table, ("address", "delivered_at"))
    given = adding.excluded.delivered_at
    return adding.on_conflict_do_update(
        index_elements=[table.c.address], set_={"delivered_at": given}, where=given > table.c.delivered_at
    ).returning(table.c.address)


@lru_cache(maxsize=4)
def bounces_statement(dialect: str) -> Insert:
    """Insert soft bounces; those that are there stay."""
    table = model.soft_bounces
    adding = bulk.insert_statement(dialect, table, tuple(column.name for column in table.c))
    return adding.on_conflict_do_nothing(index_elements=[table.c.address, table.c.event_id])


@lru_cache(maxsize=4)
def entry_statement(dialect: str) -> ReturningInsert[Any]:
    """Insert or replace an entry for soft bounces; of one that a person made only the end is moved, to a later time."""
    stored = model.suppressions.c
    adding = bulk.insert_statement(dialect, model.suppressions, tuple(column.name for column in stored))
    given = adding.excluded
    of_person = stored.message_id.is_(None)

    def ours(name: str) -> ColumnElement[Any]:
        return case((of_person, stored[name]), else_=given[name])

    own = ("first_event_at", "last_event_at", "count", "message_id", "evidence")
    stays = and_(of_person, stored.expires_at.is_(None) | (stored.expires_at > given.expires_at))
    return adding.on_conflict_do_update(
        index_elements=[stored.address, stored.reason],
        set_={name: ours(name) for name in own}
        | {
            "updated_at": given.updated_at,
            "expires_at": case((stays, stored.expires_at), else_=given.expires_at),
        },
    ).returning(stored.address, stored.expires_at)
