"""What is on the list for some addresses, and when a person took something off it: read before the list is changed.

A removal excludes all other writers meanwhile, so that no event slips in between reading and removing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import case, literal_column, select, text, union_all

from bridge.suppression import bulk, model
from bridge.suppression.address_keys import domain_of
from bridge.suppression.policy import Reason, wins_over

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy import CompoundSelect
    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.bulk import Insert

    Key = tuple[str, str]
    """Address, reason: a `Reason` is equal to its text."""


_ENTRY: Final = 0
_LIFTING: Final = 1
_RULE: Final = 2
"""What a row of `_reading` is."""


@dataclass(frozen=True, slots=True)
class CurrentState:
    """The entries and liftings of some addresses, and the rules of the allow-list that hold for them."""

    lifted_at: dict[Key, int] = field(default_factory=dict)
    """When a person has last taken it off the list, Unix seconds."""
    ends: dict[str, dict[str, int | None]] = field(default_factory=dict)
    """Address -> reason -> when its entry expires, Unix seconds; None: never."""

    rules: dict[str, bool] = field(default_factory=dict)
    """Pattern, an address or a domain -> whether this rule of the allow-list wins over complaints, too."""

    def put(self, key: Key, expires_at: int | None) -> None:
        """This entry is on the list now."""
        address, reason = key
        self.ends.setdefault(address, {})[reason] = expires_at

    def reasons(self, address: str, now: int) -> str:
        """The reasons in force at `now` (Unix seconds), sorted and separated by commas, as a change keeps them.

        Those over which the allow-list wins are not in force, as in a check. Of a hash the domain is not known.
        """
        in_force = [reason for reason, end in self.ends.get(address, {}).items() if end is None or end > now]
        if self.rules:
            rule = self.rules.get(address, self.rules.get(domain_of(address)))
            if rule is not None:
                in_force = [one for one in in_force if not wins_over(Reason(one), over_complaints=rule)]
        return ",".join(sorted(in_force))


async def read(connection: AsyncConnection, addresses: Collection[str]) -> CurrentState:
    """The state of these addresses. Whoever wants to take something off the list waits until this transaction ends."""
    found = CurrentState()
    given = {
        "addresses": bulk.one_of(connection, addresses),
        "patterns": bulk.one_of(connection, {*addresses, *map(domain_of, addresses)}),
    }
    for address, reason, moment, kind in await connection.execute(_reading(connection.dialect.name), given):
        if kind == _RULE:
            found.rules[address] = bool(moment)
        elif kind == _LIFTING:
            found.lifted_at[address, reason] = moment
        else:
            found.put((address, reason), moment)
    return found


async def read_liftings(connection: AsyncConnection, addresses: Collection[str]) -> dict[Key, int]:
    """When a person has last taken these addresses off the list, Unix seconds."""
    table = model.liftings
    found: dict[Key, int] = {}
    for some in bulk.column_in(connection, table.c.address, addresses):
        for address, reason, lifted_at in await connection.execute(select(table).where(some)):
            found[address, reason] = lifted_at
    return found


async def exclude_removals(connection: AsyncConnection) -> None:
    """Whoever wants to take something off the list waits until this transaction ends, as after `read`."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text(f"LOCK TABLE {model.liftings.name} IN ROW SHARE MODE"))


async def exclude_writers(connection: AsyncConnection) -> None:
    """Wait until nobody else writes to the list; others that want to write wait until this transaction ends.

    SQLite has one writer at a time anyway. On PostgreSQL a writer holds a lock on the table of liftings, by the FOR KEY
    SHARE of `read`, which this lock excludes. After the wait one sees what the others committed.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(text(f"LOCK TABLE {model.liftings.name} IN EXCLUSIVE MODE"))


async def record_removal(
    connection: AsyncConnection, keys: Collection[str], reasons: Collection[Reason], now: int
) -> None:
    """From now on no event that happened until `now` (Unix seconds) puts the address on the list for these reasons."""
    await record_liftings(connection, {(key, reason): now for key in keys for reason in reasons})


async def record_liftings(connection: AsyncConnection, lifted_at: Mapping[Key, int]) -> None:
    """From now on no event puts an address back on the list for a reason that happened until its time, Unix seconds."""
    rows = [
        {"address": address, "reason": str(reason), "lifted_at": lifted_at[address, reason]}
        for address, reason in sorted(lifted_at)
    ]
    await connection.execute(
        _record_removal_statement(connection.dialect.name), bulk.as_parameters(connection, rows)
    )


@lru_cache(maxsize=4)
def _reading(dialect: str) -> CompoundSelect[Any]:
    """Entries, liftings and rules in one query, as it runs for every batch."""
    stored, lifted, rule = model.suppressions.c, model.liftings.c, model.allow_rules.c
    entries = select(
        stored.address, stored.reason, stored.expires_at, literal_column(f"{_ENTRY}").label("kind")
    )
    over_complaints = case((rule.over_complaints, literal_column("1")), else_=literal_column("0"))
    rules = select(rule.pattern, literal_column("''"), over_complaints, literal_column(f"{_RULE}"))
    liftings = select(lifted.address, lifted.reason, lifted.lifted_at)
    locked = (
        liftings.where(bulk.is_one_of(dialect, lifted.address, "addresses"))
        .with_for_update(read=True, key_share=True)
        .subquery()
    )
    return union_all(
        entries.where(bulk.is_one_of(dialect, stored.address, "addresses")),
        select(locked, literal_column(f"{_LIFTING}")),
        rules.where(bulk.is_one_of(dialect, rule.pattern, "patterns")),
    )


@lru_cache(maxsize=4)
def _record_removal_statement(dialect: str) -> Insert:
    table = model.liftings
    adding = bulk.insert_statement(dialect, table, ("address", "reason", "lifted_at"))
    given = adding.excluded.lifted_at
    later = case((given > table.c.lifted_at, given), else_=table.c.lifted_at)
    return adding.on_conflict_do_update(
        index_elements=[table.c.address, table.c.reason], set_={"lifted_at": later}
    )
