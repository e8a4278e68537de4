"""How the commands run that stay: until a signal, with logs instead of prints."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import uvloop

from bridge.cli.console import BAD_USAGE, fail
from bridge.settings import InvalidSettingsError
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from bridge.settings import Settings

_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run(settings: Settings, role: Callable[[Settings, asyncio.Event], Coroutine[None, None, None]]) -> None:
    logs.configure_for(settings)
    try:
        until_signal(lambda stop: role(settings, stop))
    except InvalidSettingsError as error:
        fail(str(error), BAD_USAGE)


def until_signal(main: Callable[[asyncio.Event], Coroutine[None, None, None]]) -> None:
    """Run on uvloop; a signal to stop sets the event that `main` was given."""

    async def guarded() -> None:
        stop = asyncio.Event()
        for number in _STOPPING:
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await main(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(guarded())
