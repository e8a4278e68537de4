"""The databases that the list can be in, seen from outside: the tests' own look at tables, and rules of their own."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from alembic import command
from alembic.script import ScriptDirectory
from yarl import URL

from bridge.suppression import migrating, opening
from bridge.suppression.store import Store
from tests.support import postgres

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

NEWEST: Final = ScriptDirectory.from_config(migrating._alembic()).get_current_head()
"""The revision that the list has when this bridge has opened it."""

EMPTY_FILE: Final = "empty-list.sqlite3"
EMPTY_SCRIPT: Final = "empty-list.sql"

_REFUSING_SQLITE = """
CREATE TRIGGER refuse BEFORE INSERT ON changes WHEN new.event_id = '{event}' BEGIN SELECT raise(ABORT, '{why}'); END
"""
_REFUSING_POSTGRESQL = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION USING MESSAGE = '{why}'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON changes FOR EACH ROW WHEN (new.event_id = '{event}') EXECUTE FUNCTION refuse()
"""


async def make_empty_lists(server: postgres.Server, directory: Path) -> None:
    """In this folder the file of an empty list of the newest revision, and a script that makes one in PostgreSQL.

    To copy a list costs a tenth of what it costs to make one.
    """
    url = await postgres.Databases(server.url()).fresh()
    for made in (url, f"sqlite+aiosqlite:///{directory / EMPTY_FILE}"):
        async with Store.open(made):
            pass
    (directory / EMPTY_SCRIPT).write_text(await postgres.dumped(url))


async def execute(url: str, *statements: str) -> None:
    """Run them beside whoever has the list open."""
    if postgres.is_postgresql(url):
        await postgres.execute(url, *statements)
        return
    with closing(sqlite3.connect(file_of(url))) as database, database:
        for statement in statements:
            database.execute(statement)


async def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    """The rows of one statement."""
    if postgres.is_postgresql(url):
        return await postgres.query(url, statement)
    with closing(sqlite3.connect(file_of(url))) as database:
        return list(database.execute(statement))


async def refuse(url: str, event: str, why: str) -> None:
    """From now on the database does not take the change that this event makes, for a reason of its own."""
    refusing = _REFUSING_POSTGRESQL if postgres.is_postgresql(url) else _REFUSING_SQLITE
    await execute(url, refusing.format(event=event, why=why))


def file_of(url: str) -> str:
    """The path of a list that is in a file."""
    return URL(url).path


async def downgrade(url: str, revision: str) -> None:
    """Bring it back to an earlier revision."""

    def back(connection: Connection) -> None:
        config = migrating._alembic()
        config.attributes["connection"] = connection
        command.downgrade(config, revision)

    async with opening.database_at(url) as database, database.write() as connection:
        await connection.run_sync(back)
