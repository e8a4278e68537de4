"""Takes an erased address out of texts: notes and names in the change log and in rules, answers that are kept."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import orjson
from sqlalchemy import bindparam, func, or_, select, update

from bridge.suppression import model

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import Column, ColumnElement, Table

    from bridge.suppression.database import Database

_CHANGES: Final = 20_000
"""Changes that are searched in one statement."""
_ANSWERS: Final = 50
"""Answers that are in memory at once: one may have a thousand addresses."""

_TEXTS: Final = {
    "notes": (model.changes, model.changes.c.id, (model.changes.c.note, model.changes.c.actor)),
    "notes of rules": (
        model.allow_rules, model.allow_rules.c.pattern, (model.allow_rules.c.note, model.allow_rules.c.actor),
    ),
    "notes of erasures": (
        model.erasures, model.erasures.c.key, (model.erasures.c.note, model.erasures.c.actor),
    ),
}  # fmt: skip


async def erase(database: Database, spellings: Collection[str], key: str) -> dict[str, int]:
    """Put the hash in the place of the address, wherever people have written it. Small transactions: reading takes longer.

    Args:
        database: the list's.
        spellings: of the address; upper and lower case are one.
        key: the hash that stands for the person.

    Returns:
        What -> in how many rows it was.

    Raises:
        StoreError: the list cannot be read or written.
    """
    pattern = pattern_of(spellings)
    if pattern is None:
        return {}
    found = {"notes": await _erase_from_changes(database, spellings, pattern, key)}
    for name in ("notes of rules", "notes of erasures"):
        found[name] = await _erase_from(database, name, spellings, pattern, key)
    found["answers"] = await _erase_from_answers(database, pattern, key)
    return found


def pattern_of(spellings: Collection[str]) -> re.Pattern[str] | None:
    """Matches each of these spellings where it stands alone, also as JSON has it; None if there are none."""
    forms = {form for one in spellings if one for form in (one, orjson.dumps(one).decode()[1:-1])}
    if not forms:
        return None
    one_of = "|".join(map(re.escape, sorted(forms, key=len, reverse=True)))
    return re.compile(rf"(?<![\w.+-])(?:{one_of})(?![\w-])", re.IGNORECASE)


def replaced(text: str, pattern: re.Pattern[str] | None, key: str) -> str:
    """The text with the hash in the place of the address."""
    return text if pattern is None else pattern.sub(key, text)


async def _erase_from_changes(
    database: Database, spellings: Collection[str], pattern: re.Pattern[str], key: str
) -> int:
    """Range by range of ids: one statement over a log of millions would take too long."""
    table, row_id, columns = _TEXTS["notes"]
    async with database.read() as connection:
        first, last = (await connection.execute(select(func.min(row_id), func.max(row_id)))).one()
    found = 0
    for start in range(first or 0, (last or -1) + 1, _CHANGES):
        part = row_id.between(start, start + _CHANGES - 1)
        found += await _erase_where(
            database, (table, row_id, columns), part & _mentions(columns, spellings), pattern, key
        )
    return found


async def _erase_from(
    database: Database, name: str, spellings: Collection[str], pattern: re.Pattern[str], key: str
) -> int:
    where = _TEXTS[name]
    return await _erase_where(database, where, _mentions(where[2], spellings), pattern, key)


async def _erase_where(
    database: Database,
    where: tuple[Table, Column[Any], Sequence[Column[Any]]],
    condition: ColumnElement[bool],
    pattern: re.Pattern[str],
    key: str,
) -> int:
    table, row_id, columns = where
    async with database.read() as connection:
        rows = list(await connection.execute(select(row_id, *columns).where(condition)))
    rows = [row for row in rows if any(pattern.search(text) for text in row[1:])]
    if not rows:
        return 0
    new = {column.name: f"new_{column.name}" for column in columns}
    changed = [
        {"row": row[0]}
        | {
            new[column.name]: replaced(text, pattern, key)
            for column, text in zip(columns, row[1:], strict=True)
        }
        for row in rows
    ]
    setting = update(table).where(row_id == bindparam("row", type_=row_id.type))
    async with database.write() as connection:
        await database.overwrite_deleted(connection)
        await connection.execute(
            setting.values({column: bindparam(name) for column, name in new.items()}), changed
        )
    return len(rows)


def _mentions(columns: Sequence[Column[Any]], spellings: Collection[str]) -> ColumnElement[bool]:
    """A quick look of the database itself, which finds too much rather than too little."""
    return or_(
        *(
            func.lower(column).contains(one.lower(), autoescape=True)
            for column in columns
            for one in spellings
            if one
        )
    )


async def _erase_from_answers(database: Database, pattern: re.Pattern[str], key: str) -> int:
    """Their requests may be repeated for a day: what they did stays known, whom they did it to does not."""
    table = model.idempotent_requests
    page = select(table.c.key, table.c.answer).order_by(table.c.key).limit(_ANSWERS)
    after, found = "", 0
    while True:
        async with database.read() as connection:
            rows = list(await connection.execute(page.where(table.c.key > after)))
        if not rows:
            return found
        after = rows[-1].key
        answers = {row.key: bytes(row.answer).decode(errors="surrogateescape") for row in rows}
        naming = {one: text for one, text in answers.items() if pattern.search(text)}
        for one, text in naming.items():
            answer = replaced(text, pattern, key).encode(errors="surrogateescape")
            async with database.write() as connection:
                await database.overwrite_deleted(connection)
                await connection.execute(update(table).where(table.c.key == one).values(answer=answer))
        found += len(naming)
