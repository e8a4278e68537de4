"""Simulates the provider's HTTP API: messages, the webhook, its events, and faults that can be switched on."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import orjson
from aiohttp import web
from yarl import URL

from bridge.development import simulator_control
from bridge.development.emission import Emission, arrange_batch, event_body, post
from bridge.development.simulator_faults import Faults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

TOKEN: Final = "simulator-token"  # noqa: S105 -- it only opens a simulator
"""The default API token."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_MAX_REQUESTS: Final = 10_000
_MESSAGE_FIELDS: Final = ("from_email", "from_name", "subject", "text", "html")
_STATUSES: Final = frozenset({"delivered", "soft_bounced", "hard_bounced"})


@dataclass(frozen=True, slots=True)
class Request:
    """A received call of the API."""

    method: str
    path: str
    """Percent-encoded."""
    at: float
    """`time.monotonic()`."""


class Simulator:
    """A provider with messages and one webhook, which sends no mail."""

    def __init__(self, base_url: str, token: str, session: aiohttp.ClientSession) -> None:
        self.base_url = base_url
        """The value for `provider.base_url`."""
        self.token = token
        self.faults = Faults()
        self.requests: deque[Request] = deque(maxlen=_MAX_REQUESTS)
        """The last calls of the API, the newest last."""
        self.webhook_url: str | None = None
        self._session = session
        self._messages: dict[str, dict[str, Any]] = {}
        self._initial_messages = 0
        self._last_id = 0

    @classmethod
    @asynccontextmanager
    async def serve(
        cls, host: str = "127.0.0.1", port: int = 0, token: str = TOKEN, *, messages: int = 0
    ) -> AsyncIterator[Simulator]:
        """Serve until the context ends.

        Args:
            host: where to listen.
            port: 0 for a free one; it is in `base_url`.
            token: the only API token that is accepted.
            messages: how many exist at the start, with ids from 1, to `recipient1@example.org` and so on.

        Raises:
            OSError: the address cannot be bound.
        """
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            simulator = cls("", token, session)
            simulator._initial_messages = simulator._last_id = messages
            # A client that disconnects cancels its slow answer, so that the shutdown need not wait for it.
            runner = web.AppRunner(
                _application(simulator), access_log=None, handler_cancellation=True, shutdown_timeout=0.5
            )
            await runner.setup()
            try:
                await web.TCPSite(runner, host, port).start()
                bound = runner.addresses[0][1]
                simulator.base_url = str(URL.build(scheme="http", host=host, port=bound, path="/v1"))
                yield simulator
            finally:
                await runner.cleanup()

    def add_message(self, to: str, id: int | None = None) -> int:  # noqa: A002 -- the provider's own word
        """Add a message to this address; returns its id: the next free one by default."""
        number = self._last_id + 1 if id is None else id
        self._last_id = max(self._last_id, number)
        self._messages[str(number)] = {
            "id": number,
            "from_email": "sender@example.org",
            "from_name": "Sender",
            "to": to,
            "subject": "Hello",
            "text": "Hello",
            "html": "",
            "attachments": [],
            "status": "queued",
            "events": {},
        }
        return number

    async def emit(
        self,
        name: str,
        message_id: int,
        *,
        timestamp: int | None = None,
        data: Mapping[str, Any] | None = None,
        url: str | None = None,
    ) -> int:
        """Post an event as the provider does, `faults.repeat_events` times.

        Args:
            name: of the event, in any spelling.
            message_id: of a message; it need not exist.
            timestamp: Unix seconds; None is now.
            data: `event.data`; None is `{}`.
            url: instead of the webhook.

        Returns:
            The status of the (last) answer.

        Raises:
            NoWebhookError: there is no URL.
            aiohttp.ClientError, TimeoutError: there was no answer.
        """
        if (message := self._found(str(message_id))) and name in _STATUSES:
            message["status"] = name
        body = event_body(name, message_id, int(time.time()) if timestamp is None else timestamp, data or {})
        status = 0
        for _ in range(self.faults.repeat_events):
            status = await post(self._session, url or self.webhook_url, body)
        return status

    async def emit_many(
        self, events: Iterable[Emission], *, shuffle: int | None = None, repeat: int = 1
    ) -> list[int]:
        """Post events one after the other, each `repeat` times; returns the statuses, in this order.

        `shuffle` is a seed: then the whole batch, repeats included, is shuffled.
        """
        return [
            await self.emit(event.name, event.message_id, timestamp=event.timestamp, data=event.data)
            for event in arrange_batch(events, shuffle=shuffle, repeat=repeat)
        ]

    def message(self, message_id: int) -> dict[str, Any]:
        """The message itself, to read or change.

        Raises:
            KeyError: there is none.
        """
        if (message := self._found(str(message_id))) is None:
            raise KeyError(message_id)
        return message

    def find(self, message_id: str) -> dict[str, Any] | None:
        """The message as the API returns it; None if there is none, or a fault hides it."""
        return None if self.faults.hides(message_id) else self._found(message_id)

    def _found(self, message_id: str) -> dict[str, Any] | None:
        """Messages that exist at the start are created at the first access: there may be a million of them."""
        if message_id not in self._messages and _is_number_up_to(self._initial_messages, message_id):
            self.add_message(f"recipient{message_id}@example.org", int(message_id))
        return self._messages.get(message_id)


