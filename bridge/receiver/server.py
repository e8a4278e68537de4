"""aiohttp's low-level server around the handler: limits for slow and broken clients, and an orderly end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge import fast_path
from bridge.receiver.body import MAX_BODY
from bridge.receiver.known_heads import KnownHeads
from bridge.receiver.plain_connection import PlainConnection
from bridge.telemetry.health import PortTakenError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.receiver.handler import Handler
    from bridge.settings.sections import Receiver

_BACKLOG: Final = 2048
_LINGER_SECONDS: Final = 1.0
"""How long the rest of a rejected body is read and dropped, so that the client sees the answer."""


class _Server(web.Server):
    def __init__(self, settings: Receiver, handler: Handler) -> None:
        # aiohttp's keep-alive timer runs from the start of the connection, or the last answer, until the next head is
        # complete. So it also limits slow heads.
        self._options = {
            "keepalive_timeout": settings.head_timeout,
            "lingering_time": _LINGER_SECONDS,
            "read_bufsize": MAX_BODY,
            "access_log": None,
        }
        super().__init__(handler)
        self.handler = handler
        self.known_heads = KnownHeads()
        self._connection_class = _connection_class()
        self.answer_timeout = settings.body_timeout
        """Seconds for a client to read an answer: as long as it has for a body."""

    def __call__(self) -> PlainConnection:
        return self._connection_class(self, self, loop=asyncio.get_running_loop(), **self._options)


def _connection_class() -> type[PlainConnection]:
    """The class for the connections of clients, on the path of this process."""
    if not fast_path.http_enabled():
        return PlainConnection
    # An unknown version of aiohttp may not let it be imported.
    from bridge.receiver.connection import WebhookConnection  # noqa: PLC0415 -- see above

    return WebhookConnection


@asynccontextmanager
async def serve(settings: Receiver, handler: Handler) -> AsyncIterator[int]:
    """Listen until the context ends, then finish what is in flight; yields the port.

    At the end it stops listening, waits for running requests, at most `drain_timeout`, and closes. Several processes
    can share the port: Linux gives each connection to one of them.

    Raises:
        PortTakenError: the address cannot be bound.
    """
    runner = web.ServerRunner(_Server(settings, handler), shutdown_timeout=settings.drain_timeout)
    await runner.setup()
    try:
        site = web.TCPSite(
            runner, settings.host, settings.port, backlog=_BACKLOG, reuse_port=settings.processes > 1
        )
        try:
            await site.start()
        except OSError as error:
            raise PortTakenError.of(
                "the receiver", f"{settings.host}:{settings.port}", error, setting="receiver.port"
            ) from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
