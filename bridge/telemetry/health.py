"""`/livez`, `/readyz` and `/metrics`, on a port of their own that needs no token."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from bridge.settings import Health
    from bridge.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a role can do its work now, and how each of its parts is."""

    ready: bool
    parts: Mapping[str, Mapping[str, Any]]
    """Name of the part -> what there is to say of it, as JSON."""


Check = Callable[[], Readiness]


class PortTakenError(OSError):
    """A server cannot listen. Its message names the address and the setting to change."""


@asynccontextmanager
async def serve(settings: Health, metrics: Metrics, check: Check, *, default_port: int) -> AsyncIterator[int]:
    """Serve health until the context ends; yields the port (useful when the setting is 0).

    Args:
        settings: host and port.
        metrics: what `/metrics` shows.
        check: asked for each `/readyz`.
        default_port: the role's own, where the setting is empty.

    Raises:
        PortTakenError: the address cannot be bound.
    """

    async def live(_: web.Request) -> web.Response:
        return _json(200, {"status": "alive"})

    async def ready(_: web.Request) -> web.Response:
        now = check()
        status = "ready" if now.ready else "not ready"
        return _json(200 if now.ready else 503, {"status": status, **now.parts})

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), content_type="text/plain", charset="utf-8")

    app = web.Application()
    app.add_routes([web.get("/livez", live), web.get("/readyz", ready), web.get("/metrics", exposition)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    port = default_port if settings.port is None else settings.port
    try:
        site = web.TCPSite(runner, settings.host, port)
        try:
            await site.start()
        except OSError as error:
            raise PortTakenError(
                f"health cannot listen on {settings.host}:{port}: {os.strerror(error.errno or 0)}; "
                "set health.port (BRIDGE_HEALTH__PORT) to a free one"
            ) from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _json(status: int, body: Mapping[str, Any]) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
