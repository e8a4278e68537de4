"""The list for people who look through it: each step takes a bounded time, however long the list and however rare what is wanted.

A step reads one index from where the last one ended, and looks at some ten thousand entries at the most. What fits none of
the indexes is compared with each of these.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import and_, func, or_, select, tuple_

from bridge.suppression import list_filter, model, reading
from bridge.suppression.database import shielded
from bridge.suppression.entries import entry_of
from bridge.suppression.list_filter import ListFilter
from bridge.suppression.list_part import ListPart

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.entries import Entry

STEP: Final = 30_000
"""Entries that one step looks at, in the order of addresses: some 20 ms."""
_STEP_BY_TIME: Final = 10_000
"""The same in the order of a time: what is to be compared does not stand in the index, so each entry is read."""

_table: Final = model.suppressions
_key: Final = tuple_(_table.c.address, _table.c.reason)


class Place(NamedTuple):
    """Where a step ends: the next one begins behind it."""

    at: int
    """The time by which the entries are ordered, Unix seconds; 0 where they are ordered by address."""
    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class Part:
    """What one step has found."""

    entries: list[Entry]
    following: Place | None
    """Where to go on; None: there is no more."""


class Counted(NamedTuple):
    """How many entries there are."""

    entries: int
    complete: bool
    """False: there was no time to count them all; there are at least so many."""


@dataclass(frozen=True, slots=True)
class _Order:
    """An index that is read in its order, and what it leaves to be compared."""

    driving: ColumnElement[bool]
    """What the index answers."""
    rest: ColumnElement[bool]
    """What is compared with each entry, hidden from the planners: they would take the wrong index for it."""
    is_complete: bool
    """Whether there is no such rest."""
    time: Column[Any] | None = None
    """By which the entries are ordered first; None: by address and reason alone."""
    descending: bool = False

    def behind(self, place: Place | None) -> ColumnElement[bool]:
        """The entries that come behind this place, too, as a condition; None: all."""
        if place is None:
            return self.driving
        key = _key > tuple_(place.address, place.reason)
        if self.time is None:
            return and_(self.driving, key)
        later, from_there = (
            (self.time < place.at, self.time <= place.at)
            if self.descending
            else (self.time > place.at, self.time >= place.at)
        )
        return and_(self.driving, from_there, or_(later, key))

    def until(self, edge: Place) -> ColumnElement[bool]:
        """The entries up to this place of `_edge`."""
        if self.time is None:
            return _key <= tuple_(edge.address, edge.reason)
        return self.time > edge.at if self.descending else self.time < edge.at

    @property
    def step(self) -> int:
        """How many entries one step looks at."""
        return STEP if self.time is None else _STEP_BY_TIME

    def columns(self) -> list[ColumnElement[Any]]:
        """For ORDER BY."""
        key: list[ColumnElement[Any]] = [_table.c.address, _table.c.reason]
        if self.time is None:
            return key
        return [self.time.desc() if self.descending else self.time, *key]

    def place_of(self, entry: Entry) -> Place:
        at = 0 if self.time is None else getattr(entry, self.time.name)
        return Place(at, entry.address, entry.reason.value)


class Browsing(ListPart):
    """Reads the list step by step."""

    @shielded
    async def step(
        self,
        wanted: ListFilter = list_filter.ALL,
        *,
        limit: int,
        after: Place | None = None,
        look_at: int | None = None,
    ) -> Part:
        """The next entries, with expired ones: at most `limit`, and often fewer though there are more.

        They are ordered by the time of their last change, newest first, where `changed_since` is asked for; by their end,
        soonest first, where `expiring_before` is; else by address and reason.

        Args:
            wanted: which of them.
            limit: the maximum number.
            after: where the step before has ended.
            look_at: how many entries are looked at; None: as many as take some 50 ms.
        """
        order = _order_of(wanted)
        async with self._database.read() as connection:
            edge = await _edge(connection, order, after, look_at or order.step)
            query = select(_table).where(order.behind(after), order.rest)
            if edge is not None:
                query = query.where(order.until(edge))
            query = query.order_by(*order.columns()).limit(limit + 1)
            entries = [entry_of(row) for row in await connection.execute(query)]
        if len(entries) > limit:
            return Part(entries[:limit], order.place_of(entries[limit - 1]))
        return Part(entries, edge)

    async def count(
        self, wanted: ListFilter = list_filter.ALL, *, seconds: float, look_at: int | None = None
    ) -> Counted:
        """How many entries fit, with expired ones, as far as they can be counted in so many seconds."""
        order = _order_of(wanted)
        if order.is_complete:
            return Counted(await self._count(wanted), complete=True)
        until, entries, place = time.monotonic() + seconds, 0, None
        while True:
            found, place = await self._count_step(order, place, look_at)
            entries += found
            if place is None or time.monotonic() >= until:
                return Counted(entries, place is None)

    @shielded
    async def _count(self, wanted: ListFilter) -> int:
        async with self._database.read() as connection:
            return await reading.count_entries(connection, wanted)

    @shielded
    async def _count_step(
        self, order: _Order, after: Place | None, look_at: int | None
    ) -> tuple[int, Place | None]:
        async with self._database.read() as connection:
            edge = await _edge(connection, order, after, look_at or order.step)
            query = select(func.count()).select_from(_table).where(order.behind(after), order.rest)
            if edge is not None:
                query = query.where(order.until(edge))
            return (await connection.execute(query)).scalar_one(), edge


async def _edge(
    connection: AsyncConnection, order: _Order, after: Place | None, look_at: int
) -> Place | None:
    """Where a step ends that looks at so many entries, from the index alone; None: there are no more than that.

    Entries of one time are in one step, whatever their number.
    """
    chosen = (_table.c.address, _table.c.reason) if order.time is None else (order.time,)
    query = select(*chosen).where(order.behind(after)).order_by(*order.columns()[: len(chosen)])
    row = (await connection.execute(query.limit(1).offset(look_at))).first()
    if row is None:
        return None
    if order.time is None:
        return Place(0, row.address, row.reason)
    return Place(row[0] - 1 if order.descending else row[0] + 1, "", "")


def _order_of(wanted: ListFilter) -> _Order:
    stored = _table.c
    rest = replace(wanted, changed_since=None, expiring_before=None, domain=None)
    hidden: list[ColumnElement[bool]] = [rest.condition()]
    is_complete = rest == list_filter.ALL
    if wanted.changed_since is None and wanted.expiring_before is None:
        driving = ListFilter(domain=wanted.domain).condition()
        return _Order(driving, and_(*hidden), is_complete)
    if wanted.domain is not None:
        hidden.append(stored.domain.concat("") == wanted.domain)
    if wanted.changed_since is None:
        driving = ListFilter(expiring_before=wanted.expiring_before).condition()
        return _Order(driving, and_(*hidden), is_complete and wanted.domain is None, stored.expires_at)
    if wanted.expiring_before is not None:
        hidden.append(stored.expires_at + 0 < wanted.expiring_before)
    driving = ListFilter(changed_since=wanted.changed_since).condition()
    return _Order(
        driving, and_(*hidden), is_complete and len(hidden) == 1, stored.updated_at, descending=True
    )
