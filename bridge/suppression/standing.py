"""What a person has taken off the list, and when: asked before events are written, and kept for those that come late.

Who takes something off has the list for himself meanwhile, so that no event slips through between the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, select, text

from bridge.suppression import bulk, model

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.bulk import Insert
    from bridge.suppression.policy import Reason

    Key = tuple[str, str]
    """Address, reason: a `Reason` is equal to its text."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What there is about some addresses."""

    lifted_at: Mapping[Key, int]
    """When a person has last taken it off the list, Unix seconds."""


async def read(connection: AsyncConnection, addresses: Collection[str]) -> Standing:
    """Look, and keep whoever would take something off the list waiting until the transaction ends."""
    lifted_at = {}
    statement = _reading(connection.dialect.name)
    for some in bulk.portions(connection, addresses):
        rows = await connection.execute(statement, {"addresses": some})
        lifted_at.update({(row.address, row.reason): row.lifted_at for row in rows})
    return Standing(lifted_at)


async def alone(connection: AsyncConnection) -> None:
    """Wait until nobody else writes to the list, and have them wait until the transaction ends.

    On SQLite whoever writes is alone. On PostgreSQL those that have begun to write hold a lock on the table of the
    liftings, by the FOR KEY SHARE of `read`; this one excludes it. Whoever waited for it sees what was committed.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(text(f"LOCK TABLE {model.liftings.name} IN EXCLUSIVE MODE"))


async def keep_lifting(
    connection: AsyncConnection, address: str, reasons: Iterable[Reason], now: int
) -> None:
    """From now on no event that happened until now puts the address on the list for one of these reasons."""
    rows = [{"address": address, "reason": reason.value, "lifted_at": now} for reason in sorted(reasons)]
    await connection.execute(_keeping(connection.dialect.name), bulk.given(connection, rows))


@lru_cache(maxsize=4)
def _reading(dialect: str) -> Select[Any]:
    table = model.liftings
    chosen = select(table).where(bulk.one_of(dialect, table.c.address, "addresses"))
    return chosen.with_for_update(read=True, key_share=True)


@lru_cache(maxsize=4)
def _keeping(dialect: str) -> Insert:
    table = model.liftings
    adding = bulk.inserting(dialect, table, ("address", "reason", "lifted_at"))
    given = adding.excluded.lifted_at
    later = case((given > table.c.lifted_at, given), else_=table.c.lifted_at)
    return adding.on_conflict_do_update(
        index_elements=[table.c.address, table.c.reason], set_={"lifted_at": later}
    )