def _is_number_up_to(last: int, text: str) -> bool:
    """Whether it is an id as the provider writes it, `7` and not `07` or a digit of another script, up to `last`."""
    return text.isascii() and text.isdecimal() and not text.startswith("0") and int(text) <= last


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
        ]
    )
    return app


def _api(handler: Handler) -> Handler:
    """Wrap a handler with what all calls of the API share: recording, the token, and faults."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        simulator = request.app[_SIMULATOR]
        faults = simulator.faults
        simulator.requests.append(Request(request.method, request.rel_url.raw_path, time.monotonic()))
        if faults.takes("reset") and request.transport:
            request.transport.abort()
            return web.Response()
        if faults.takes("slow"):
            await asyncio.sleep(faults.slow_seconds)
        expected = f"Bearer {simulator.token}"
        if request.headers.get("Authorization") != expected or faults.takes("unauthorized"):
            return _refusal(401, "the token is wrong")
        if faults.takes("throttle"):
            headers = {"Retry-After": faults.retry_after} if faults.retry_after else None
            return _refusal(429, "too many calls", headers)
        if faults.takes("fail"):
            return _refusal(500, "something is broken here")
        if faults.takes("garbage"):
            return web.Response(text="<html>Welcome</html>", content_type="text/html")
        return await handler(request)

    return guarded


async def _create_message(request: web.Request) -> web.Response:
    document = await _object_in(request)
    missing = [key for key in ("from_email", "to", "subject") if not isinstance(document.get(key), str)]
    if missing:
        return _refusal(422, f"required: {', '.join(missing)}")
    simulator = request.app[_SIMULATOR]
    message = simulator.message(simulator.add_message(document["to"]))
    message.update({key: document[key] for key in _MESSAGE_FIELDS if key in document})
    return _json(201, message)


async def _show_message(request: web.Request) -> web.Response:
    message = request.app[_SIMULATOR].find(request.match_info["id"])
    return _refusal(404, "there is no such message") if message is None else _json(200, message)


async def _set_webhook(request: web.Request) -> web.Response:
    url = (await _object_in(request)).get("url")
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        return _refusal(422, "required: url")
    request.app[_SIMULATOR].webhook_url = url
    return _json(200, {"url": url})


async def _show_webhook(request: web.Request) -> web.Response:
    return _json(200, {"url": request.app[_SIMULATOR].webhook_url})


async def _unset_webhook(request: web.Request) -> web.Response:
    simulator = request.app[_SIMULATOR]
    url = (await _object_in(request)).get("url")
    if url is None or url != simulator.webhook_url:
        return _refusal(404, "that is not the webhook")
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


def _refusal(status: int, detail: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """An error. The provider does not document the format of its own."""
    return _json(status, {"errors": [{"code": status, "detail": detail}]}, headers)


def _json(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status, body=orjson.dumps(body), headers=headers, content_type="application/json"
    )
