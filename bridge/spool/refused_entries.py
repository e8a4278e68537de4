"""Entries of a spool file that RabbitMQ refuses: set aside, so that all others go, and tried again now and then. Blocking.

Each function that begins with `to_` makes a task for the file: it runs in one transaction, which is on the disk when its
result is there. That an entry is tried is written before it is tried: neither a kill nor a disk can have it tried at once
again and again.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Container
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from bridge.amqp.backoff import after_refusals
from bridge.spool.folder import SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

T = TypeVar("T")

Task = Callable[[sqlite3.Connection, Container[int]], T]
"""Is given the file, and the ids of entries that count as removed although the disk has refused that."""
Row = tuple[int, int, bytes]
"""Id, time and body of an entry."""

NACKED, FORBIDDEN, TOO_LARGE, REFUSED = "nacked", "forbidden", "too-large", "refused"
"""Reasons, for the metrics: basic.nack; 403 for the routing key; 406 for the size; the channel was closed otherwise."""
REASONS: Final = (NACKED, FORBIDDEN, TOO_LARGE, REFUSED)

_SOON_SECONDS: Final = 2
_MOST_FORWARD: Final = 1000
"""Entries of one kind: a file with a million must not hold up the next commit."""
MOST_KINDS: Final = 1000
"""In one file. Names come from the provider, who may think of any number of them; the rest share one kind."""
_REST: Final = "(others)"

SCHEMA: Final = (
    """
    CREATE TABLE IF NOT EXISTS set_aside (
        id INTEGER PRIMARY KEY, received_at INTEGER NOT NULL, body BLOB NOT NULL,
        kind TEXT NOT NULL, attempts INTEGER NOT NULL, retry_at INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX IF NOT EXISTS set_aside_due ON set_aside (kind, retry_at, id)",
    """
    CREATE TABLE IF NOT EXISTS refusals (
        kind TEXT PRIMARY KEY, reason TEXT NOT NULL, routing_key TEXT NOT NULL, said TEXT NOT NULL,
        attempts INTEGER NOT NULL, retry_at INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX IF NOT EXISTS refusals_due ON refusals (retry_at)",
)

_SEEN: Final = """
    SELECT reason, routing_key, said, attempts, retry_at,
           (SELECT count(*) FROM set_aside WHERE set_aside.kind = refusals.kind) AS entries
    FROM refusals ORDER BY entries DESC, kind
"""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What RabbitMQ refuses, so that whatever is refused for the same cause has the same kind."""

    reason: str
    """One of `REASONS`."""
    routing_key: str
    """Under which all of it is published; empty where that has nothing to do with it."""
    said: str
    """RabbitMQ's own words."""

    @property
    def kind(self) -> str:
        return f"{self.reason} {self.routing_key}".rstrip()


@dataclass(frozen=True, slots=True)
class AsideSeen:
    """One kind, for people and metrics."""

    reason: str
    routing_key: str
    said: str
    attempts: int
    """In vain, one after the other."""
    retry_at: int
    """When the next entry of it is tried, Unix milliseconds."""
    entries: int


def to_set_aside(refusal: Refusal, ids: Iterable[int]) -> Task[None]:
    """These entries are refused; they are not among the others from now on."""

    def task(connection: sqlite3.Connection, _: Container[int]) -> None:
        now = _now()
        # What was nacked is in the other queues already: each further attempt puts a copy there.
        attempts = 1 if refusal.reason == NACKED else 0
        kind = _kept_kind(connection, refusal)
        connection.execute(
            "INSERT INTO refusals VALUES (?, ?, ?, ?, 1, ?) ON CONFLICT (kind) DO UPDATE SET said = excluded.said",
            (kind, refusal.reason, refusal.routing_key, refusal.said, now + _wait(1)),
        )
        for one in ids:
            retry_at = now + _wait(attempts) if attempts else now
            connection.execute(
                "INSERT INTO set_aside SELECT id, received_at, body, ?, ?, ? FROM entries WHERE id = ?",
                (kind, attempts, retry_at, one),
            )
            connection.execute("DELETE FROM entries WHERE id = ?", (one,))

    return task


def to_find_due(limit: int, *, all_of_them: bool = False) -> Task[list[tuple[str, str]]]:
    """Kinds that are to be tried now, the longest due first, each with its reason."""

    def task(connection: sqlite3.Connection, _: Container[int]) -> list[tuple[str, str]]:
        found = connection.execute(
            "SELECT kind, reason FROM refusals WHERE ? OR retry_at <= ? ORDER BY retry_at LIMIT ?",
            (all_of_them, _now(), -1 if all_of_them else limit),
        )
        return found.fetchall()

    return task


def to_try(kind: str, limit: int, *, all_of_them: bool = False) -> Task[list[Row]]:
    """Entries of this kind that are due, the longest due first: they, and the kind, have one attempt more.

    Without any, the kind rests until one is.
    """

    def task(connection: sqlite3.Connection, removed: Container[int]) -> list[Row]:
        now = _now()
        found = connection.execute(
            "SELECT id, received_at, body, attempts FROM set_aside WHERE kind = ? AND (? OR retry_at <= ?) "
            "ORDER BY retry_at, id LIMIT ?",
            (kind, all_of_them, now, limit),
        ).fetchall()
        for one, _, _, attempts in found:
            connection.execute(
                "UPDATE set_aside SET attempts = attempts + 1, retry_at = ? WHERE id = ?",
                (now + _wait(attempts + 1), one),
            )
        if found:
            _count_attempt(connection, kind, now)
        else:
            _rest(connection, kind)
        return [(one, received_at, body) for one, received_at, body, _ in found if one not in removed]

    return task


def to_hasten(kinds: Iterable[str]) -> Task[None]:
    """There is reason to believe that these are not refused any more: they are tried soon, though not at once."""

    def task(connection: sqlite3.Connection, _: Container[int]) -> None:
        soon = _now() + 1000 * _SOON_SECONDS
        for kind in kinds:
            _bring_forward(connection, kind, soon)

    return task


def to_note_passed(kind: str) -> Task[None]:
    """An entry of it was confirmed: the others may be tried at once."""

    def task(connection: sqlite3.Connection, _: Container[int]) -> None:
        connection.execute("UPDATE refusals SET attempts = 0, retry_at = ? WHERE kind = ?", (_now(), kind))

    return task


def to_note_refused(kind: str, said: str) -> Task[None]:
    """What RabbitMQ said this time."""

    def task(connection: sqlite3.Connection, _: Container[int]) -> None:
        connection.execute("UPDATE refusals SET said = ? WHERE kind = ?", (said, kind))

    return task


def to_look() -> Task[tuple[AsideSeen, ...]]:
    """All kinds. It counts every entry that is set aside: not to be asked for all the time."""
    return lambda connection, _: _look(connection)


def look(path: Path) -> tuple[AsideSeen, ...]:
    """What is set aside in a file that another process may have open.

    Raises:
        SpoolError: it cannot be read.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return _look(connection) if has_tables(connection) else ()
    except sqlite3.DatabaseError as error:
        raise SpoolError(f"{path}: {error}") from error


def hasten(path: Path) -> None:
    """Have whoever has this file try all that is set aside in it now.

    Raises:
        SpoolError: it cannot be written.
    """
    try:
        with (
            closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection,
            connection,
        ):
            if has_tables(connection):
                for (kind,) in connection.execute("SELECT kind FROM refusals").fetchall():
                    _bring_forward(connection, kind, 0)
    except sqlite3.DatabaseError as error:
        raise SpoolError(f"{path}: {error}") from error


def _look(connection: sqlite3.Connection) -> tuple[AsideSeen, ...]:
    seen = (AsideSeen(*row) for row in connection.execute(_SEEN))
    return tuple(one for one in seen if one.entries)


def has_tables(connection: sqlite3.Connection) -> bool:
    """Whether anything can be set aside in it: a file of a release before this one has no place for it."""
    found = connection.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('set_aside', 'refusals')")
    return bool(found.fetchone()[0] == 2)  # noqa: PLR2004 -- two names are asked for


def _kept_kind(connection: sqlite3.Connection, refusal: Refusal) -> str:
    known, kinds = connection.execute(
        "SELECT count(*) FILTER (WHERE kind = ?), count(*) FROM refusals", (refusal.kind,)
    ).fetchone()
    return refusal.kind if known or kinds < MOST_KINDS else f"{refusal.reason} {_REST}"


def _count_attempt(connection: sqlite3.Connection, kind: str, now: int) -> None:
    row = connection.execute("SELECT attempts FROM refusals WHERE kind = ?", (kind,)).fetchone()
    attempts = (row[0] if row else 0) + 1
    connection.execute(
        "UPDATE refusals SET attempts = ?, retry_at = ? WHERE kind = ?",
        (attempts, now + _wait(attempts), kind),
    )


def _bring_forward(connection: sqlite3.Connection, kind: str, to: int) -> None:
    """So many of its entries as are tried when one has passed; for most others it is time already."""
    connection.execute("UPDATE refusals SET retry_at = min(retry_at, ?) WHERE kind = ?", (to, kind))
    connection.execute(
        "UPDATE set_aside SET retry_at = ? WHERE id IN "
        "(SELECT id FROM set_aside WHERE kind = ? AND retry_at > ? ORDER BY retry_at LIMIT ?)",
        (to, kind, to, _MOST_FORWARD),
    )


def _rest(connection: sqlite3.Connection, kind: str) -> None:
    row = connection.execute("SELECT min(retry_at) FROM set_aside WHERE kind = ?", (kind,)).fetchone()
    if row[0] is None:
        connection.execute("DELETE FROM refusals WHERE kind = ?", (kind,))
    else:
        connection.execute("UPDATE refusals SET retry_at = ? WHERE kind = ?", (row[0], kind))


def _wait(attempts: int) -> int:
    """Milliseconds."""
    return round(1000 * after_refusals(attempts))


def _now() -> int:
    return time.time_ns() // 1_000_000
