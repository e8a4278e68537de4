"""The list as a file: CSV or a JSON document a line, page by page, so that it may be longer than the memory."""

from __future__ import annotations

import csv
import io
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

import orjson
from sqlalchemy import func, select, tuple_

from bridge.suppression import model
from bridge.suppression.database import shielded
from bridge.suppression.transfer.cells import escaped
from bridge.suppression.transfer.times import as_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from sqlalchemy import ColumnElement

    from bridge.suppression.database import Database

Format = Literal["csv", "ndjson"]

COLUMNS: Final = (
    "address", "reason", "original", "first_event_at", "last_event_at", "count", "message_id", "created_at",
    "updated_at", "expires_at",
)  # fmt: skip
"""All of an entry but its evidence."""
EVIDENCE: Final = "evidence"
"""The event as the provider sent it, in Base64: the last column, where it is asked for."""

_PAGE: Final = 1000
"""Entries that are read and written at once: a few milliseconds, so that others who share the loop do not wait long."""


class Condition(Protocol):
    """Which entries are wanted: a `ListFilter`."""

    def condition(self) -> ColumnElement[bool]:
        """The same for a query of the table `suppressions`."""


class Part(NamedTuple):
    """A part of a file."""

    data: bytes
    entries: int
    """How many are in it."""


class Exporter:
    """Writes the list out. It locks nobody out: a page is as the list was when it was read."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        """Args: the list's database; the time in Unix seconds."""
        self._database = database
        self._clock = clock

    @shielded
    async def last_change(self) -> int:
        """The id of the last change of the list; 0: none is kept. Every change up to it is in an export begun after this.

        Raises:
            StoreError: the list cannot be read (`StoreUnavailableError` where waiting may help).
        """
        async with self._database.read() as connection:
            return (await connection.execute(select(func.max(model.changes.c.id)))).scalar_one() or 0

    async def chunks(
        self, form: Format, chosen: Condition | None = None, *, evidence: bool = False
    ) -> AsyncIterator[bytes]:
        """The entries in force, ordered by address and reason: parts of a file in UTF-8, each of whole lines.

        Of a list that nobody changes meanwhile, an import of the file into an empty list is exported as the same bytes.

        Args:
            form: CSV (RFC 4180, with a header), or a JSON document a line.
            chosen: which entries; None: all.
            evidence: whether the evidence is in it.

        Raises:
            StoreError: the list cannot be read (`StoreUnavailableError` where waiting may help).
        """
        async for part in self.parts(form, chosen, evidence=evidence):
            yield part.data

    async def parts(
        self, form: Format, chosen: Condition | None = None, *, evidence: bool = False
    ) -> AsyncIterator[Part]:
        """The same, with the number of entries in each part."""
        written = _csv if form == "csv" else _ndjson
        names = (*COLUMNS, EVIDENCE) if evidence else COLUMNS
        if form == "csv":
            yield Part(_lines([names]), 0)
        after: tuple[str, str] | None = None
        while rows := await self._page(names, chosen, after):
            yield Part(written(names, rows), len(rows))
            after = rows[-1][0], rows[-1][1]

    @shielded
    async def _page(
        self, names: Sequence[str], chosen: Condition | None, after: tuple[str, str] | None
    ) -> Sequence[Any]:
        stored = model.suppressions.c
        in_force = stored.expires_at.is_(None) | (stored.expires_at > int(self._clock()))
        query = select(*(stored[name] for name in names)).where(in_force)
        if chosen is not None:
            query = query.where(chosen.condition())
        if after is not None:
            query = query.where(tuple_(stored.address, stored.reason) > tuple_(*after))
        query = query.order_by(stored.address, stored.reason).limit(_PAGE)
        async with self._database.read() as connection:
            return (await connection.execute(query)).all()


def _csv(names: Sequence[str], rows: Sequence[Any]) -> bytes:
    with_evidence = names[-1] == EVIDENCE
    lines = []
    for row in rows:
        address, reason, original, first, last, count, message_id, created, updated, expires = row[:10]
        cells = (
            escaped(address),
            reason,
            escaped(original),
            as_text(first),
            as_text(last),
            count,
            escaped(message_id or ""),
            as_text(created),
            as_text(updated),
            "" if expires is None else as_text(expires),
        )
        lines.append((*cells, escaped(_base64(row[10]) or "")) if with_evidence else cells)
    return _lines(lines)


def _lines(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _ndjson(names: Sequence[str], rows: Sequence[Any]) -> bytes:
    with_evidence = names[-1] == EVIDENCE
    lines = []
    for row in rows:
        address, reason, original, first, last, count, message_id, created, updated, expires = row[:10]
        document = {
            "address": address,
            "reason": reason,
            "original": original,
            "first_event_at": as_text(first),
            "last_event_at": as_text(last),
            "count": count,
            "message_id": message_id,
            "created_at": as_text(created),
            "updated_at": as_text(updated),
            "expires_at": None if expires is None else as_text(expires),
        }
        if with_evidence:
            document[EVIDENCE] = _base64(row[10])
        lines.append(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))
    return b"".join(lines)


def _base64(evidence: bytes | None) -> str | None:
    return None if evidence is None else b64encode(evidence).decode()
