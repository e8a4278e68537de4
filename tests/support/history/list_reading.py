"""The client that reads the list: addresses while the run goes on, and at the end all of it, with the outbox.

It reads the tables, and nothing of the code that writes them: so it works while every process of the bridge is away.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from tests.support.history.records import ListEntry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy import URL
    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.support.history.recorder import Recorder

_COLUMNS: Final = "address, reason, count, first_event_at, last_event_at, message_id"
_OF_ADDRESS: Final = text(f"SELECT {_COLUMNS} FROM suppressions WHERE address = :address")  # noqa: S608 -- our own names
_ALL: Final = text(f"SELECT {_COLUMNS} FROM suppressions")  # noqa: S608 -- our own names
_UNPUBLISHED: Final = text("SELECT id FROM changes WHERE published_at IS NULL ORDER BY id")
_LOG: Final = text("SELECT id, address FROM changes ORDER BY id")
FAILURES: Final = (SQLAlchemyError, OSError, TimeoutError)
"""How a list cannot be read."""


class ListReader:
    """A connection for each look: the file may be another one meanwhile, and the server may be gone."""

    def __init__(self, engine: AsyncEngine, recorder: Recorder) -> None:
        """See `reading_list`."""
        self._engine = engine
        self._recorder = recorder

    async def read(self, address: str) -> bool:
        """Look at an address, and write down what it shows. Returns whether there was an answer."""
        op = self._recorder.read_invoked(address)
        try:
            rows = await self._rows(_OF_ADDRESS, address=address)
        except FAILURES as error:
            self._recorder.read_failed(op, str(error))
            return False
        self._recorder.has_read(op, [ListEntry(*row) for row in rows])
        return True

    async def run(self, choose: Callable[[], str], *, every: float) -> None:
        """Look again and again, until cancelled. Args: choose: the next address; every: seconds between two looks."""
        while True:
            await self.read(choose())
            await asyncio.sleep(every)

    async def unpublished(self) -> list[int]:
        """The ids of the changes that are in the outbox now.

        Raises:
            SQLAlchemyError: the list cannot be read.
        """
        return [row[0] for row in await self._rows(_UNPUBLISHED)]

    async def change_ids(self) -> set[int]:
        """The ids of all changes that are in the log now.

        Raises:
            SQLAlchemyError: the list cannot be read.
        """
        return {row[0] for row in await self._rows(_LOG)}

    async def counts(self) -> dict[tuple[str, str], int]:
        """What the list counts now: address and reason -> count. It is for waiting, and not written down.

        Raises:
            SQLAlchemyError: the list cannot be read.
        """
        return {(row[0], row[1]): row[2] for row in await self._rows(_ALL)}

    async def finish(self) -> None:
        """Write down the whole list, the outbox and the log of changes, as they are at one moment.

        Raises:
            SQLAlchemyError: the list cannot be read.
        """
        async with self._engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                await connection.execute(text("BEGIN"))  # its driver begins nothing before a SELECT
            else:
                await connection.execution_options(isolation_level="REPEATABLE READ")
            entries = [ListEntry(*row) for row in await connection.execute(_ALL)]
            outbox = [row[0] for row in await connection.execute(_UNPUBLISHED)]
            log = [(row[0], row[1]) for row in await connection.execute(_LOG)]
        self._recorder.final_list(entries)
        self._recorder.left("outbox", outbox)
        self._recorder.final_changes(log)

    async def _rows(self, query: Any, **values: str) -> list[tuple[Any, ...]]:
        async with self._engine.connect() as connection:
            return [tuple(row) for row in await connection.execute(query, values)]


@asynccontextmanager
async def reading_list(url: str, recorder: Recorder) -> AsyncIterator[ListReader]:
    """A reader of the list in this database.

    Args:
        url: as in `suppression.database_url`.
        recorder: of the history.
    """
    engine = create_async_engine(_read_only(url), poolclass=NullPool)
    try:
        yield ListReader(engine, recorder)
    finally:
        await engine.dispose()


def _read_only(url: str) -> URL:
    """SQLite would make a file that is not there, which the bridge would take for its list."""
    found = make_url(url)
    if found.get_backend_name() != "sqlite":
        return found
    query = {**found.query, "mode": "ro", "uri": "true"}
    return found.set(database=f"file:{found.database}", query=query)
