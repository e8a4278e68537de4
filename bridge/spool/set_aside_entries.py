"""Set-aside entries: RabbitMQ refused them. They are in a table of their own, so that all others can be drained. Blocking.

Each function whose name starts with `to_` returns a task for the file. A task runs in one transaction, which is fsynced
before its result is returned. Each kind is retried with backoff. An attempt is recorded before it is made, so that neither a kill nor a failing disk leads to
attempts without a pause.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from bridge.amqp.backoff import backoff_seconds
from bridge.timestamps import unix_ms_now

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

EntryTask = Callable[[sqlite3.Connection, Container[int]], T]
"""Called with the connection, and the ids that count as removed although the disk has not removed them yet."""
Row = tuple[int, int, bytes, str | None]
"""Of an entry, for `entry_of`."""

NACKED, FORBIDDEN, TOO_LARGE, REFUSED = "nacked", "forbidden", "too-large", "refused"
"""Reasons, also in the metrics: `basic.nack`; 403 for the routing key; 406 for the size; any other channel close."""
REASONS: Final = (NACKED, FORBIDDEN, TOO_LARGE, REFUSED)

_SOON_SECONDS: Final = 2
"""Pause for a kind of which live events are confirmed again."""
_MAX_BROUGHT_FORWARD: Final = 1000
"""Entries of one kind: a file with a million must not delay the next commit."""
MAX_KINDS: Final = 1000
"""In one file. Event names come from the provider, so their number has no limit; the rest share one kind."""
_OTHER_KINDS: Final = "(others)"

# The column `said` holds `Refusal.reply_text`: files of earlier releases have it under this name.
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

_SELECT_DUE: Final = """
    SELECT id, received_at, body, (SELECT trace FROM traces WHERE traces.id = set_aside.id), attempts
    FROM set_aside WHERE kind = ? AND (? OR retry_at <= ?) ORDER BY retry_at, id LIMIT ?
"""
_SELECT_SET_ASIDE: Final = """
    SELECT reason, routing_key, said, attempts, retry_at,
           (SELECT count(*) FROM set_aside WHERE set_aside.kind = refusals.kind) AS entries
    FROM refusals ORDER BY entries DESC, kind
"""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal by RabbitMQ. Entries refused for the same cause have the same kind."""

    reason: str
    """One of `REASONS`."""
    routing_key: str
    """The routing key that is refused; empty if the cause is another."""
    reply_text: str
    """RabbitMQ's own text; "basic.nack" for a nack, which has none."""

    @property
    def kind(self) -> str:
        """Of the entries that are refused for this cause: the reason, and the routing key if there is one."""
        return f"{self.reason} {self.routing_key}".rstrip()


@dataclass(frozen=True, slots=True)
class SetAsideKind:
    """The set-aside entries of one kind, for people and metrics."""

    reason: str
    """One of `REASONS`."""
    routing_key: str
    """As in `Refusal`."""
    reply_text: str
    """RabbitMQ's text of the last refusal."""
    attempts: int
    """Failed in a row."""
    retry_at: int
    """When the next entry of this kind is tried, Unix milliseconds."""
    entries: int


def to_set_aside(refusal: Refusal, ids: Iterable[int]) -> EntryTask[None]:
    """Set these entries aside."""

    def task(connection: sqlite3.Connection, _: Container[int]) -> None:
        now = unix_ms_now()
        # A nacked message is already in the other queues, and each attempt adds a copy there.
        attempts = 1 if refusal.reason == NACKED else 0
        kind = _stored_kind(connection, refusal)
        connection.execute(
            "INSERT INTO refusals VALUES (?, ?, ?, ?, 1, ?) ON CONFLICT (kind) DO UPDATE SET said = excluded.said",
            (kind, refusal.reason, refusal.routing_key, refusal.reply_text, now + _backoff_ms(1)),
        )
        for one in ids:
            retry_at = now + _backoff_ms(attempts) if attempts else now
            connection.execute(
                "INSERT INTO set_aside SELECT id, received_at, body, ?, ?, ? FROM entries WHERE id = ?",
                (kind, attempts, retry_at, one),
            )
            connection.execute("DELETE FROM entries WHERE id = ?", (one,))

    return task


def to_find_due_kinds(limit: int, *, all_of_them: bool = False) -> EntryTask[list[tuple[str, str]]]:
    """The kinds that are due, the longest due first, each with its reason."""

    def task(connection: sqlite3.Connection, _: Container[int]) -> list[tuple[str, str]]:
        found = connection.execute(
            "SELECT kind, reason FROM refusals WHERE ? OR retry_at <= ? ORDER BY retry_at LIMIT ?",
            (all_of_them, unix_ms_now(), -1 if all_of_them else limit),
        )
        return found.fetchall()

    return task


