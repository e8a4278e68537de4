"""Puts the rows of files on the list, thousands in one transaction, with a note of how far the file has come."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import delete, select, update

from bridge.suppression import allow_list, bulk, key_moves, model
from bridge.suppression.address_keys import is_hash
from bridge.suppression.change_log import append_changes
from bridge.suppression.database import shielded
from bridge.suppression.errors import StoreError
from bridge.suppression.expiry import end_entries
from bridge.suppression.transfer.batch import Batch, Origin, state_of
from bridge.suppression.transfer.batch_statements import (
    add_rows,
    exclusive_writer,
    lock_change_ids,
    read_found,
    upsert_statement,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.address_keys import AddressKeys
    from bridge.suppression.database import Database
    from bridge.suppression.key_moves import Place
    from bridge.suppression.transfer.merging import Outcome
    from bridge.suppression.transfer.rows import ImportedRow


class ImportInProgressError(StoreError):
    """Another process imports the same file at the same time."""


class ImportState(NamedTuple):
    """How far a file has come."""

    done: int = 0
    """Rows in the order of the list that are done with, without rejected ones. The next run skips them."""
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    outdated: int = 0
    """Rows that were not put on the list: a person has taken the address off it since, or they had ended already."""
    rejected: int = 0
    """Known at the end."""
    finished: bool = False

    def after(self, outcomes: Collection[Outcome]) -> ImportState:
        """The state after rows with these outcomes."""
        did = Counter(outcomes)
        return ImportState(
            self.done + len(outcomes),
            self.added + did["added"],
            self.updated + did["updated"],
            self.unchanged + did["unchanged"],
            self.outdated + did["outdated"],
        )


@dataclass(frozen=True, slots=True)
class Manner:
    """How the rows of a file are put on the list."""

    actor: str
    """Who imports, for the change log."""
    note: str
    """Why, for the change log."""
    publish: bool = True
    """Whether other services get each change. Otherwise it counts as published at once."""


class Imports:
    """The imports of the list, each known by its fingerprint: of the file, and of what decides what its rows mean."""

    def __init__(self, database: Database, clock: Callable[[], float], keys: AddressKeys) -> None:
        """Args: the list's database; the time in Unix seconds; under which key each address stands."""
        self._database = database
        self._clock = clock
        self._keys = keys

    @property
    def batch_size(self) -> int:
        """How many rows `put` is best given at once."""
        return self._database.import_batch

    def now(self) -> int:
        """The time in Unix seconds."""
        return int(self._clock())

    @shielded
    async def begin(self, fingerprint: str, *, again: bool = False) -> ImportState:
        """How far the import with this fingerprint has come; from now on it is known.

        Args:
            fingerprint: at the most 200 characters.
            again: begin anew, whatever was done before.

        Raises:
            StoreError: the list cannot be written (`StoreUnavailableError` where waiting may help).
        """
        table, now = model.imports, self.now()
        async with self._database.write() as connection:
            if again:
                await connection.execute(delete(table).where(table.c.fingerprint == fingerprint))
            elif (found := await self._state(connection, fingerprint)) is not None:
                return found
            row = {"fingerprint": fingerprint, "position": 0, "rows_done": 0, "rejected": 0} | {
                "added": 0, "updated": 0, "unchanged": 0, "started_at": now, "updated_at": now
            }  # fmt: skip
            await connection.execute(table.insert().values(row))
        return ImportState()

    @shielded
    async def known(self, fingerprint: str) -> ImportState | None:
        """How far the import with this fingerprint has come; None: it was never begun.

        Raises:
            StoreError: the list cannot be read (`StoreUnavailableError` where waiting may help).
        """
        async with self._database.read() as connection:
            return await self._state(connection, fingerprint)

    @shielded
    async def put(
        self, fingerprint: str, before: ImportState, rows: Sequence[ImportedRow], manner: Manner
    ) -> ImportState:
        """Put rows on the list, and note that they are done with, in one transaction. Returns the state after it.

        Args:
            fingerprint: as `begin` was given it.
            before: the state before these rows.
            rows: at the most some thousand: other writers wait meanwhile.
            manner: how.

        Raises:
            ImportInProgressError: another process has imported these rows meanwhile; nothing was changed.
            StoreError: the list cannot be written (`StoreUnavailableError` where waiting may help).
        """
        now = self.now()
        async with self._database.write() as connection:
            placed = await self._placed(connection, rows)
            await exclusive_writer(connection)
            if await self._state(connection, fingerprint) != before:
                raise ImportInProgressError("another process imports the same file; wait until it has ended")
            state = before.after(await self._put(connection, placed, manner, now))
            await self._note(
                connection,
                fingerprint,
                position=state.done,
                rows_done=state.done,
                added=state.added,
                updated=state.updated,
                unchanged=state.unchanged,
                updated_at=now,
            )
        return state

    @shielded
    async def preview(self, rows: Sequence[ImportedRow]) -> list[Outcome]:
        """What `put` would do. It only reads.

        Raises:
            StoreError: the list cannot be read (`StoreUnavailableError` where waiting may help).
        """
        now = self.now()
        keyed = [row._replace(address=self._keys.written(row.address)) for row in rows]
        async with self._database.read() as connection:
            found = await read_found(connection, keyed)
        found.without_ended(now)
        return [found.put(row, now) for row in keyed]

    @shielded
    async def finish(self, fingerprint: str, *, rejected: int) -> None:
        """All rows are done with, and so many were rejected.

        Raises:
            StoreError: the list cannot be written (`StoreUnavailableError` where waiting may help).
        """
        async with self._database.write() as connection:
            await self._note(connection, fingerprint, rejected=rejected, finished_at=self.now())

    @staticmethod
    async def _note(connection: AsyncConnection, fingerprint: str, **values: int) -> None:
        table = model.imports
        await connection.execute(update(table).where(table.c.fingerprint == fingerprint).values(**values))

    @staticmethod
    async def _state(connection: AsyncConnection, fingerprint: str) -> ImportState | None:
        table = model.imports
        row = (
            await connection.execute(select(table).where(table.c.fingerprint == fingerprint))
        ).one_or_none()
        if row is None:
            return None
        outdated = row.rows_done - row.added - row.updated - row.unchanged
        return ImportState(
            row.rows_done,
            row.added,
            row.updated,
            row.unchanged,
            outdated,
            row.rejected,
            row.finished_at is not None,
        )

    async def _placed(
        self, connection: AsyncConnection, rows: Sequence[ImportedRow]
    ) -> Sequence[ImportedRow]:
        """The rows under the keys where they are to be written, without what may not be kept beside a hash."""
        if not self._keys.privacy_keys:
            return rows
        places = await key_moves.places(connection, self._keys, {row.address for row in rows})
        return [_at(places[row.address], row) for row in rows]

    async def _put(
        self, connection: AsyncConnection, rows: Sequence[ImportedRow], manner: Manner, now: int
    ) -> list[Outcome]:
        found = await read_found(connection, rows)
        ended = found.without_ended(now)
        state = state_of(found, await self._rules(connection, rows))
        if ended:
            # What has ended makes room for a new entry, whether somebody has taken it off the list already or not.
            changes = await end_entries(connection, ended, state, now=now)
            await append_changes(connection, changes, actor=manner.actor, now=now)
        batch = Batch(found, state, Origin(now, manner.actor, manner.note, None if manner.publish else now))
        outcomes = [batch.put(row) for row in rows]
        if batch.written:
            there, new = batch.entries()
            await add_rows(connection, model.suppressions, new)
            if there:
                rows_there = [row._asdict() for row in there]
                await bulk.write_rows(connection, upsert_statement(connection.dialect.name), rows_there)
            await lock_change_ids(connection)
            await add_rows(connection, model.changes, batch.changes)
        return outcomes

    async def _rules(self, connection: AsyncConnection, rows: Sequence[ImportedRow]) -> dict[str, bool]:
        """Address -> whether the rule of the allow-list that holds for it wins over complaints, too."""
        if await connection.scalar(select(model.allow_rules.c.pattern).limit(1)) is None:
            return {}
        keys_of = {row.address: self._keys.looked_up(row.address) for row in rows}
        found = await allow_list.rules_for(connection, keys_of)
        return {address: rule.over_complaints for address, rule in found.items()}


def _at(place: Place, row: ImportedRow) -> ImportedRow:
    if not is_hash(place.key):
        return row
    return row._replace(
        address=place.key,
        original="",
        message_id=None if place.erased else row.message_id,
        evidence=None if place.erased else key_moves.evidence_beside(place.key, row.evidence),
    )
