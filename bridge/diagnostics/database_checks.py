"""The doctor's check of the database that the suppression list is in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge.diagnostics.finding import CheckStatus, failed, ok, warning
from bridge.suppression import opening
from bridge.suppression.errors import NoListError, StoreError, StoreUnavailableError
from bridge.suppression.retention import repeats_count_again

if TYPE_CHECKING:
    from bridge.diagnostics.finding import Finding
    from bridge.settings.sections import Settings
    from bridge.suppression.database import Database
    from bridge.suppression.migrating import Revisions

_UPGRADE: Final = "run `bridge db upgrade`"
_FEWEST_CONNECTIONS: Final = 10
"""What two workers may take."""


async def database(check: str, settings: Settings) -> Finding:
    """It is there, at the newest revision, and lets more workers in."""
    try:
        async with opening.database_at(settings.suppression.database_url.get_secret_value()) as reached:
            found = await _examined(check, reached)
    except StoreUnavailableError as error:
        return failed(check, str(error), "see to the database: until then workers wait for it")
    except StoreError as error:
        return failed(check, str(error), "correct suppression.database_url, or what it names")
    problem = repeats_count_again(settings.retention, settings.rabbitmq.archive_max_age)
    if problem is not None and found.status is CheckStatus.OK:
        return warning(check, f"{found.seen}; {problem}", "raise retention.handled_events_days")
    return found


async def _examined(check: str, reached: Database) -> Finding:
    try:
        reached.check_before_connecting(create=False)
    except NoListError:
        return ok(check, f"{reached.name} is not there yet: a worker makes it")
    revisions = await reached.revisions()
    if not revisions.is_newest:
        return _of_another_revision(check, reached.name, revisions)
    left = await reached.connections_left()
    seen = f"{reached.name} has the newest revision, {revisions.newest}"
    if left is None:
        return ok(check, seen)
    seen = f"{seen}; {left} connections are left"
    return (
        ok(check, seen)
        if left >= _FEWEST_CONNECTIONS
        else warning(check, seen, "raise max_connections of PostgreSQL")
    )


def _of_another_revision(check: str, name: str, revisions: Revisions) -> Finding:
    if not revisions.known:
        return failed(check, f"{name} was written by a newer bridge", "use that one")
    if revisions.current is None:
        return warning(check, f"{name} has no tables yet", _UPGRADE)
    return warning(check, f"{name} has revision {revisions.current}, not {revisions.newest}", _UPGRADE)
