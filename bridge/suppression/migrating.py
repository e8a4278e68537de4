"""What revision a database has, and how it becomes the newest one: Alembic, on a connection that somebody else opened."""

from __future__ import annotations

from dataclasses import dataclass
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
    """Where a database stands, and where this bridge would have it."""

    current: str | None
    """None: nothing is there yet."""
    newest: str
    """That this bridge knows."""
    known: bool
    """Whether this bridge knows the current one; a newer bridge's it does not."""

    @property
    def newest_stands(self) -> bool:
        return self.current == self.newest


def revisions(connection: Connection) -> Revisions:
    """Where the database on this connection stands."""
    scripts = ScriptDirectory.from_config(_alembic())
    current = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in scripts.walk_revisions()}
    return Revisions(current, scripts.get_current_head() or "", current is None or current in known)


def upgrade(connection: Connection) -> Revisions:
    """Take the steps that are missing, in the connection's transaction; answers from where to where.

    Raises:
        CommandError: there is no way from the current revision to ours.
    """
    before = revisions(connection)
    if not before.newest_stands:
        config = _alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config
