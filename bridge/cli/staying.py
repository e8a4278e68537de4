"""How the commands run that stay: until a signal, with logs instead of prints."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, NoReturn

import typer
import uvloop

from bridge.cli.console import BAD_USAGE, FAILED, fail
from bridge.settings import InvalidSettingsError
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from bridge.settings import Settings

_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


log = logs.logger("process")


def run(
    settings: Settings,
    role: Callable[[Settings, asyncio.Event], Coroutine[None, None, None]],
    *,
    refusals: tuple[type[Exception], ...],
) -> None:
    """Run a role until it ends.

    Args:
        settings: the role's.
        role: given them, and an event that is set when it shall stop.
        refusals: what it raises when it cannot go on, with a message of one line.

    Raises:
        typer.Exit: it could not go on; the line has been written.
    """
    logs.configure_for(settings)
    try:
        until_signal(lambda stop: role(settings, stop))
    except InvalidSettingsError as error:
        _refuse(settings, str(error), BAD_USAGE)
    except refusals as error:
        _refuse(settings, str(error), FAILED)


def _refuse(settings: Settings, reason: str, code: int) -> NoReturn:
    """Where programs read the lines, the last one is an event like all others."""
    if logs.for_programs(settings.logs):
        log.error(reason, action="process.refused")
        raise typer.Exit(code)
    fail(reason, code)


def until_signal(main: Callable[[asyncio.Event], Coroutine[None, None, None]]) -> None:
    """Run on uvloop; a signal to stop sets the event that `main` was given."""

    async def guarded() -> None:
        stop = asyncio.Event()
        for number in _STOPPING:
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await main(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(guarded())
