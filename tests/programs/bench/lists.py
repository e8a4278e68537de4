"""Long lists for measurements: made by one statement, since a worker would take hours for ten million entries."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

import asyncpg
from yarl import URL

from bridge.suppression.store import Store

if TYPE_CHECKING:
    import random

_DOMAINS: Final = 1000
"""Each has as many addresses as another."""
_AT: Final = 1539062173
_EVIDENCE: Final = '{"message":{"id":1},"event":{"name":"hard_bounced","timestamp":1539062173}}'
_INSERT: Final = (
    "INSERT INTO suppressions (address, reason, original, first_event_at, last_event_at, count, message_id, "
    "evidence, created_at, updated_at, expires_at, domain)"
)
_ADDRESS: Final = "{number} || '@d' || (n % {domains}) || '.example.org'"
_ROW: Final = (
    "{address}, 'hard_bounce', {address}, {at}, {at}, 1, n, {evidence}, {at}, {at} + n / 100, NULL, "
    "'d' || (n % {domains}) || '.example.org'"
)


def address(number: int) -> str:
    """An address of a list: each second number is on it."""
    return f"r{number:09}@d{number % _DOMAINS}.example.org"


def addresses(count: int, entries: int, *, share: float, chance: random.Random) -> list[str]:
    """So many different ones, of which this share is on a list of that many entries."""
    listed = round(count * share)
    numbers = [2 * one for one in chance.sample(range(entries), listed)]
    numbers += [2 * one + 1 for one in chance.sample(range(entries), count - listed)]
    chance.shuffle(numbers)
    return [address(number) for number in numbers]


async def fill(database_url: str, entries: int) -> None:
    """Make the list, with the addresses of the even numbers below twice this number."""
    async with Store.open(database_url):
        pass
    if URL(database_url).scheme.startswith("sqlite"):
        await asyncio.to_thread(_fill_sqlite, URL(database_url).path, entries)
    else:
        await _fill_postgresql(database_url.replace("+asyncpg", ""), entries)


def _row(number: str, evidence: str) -> str:
    place = _ADDRESS.format(number=number, domains=_DOMAINS)
    return _ROW.format(address=place, at=_AT, evidence=evidence, domains=_DOMAINS)


def _fill_sqlite(path: str, entries: int) -> None:
    row = _row("printf('r%09d', n)", f"CAST('{_EVIDENCE}' AS BLOB)")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("PRAGMA cache_size = -400000")
        numbers = "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 2 FROM numbers LIMIT ?)"
        database.execute(f"{numbers} {_INSERT} SELECT {row} FROM numbers", (entries,))  # noqa: S608 -- of constants


async def _fill_postgresql(dsn: str, entries: int) -> None:
    row = _row("'r' || lpad(n::text, 9, '0')", f"'{_EVIDENCE}'::bytea")
    connection = await asyncpg.connect(dsn)
    try:
        numbers = f"generate_series(0, {2 * entries - 2}, 2) AS numbers (n)"
        await connection.execute(f"{_INSERT} SELECT {row} FROM {numbers}")  # noqa: S608 -- of constants
        await connection.execute("VACUUM ANALYZE suppressions")
        await connection.execute("CHECKPOINT")  # else it is made while we measure
    finally:
        await connection.close()
