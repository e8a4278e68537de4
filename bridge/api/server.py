"""The server of the API: limits for slow clients, and an orderly end."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge.telemetry.health import PortTakenError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.settings.api_section import Api

_KEEP_ALIVE_SECONDS: Final = 75.0
"""aiohttp also waits so long for the rest of a request's head; without it, for ever."""
_LINGER_SECONDS: Final = 1.0
"""How long the rest of a rejected body is read and dropped, so that the client sees the answer."""
_BACKLOG: Final = 1024


@asynccontextmanager
async def serve(settings: Api, app: web.Application) -> AsyncIterator[int]:
    """Listen until the context ends, then finish what is in flight; yields the port.

    At the end it stops listening, waits for running requests, at most `drain_timeout`, and closes.

    Raises:
        PortTakenError: the address cannot be bound.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=_KEEP_ALIVE_SECONDS,
        lingering_time=_LINGER_SECONDS,
        shutdown_timeout=settings.drain_timeout,
        auto_decompress=False,  # a body of some kilobytes could become one of gigabytes
        handler_cancellation=True,  # nobody waits for the changes that a client has asked for who is gone
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, settings.host, settings.port, backlog=_BACKLOG).start()
        except OSError as error:
            raise PortTakenError.of(
                "the API", f"{settings.host}:{settings.port}", error, setting="api.port"
            ) from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
