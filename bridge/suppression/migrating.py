"""Alembic on an open connection: which revision a database has, and the upgrade to the newest one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

if TYPE_CHECKING:
    from sqlalchemy import Connection

_MIGRATIONS: Final = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class Revisions:
    """The revision of a database, and the newest one of this bridge."""

    current: str | None
    """None: the database has no tables yet."""
    newest: str
    """The newest revision that this bridge knows."""
    known: bool
    """Whether this bridge knows the current revision. It does not know those of a newer bridge."""

    @property
    def is_newest(self) -> bool:
        """Whether there is nothing to migrate."""
        return self.current == self.newest


def revisions(connection: Connection) -> Revisions:
    """The revisions of the database on this connection."""
    scripts = _scripts()
    current = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in scripts.walk_revisions()}
    return Revisions(current, scripts.get_current_head() or "", current is None or current in known)


def upgrade(connection: Connection) -> Revisions:
    """Run the migrations that are missing, in the connection's transaction. Returns the revisions before.

    Raises:
        CommandError: there is no migration from the current revision to ours.
    """
    before = revisions(connection)
    if not before.is_newest:
        config = _alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before


@cache
def _scripts() -> ScriptDirectory:
    """The migrations of this bridge. They are read once: it takes longer than the question to the database."""
    return ScriptDirectory.from_config(_alembic())


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config