def to_take_due(kind: str, limit: int, *, all_of_them: bool = False) -> EntryTask[list[Row]]:
    """Take the entries of this kind that are due, the longest due first, and count an attempt for them and the kind.

    If there is none, the kind waits until one is due.
    """

    def task(connection: sqlite3.Connection, removed: Container[int]) -> list[Row]:
        now = unix_ms_now()
        found = connection.execute(
            _SELECT_DUE,
            (kind, all_of_them, now, limit),
        ).fetchall()
        for one, _, _, _, attempts in found:
            connection.execute(
                "UPDATE set_aside SET attempts = attempts + 1, retry_at = ? WHERE id = ?",
                (now + _backoff_ms(attempts + 1), one),
            )
        if found:
            _count_attempt(connection, kind, now)
        else:
            _wait_for_next(connection, kind)
        return [row[:-1] for row in found if row[0] not in removed]

    return task


def to_retry_soon(kinds: Iterable[str]) -> EntryTask[None]:
    """Retry these kinds soon: there is reason to believe that they are no longer refused."""

    def task(connection: sqlite3.Connection, _: Container[int]) -> None:
        soon = unix_ms_now() + 1000 * _SOON_SECONDS
        for kind in kinds:
            _bring_forward(connection, kind, soon)

    return task


def to_retry_now() -> EntryTask[None]:
    """Make all set-aside entries due now."""

    def task(connection: sqlite3.Connection, _: Container[int]) -> None:
        for (kind,) in connection.execute("SELECT kind FROM refusals").fetchall():
            _bring_forward(connection, kind, 0)

    return task


def to_record_confirmed(kind: str) -> EntryTask[None]:
    """An entry of this kind was confirmed: the others are due at once."""

    def task(connection: sqlite3.Connection, _: Container[int]) -> None:
        connection.execute(
            "UPDATE refusals SET attempts = 0, retry_at = ? WHERE kind = ?", (unix_ms_now(), kind)
        )

    return task


def to_record_refusal(kind: str, reply_text: str) -> EntryTask[None]:
    """Record RabbitMQ's text of the last refusal."""

    def task(connection: sqlite3.Connection, _: Container[int]) -> None:
        connection.execute("UPDATE refusals SET said = ? WHERE kind = ?", (reply_text, kind))

    return task


def to_read_set_aside() -> EntryTask[tuple[SetAsideKind, ...]]:
    """All kinds of set-aside entries. It counts every entry, which takes time."""

    def task(connection: sqlite3.Connection, _: Container[int]) -> tuple[SetAsideKind, ...]:
        found = (SetAsideKind(*row) for row in connection.execute(_SELECT_SET_ASIDE))
        return tuple(one for one in found if one.entries)

    return task


def has_tables(connection: sqlite3.Connection) -> bool:
    """Whether it has the tables of set-aside entries. A file of an earlier release does not."""
    found = connection.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('set_aside', 'refusals')")
    return bool(found.fetchone()[0] == 2)  # noqa: PLR2004 -- two names are asked for


def _stored_kind(connection: sqlite3.Connection, refusal: Refusal) -> str:
    known, kinds = connection.execute(
        "SELECT count(*) FILTER (WHERE kind = ?), count(*) FROM refusals", (refusal.kind,)
    ).fetchone()
    return refusal.kind if known or kinds < MAX_KINDS else f"{refusal.reason} {_OTHER_KINDS}"


def _count_attempt(connection: sqlite3.Connection, kind: str, now: int) -> None:
    row = connection.execute("SELECT attempts FROM refusals WHERE kind = ?", (kind,)).fetchone()
    attempts = (row[0] if row else 0) + 1
    connection.execute(
        "UPDATE refusals SET attempts = ?, retry_at = ? WHERE kind = ?",
        (attempts, now + _backoff_ms(attempts), kind),
    )


def _bring_forward(connection: sqlite3.Connection, kind: str, to: int) -> None:
    """Make the kind due at `to`, and as many of its entries as one round of retries needs."""
    connection.execute("UPDATE refusals SET retry_at = min(retry_at, ?) WHERE kind = ?", (to, kind))
    connection.execute(
        "UPDATE set_aside SET retry_at = ? WHERE id IN "
        "(SELECT id FROM set_aside WHERE kind = ? AND retry_at > ? ORDER BY retry_at LIMIT ?)",
        (to, kind, to, _MAX_BROUGHT_FORWARD),
    )


def _wait_for_next(connection: sqlite3.Connection, kind: str) -> None:
    row = connection.execute("SELECT min(retry_at) FROM set_aside WHERE kind = ?", (kind,)).fetchone()
    if row[0] is None:
        connection.execute("DELETE FROM refusals WHERE kind = ?", (kind,))
    else:
        connection.execute("UPDATE refusals SET retry_at = ? WHERE kind = ?", (row[0], kind))


def _backoff_ms(attempts: int) -> int:
    """Milliseconds."""
    return round(1000 * backoff_seconds(attempts))
