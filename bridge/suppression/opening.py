"""Opens the list's database: SQLite or PostgreSQL, as the URL says."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from bridge.suppression import postgresql_url, sqlite
from bridge.suppression.errors import SETTING, StoreError
from bridge.suppression.postgresql import PostgresqlDatabase
from bridge.suppression.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.suppression.database import Database
    from bridge.suppression.privileges import Role

_FORMS = "sqlite+aiosqlite:///file or postgresql+asyncpg://user:password@host:port/database"


@asynccontextmanager
async def database_at(database_url: str) -> AsyncIterator[Database]:
    """The database of this URL. Nothing is read, made or migrated.

    Raises:
        StoreError: the URL cannot be used.
    """
    database = _database_of(database_url)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def open_database(database_url: str, *, create: bool, role: Role = "worker") -> AsyncIterator[Database]:
    """The database of this URL, migrated to the newest revision.

    Args:
        database_url: `sqlite+aiosqlite:///file` or `postgresql+asyncpg://user:password@host:port/database`.
        create: make the list if there is none.
        role: whose rights the user of the database must have.

    Raises:
        StoreError: the URL cannot be used; there is no such folder, file or database; we may not use it; or a newer
            bridge wrote it.
        StoreUnavailableError: it is locked, or does not answer.
    """
    async with database_at(database_url) as database:
        database.check_before_connecting(create=create)
        await database.open(create=create, role=role)
        yield database


def _database_of(database_url: str) -> Database:
    scheme, found, _ = database_url.partition("://")
    if not found or not re.fullmatch(r"[a-z][a-z0-9+]*", scheme):
        raise StoreError(f"{SETTING} is not a database URL; write {_FORMS}")
    if scheme in postgresql_url.SCHEMES:
        return PostgresqlDatabase(database_url)
    if scheme not in sqlite.SCHEMES:
        raise StoreError(f"{SETTING} names {scheme}; this bridge keeps the list in {_FORMS}")
    try:
        return SqliteDatabase(make_url(database_url))
    except ArgumentError:
        raise StoreError(f"{SETTING} is not a database URL; write {_FORMS}") from None
