"""Runs a role as a command: until a signal, with logs instead of prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import typer

from bridge.cli.console import BAD_USAGE, FAILED, fail
from bridge.roles.shutdown import ENDING_SECONDS, exit_if_threads_remain, run_until_signal
from bridge.settings.errors import InvalidSettingsError
from bridge.settings.loading import foreign_variables
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from bridge.roles.lifetime import Stop
    from bridge.settings.sections import Settings

log = logs.logger("cli")


def run_role(
    settings: Settings,
    role: Callable[[Settings, Stop], Coroutine[None, None, None]],
    *,
    expected: tuple[type[Exception], ...],
    drain_timeout: float = 0.0,
) -> None:
    """Run a role until a signal, or until it ends by itself.

    Args:
        settings: all settings.
        role: called with the settings, and an event that is set when it must stop.
        expected: the exceptions with which it cannot go on; their message is one line.
        drain_timeout: seconds that it may take to finish what is in flight. `ENDING_SECONDS` later it is ended.

    Raises:
        typer.Exit: it could not go on; the message was written.
    """
    logs.configure_for(settings)
    if foreign := foreign_variables():
        log.warning(
            "variables that begin with BRIDGE_ and are not settings are ignored",
            action="process.foreign_variables",
            variables=foreign,
        )
    try:
        run_until_signal(
            lambda stop: role(settings, stop),
            deadline_seconds=drain_timeout + ENDING_SECONDS,
            process_ends=True,
        )
    except InvalidSettingsError as error:
        _fail(settings, str(error), BAD_USAGE)
    except expected as error:
        _fail(settings, str(error), FAILED)
    except Exception as error:
        exit_if_threads_remain(FAILED, error)
        raise
    exit_if_threads_remain(0)


def _fail(settings: Settings, reason: str, code: int) -> NoReturn:
    """Write the reason: as a JSON log line if programs read the log, else as a line for people."""
    try:
        if logs.writes_json(settings.logs):
            log.error(reason, action="process.cannot_run")
            raise typer.Exit(code)
        fail(reason, code)
    finally:
        exit_if_threads_remain(code)
