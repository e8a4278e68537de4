"""What causes make of an entry, whatever the order in which they come: of several at once, and on top of what is on the list."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import LargeBinary, Text, case, func, literal_column, null, tuple_

from bridge.suppression import bulk, model
from bridge.suppression.address_keys import domain_of
from bridge.suppression.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnCollection, ColumnElement
    from sqlalchemy.sql.dml import ReturningInsert

    from bridge.suppression.current_state import Key
    from bridge.suppression.writing import Cause

    Row = dict[str, Any]

_OF_CAUSE: Final = ("original",)
_OF_EVENT: Final = ("message_id", "evidence")
"""The columns that tell of the earliest cause."""


def merged(causes: Sequence[Cause], now: int) -> dict[Key, Row]:
    """One row for each entry: a statement can insert or update an entry only once."""
    rows: dict[Key, Row] = {}
    for cause in sorted(causes, key=_order):
        key = cause.key
        row = rows.get(key)
        if row is None:
            rows[key] = {
                "address": cause.address,
                "reason": str(cause.reason),
                "original": cause.original,
                "first_event_at": cause.at,
                "last_event_at": cause.at,
                "count": 1,
                "message_id": cause.message_id,
                "evidence": cause.evidence,
                "created_at": now,
                "updated_at": now,
                "expires_at": cause.expires_at,
                "domain": domain_of(cause.address),
            }
        else:
            row["last_event_at"] = max(row["last_event_at"], cause.at)
            row["count"] += 1
            row["expires_at"] = later(row["expires_at"], cause.expires_at)
    return rows


def later(one: int | None, other: int | None) -> int | None:
    """The later of two ends; None: never."""
    return None if one is None or other is None else max(one, other)


def _order(cause: Cause) -> tuple[int, str, bytes]:
    """The earliest cause comes first; of the same second any, but always the same one."""
    return cause.at, cause.message_id or "", cause.evidence or b""


@lru_cache(maxsize=4)
def upsert_statement(dialect: str) -> ReturningInsert[Any]:
    """Insert an entry, or add to it, so that the order in which its causes come makes no difference.

    The cause is the earliest one, and it never expires earlier than before. An entry for soft bounces that a person adds to
    is the person's from then on: it has no message.
    """
    stored = model.suppressions.c
    adding = bulk.insert_statement(dialect, model.suppressions, tuple(column.name for column in stored))
    given = adding.excluded
    for_good = stored.expires_at.is_(None) | given.expires_at.is_(None)
    earlier = tuple_(*_sort_columns(given, dialect)) < tuple_(*_sort_columns(stored, dialect))
    by_person = stored.reason == literal_column(
        f"'{Reason.SOFT_BOUNCE.value}'"
    )  # its events take another way: `soft_bounce_entries`
    cause = {name: case((earlier, given[name]), else_=stored[name]) for name in _OF_CAUSE} | {
        name: case((by_person | earlier, given[name]), else_=stored[name]) for name in _OF_EVENT
    }
    return adding.on_conflict_do_update(
        index_elements=[stored.address, stored.reason],
        set_=cause
        | {
            "first_event_at": _smaller(stored.first_event_at, given.first_event_at),
            "last_event_at": _greater(stored.last_event_at, given.last_event_at),
            "count": stored.count + given.count,
            "updated_at": given.updated_at,
            "expires_at": case((for_good, null()), else_=_greater(stored.expires_at, given.expires_at)),
        },
    ).returning(stored.address, stored.reason, stored.count, stored.expires_at)


def _sort_columns(
    of: ColumnCollection[str, ColumnElement[Any]], dialect: str
) -> tuple[ColumnElement[Any], ...]:
    """As `_order`, in the database."""
    # Constants stand in the statement: as parameters each would be looked at anew for each row.
    message_id: ColumnElement[str] = func.coalesce(of.message_id, literal_column("''", Text()))
    nothing = literal_column(r"'\x'::bytea" if dialect == "postgresql" else "x''", LargeBinary())
    if dialect == "postgresql":  # or it sorts by the database's locale
        message_id = message_id.collate("C")
    return of.first_event_at, message_id, func.coalesce(of.evidence, nothing)


# SQLite's `min` and `max` of two values are LEAST and GREATEST in PostgreSQL; CASE works in both.
def _smaller(one: ColumnElement[int], other: ColumnElement[int]) -> ColumnElement[int]:
    return case((other < one, other), else_=one)


def _greater(one: ColumnElement[int], other: ColumnElement[int]) -> ColumnElement[int]:
    return case((other > one, other), else_=one)
