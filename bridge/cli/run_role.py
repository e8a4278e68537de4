"""How the commands run that stay: until a signal, with logs instead of prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import typer

from bridge.cli.console import BAD_USAGE, FAILED, fail
from bridge.roles.shutdown import ENDING_SECONDS, leave, until_signal
from bridge.settings.sections import InvalidSettingsError, foreign_variables
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from bridge.roles.lifetime import Stop
    from bridge.settings.sections import Settings

log = logs.logger("process")


def run(
    settings: Settings,
    role: Callable[[Settings, Stop], Coroutine[None, None, None]],
    *,
    refusals: tuple[type[Exception], ...],
    drain: float = 0.0,
) -> None:
    """Run a role until it ends.

    Args:
        settings: the role's.
        role: given them, and an event that is set when it shall stop.
        refusals: what it raises when it cannot go on, with a message of one line.
        drain: seconds that it may take to finish what is in hand; `ENDING_SECONDS` after them it ends in any case.

    Raises:
        typer.Exit: it could not go on; the line has been written.
    """
    logs.configure_for(settings)
    if foreign := foreign_variables():
        log.warning(
            "variables that begin with BRIDGE_ and are no settings are ignored",
            action="process.foreign_variables",
            variables=foreign,
        )
    try:
        until_signal(lambda stop: role(settings, stop), patience=drain + ENDING_SECONDS, nothing_follows=True)
    except InvalidSettingsError as error:
        _refuse(settings, str(error), BAD_USAGE)
    except refusals as error:
        _refuse(settings, str(error), FAILED)
    except Exception as error:
        leave(FAILED, error)
        raise
    leave(0)


def _refuse(settings: Settings, reason: str, code: int) -> NoReturn:
    """Where programs read the lines, the last one is an event like all others."""
    try:
        if logs.for_programs(settings.logs):
            log.error(reason, action="process.refused")
            raise typer.Exit(code)
        fail(reason, code)
    finally:
        leave(code)
