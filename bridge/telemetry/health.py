"""Serves `/livez`, `/readyz` and `/metrics`, on a port of their own, without a token."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from typing import Self

    from bridge.settings.sections import Health
    from bridge.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a role can do its work now, with the state of each of its parts."""

    ready: bool
    parts: Mapping[str, Mapping[str, Any]]
    """Name of the part -> its state, ready for JSON."""


ReadinessCheck = Callable[[], Awaitable[Readiness]]
Exposition = Callable[[], Awaitable[bytes]]
Liveness = Callable[[], str]
"""Why the process should be restarted; empty if it should not."""


class PortTakenError(OSError):
    """A server cannot listen. The message names the address and the setting to change."""

    @classmethod
    def of(cls, server: str, address: str, error: OSError, *, setting: str) -> Self:
        """The error of a server. Args: what listens; `host:port`; why it cannot; the port's setting: `health.port`."""
        # asyncio's own text repeats the address; that of an unknown host is the resolver's.
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        variable = f"BRIDGE_{setting.replace('.', '__').upper()}"
        return cls(f"{server} cannot listen on {address}: {reason}; set {setting} ({variable}) to a free one")


def always_alive() -> str:
    """For a role without a watchdog: a process that answers is alive."""
    return ""


def process_health(metrics: Metrics, check: Callable[[], Readiness]) -> tuple[ReadinessCheck, Exposition]:
    """Readiness and metrics of this process. Its readiness is a metric, too."""
    metrics.before_scrape(lambda: metrics.ready.set(check().ready))

    async def ready() -> Readiness:
        return check()

    async def exposition() -> bytes:
        return metrics.exposition()

    return ready, exposition


@asynccontextmanager
async def serve(
    place: Health | Path,
    check: ReadinessCheck,
    exposition: Exposition,
    *,
    default_port: int,
    liveness: Liveness = always_alive,
) -> AsyncIterator[None]:
    """Serve health until the context ends.

    Args:
        place: host and port; or the path of a Unix socket.
        check: called for each `/readyz`.
        exposition: called for each `/metrics`.
        default_port: the role's own, for an empty setting.
        liveness: called for each `/livez`.

    Raises:
        PortTakenError: the address cannot be bound.
    """
    runner = web.AppRunner(_app(check, exposition, liveness), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        if isinstance(place, Path):
            await web.UnixSite(runner, place).start()
        else:
            await _listen(runner, place.host, default_port if place.port is None else place.port)
        yield
    finally:
        await runner.cleanup()


def _app(check: ReadinessCheck, exposition: Exposition, liveness: Liveness) -> web.Application:
    async def live(_: web.Request) -> web.Response:
        if reason := liveness():
            return _json(503, {"status": "stuck", "reason": reason})
        return _json(200, {"status": "alive"})

    async def ready(_: web.Request) -> web.Response:
        now = await check()
        status = "ready" if now.ready else "not ready"
        return _json(200 if now.ready else 503, {"status": status, **now.parts})

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=await exposition(), content_type="text/plain", charset="utf-8")

    app = web.Application()
    app.add_routes([web.get("/livez", live), web.get("/readyz", ready), web.get("/metrics", metrics)])
    return app


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise PortTakenError.of("health", f"{host}:{port}", error, setting="health.port") from None


def _json(status: int, body: Mapping[str, Any]) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
