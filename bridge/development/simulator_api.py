"""The simulator over HTTP: the provider's API, with faults that can be switched on, and the controls of the simulator.

The controls are a page for people and JSON for programs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import orjson
from aiohttp import web
from yarl import URL

from bridge.development import simulator_control, simulator_page
from bridge.development.simulator import ApiCall, Simulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

TOKEN: Final = "simulator-token"  # noqa: S105 -- it only opens a simulator
"""The default API token."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_MESSAGE_FIELDS: Final = ("from_email", "from_name", "subject", "text", "html")


@asynccontextmanager
async def serve_simulator(
    host: str = "127.0.0.1", port: int = 0, token: str = TOKEN, *, messages: int = 0
) -> AsyncIterator[Simulator]:
    """Serve a simulator until the context ends.

    Args:
        host: where to listen.
        port: 0 for a free one; it is in `base_url`.
        token: the only API token that is accepted.
        messages: how many exist at the start, with ids from 1, to `recipient1@example.org` and so on.

    Raises:
        OSError: the address cannot be bound.
    """
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        simulator = Simulator(token, session, messages=messages)
        # A client that disconnects cancels its slow answer, so that the shutdown need not wait for it.
        runner = web.AppRunner(
            _application(simulator), access_log=None, handler_cancellation=True, shutdown_timeout=0.5
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
            bound = runner.addresses[0][1]
            simulator.base_url = str(URL.build(scheme="http", host=host, port=bound, path="/v1"))
            simulator.page_url = str(URL(simulator.base_url).with_path(simulator_page.PATH))
            yield simulator
        finally:
            await runner.cleanup()


_SIMULATOR: Final = web.AppKey("simulator", Simulator)


def _application(simulator: Simulator) -> web.Application:
    app = web.Application()
    app[_SIMULATOR] = simulator
    app.add_routes(
        [
            web.post("/v1/email/messages", _api(_create_message)),
            web.get("/v1/email/messages/{id}", _api(_show_message)),
            web.post("/v1/email/webhook", _api(_set_webhook)),
            web.get("/v1/email/webhook", _api(_show_webhook)),
            web.delete("/v1/email/webhook", _api(_unset_webhook)),
            *simulator_control.routes(simulator),
            *simulator_page.routes(simulator),
        ]
    )
    return app


def _api(handler: Handler) -> Handler:
    """Wrap a handler with what all calls of the API share: recording, the token, and faults."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        simulator = request.app[_SIMULATOR]
        faults = simulator.faults
        simulator.requests.append(ApiCall(request.method, request.rel_url.raw_path, time.monotonic()))
        if faults.takes("reset") and request.transport:
            request.transport.abort()
            return web.Response()
        if faults.takes("slow"):
            await asyncio.sleep(faults.slow_seconds)
        expected = f"Bearer {simulator.token}"
        if request.headers.get("Authorization") != expected or faults.takes("unauthorized"):
            return _error(401, "the token is wrong")
        if faults.takes("throttle"):
            headers = {"Retry-After": faults.retry_after} if faults.retry_after else None
            return _error(429, "too many calls", headers)
        if faults.takes("fail"):
            return _error(500, "something is broken here")
        if faults.takes("garbage"):
            return web.Response(text="<html>Welcome</html>", content_type="text/html")
        return await handler(request)

    return guarded


async def _create_message(request: web.Request) -> web.Response:
    document = await _object_in(request)
    missing = [key for key in ("from_email", "to", "subject") if not isinstance(document.get(key), str)]
    if missing:
        return _error(422, f"required: {', '.join(missing)}")
    simulator = request.app[_SIMULATOR]
    message = simulator.message(simulator.add_message(document["to"]))
    message.update({key: document[key] for key in _MESSAGE_FIELDS if key in document})
    return _json(201, message)


async def _show_message(request: web.Request) -> web.Response:
    message = request.app[_SIMULATOR].find(request.match_info["id"])
    return _error(404, "there is no such message") if message is None else _json(200, message)


async def _set_webhook(request: web.Request) -> web.Response:
    url = (await _object_in(request)).get("url")
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        return _error(422, "required: url")
    request.app[_SIMULATOR].webhook_url = url
    return _json(200, {"url": url})


async def _show_webhook(request: web.Request) -> web.Response:
    return _json(200, {"url": request.app[_SIMULATOR].webhook_url})


async def _unset_webhook(request: web.Request) -> web.Response:
    simulator = request.app[_SIMULATOR]
    url = (await _object_in(request)).get("url")
    if url is None or url != simulator.webhook_url:
        return _error(404, "that is not the webhook")
    simulator.webhook_url = None
    return web.Response(status=204)


async def _object_in(request: web.Request) -> dict[str, Any]:
    try:
        document = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        document = None
    if isinstance(document, dict):
        return document
    raise web.HTTPBadRequest(text="the body is not a JSON object")


def _error(status: int, detail: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """An error. The provider does not document the format of its own."""
    return _json(status, {"errors": [{"code": status, "detail": detail}]}, headers)


def _json(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status, body=orjson.dumps(body), headers=headers, content_type="application/json"
    )
