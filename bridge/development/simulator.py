"""The provider's API over HTTP, for this machine: messages, the webhook, its events, and faults to switch on."""

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
from bridge.development.emission import Emission, arranged, event_body, post
from bridge.development.simulator_faults import Faults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

TOKEN: Final = "simulator-token"  # noqa: S105 -- opens nothing but a simulator
"""The API token of a simulator that was given none."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_REMEMBERED: Final = 10_000
_SENT: Final = ("from_email", "from_name", "subject", "text", "html")
_STATUSES: Final = frozenset({"delivered", "soft_bounced", "hard_bounced"})


@dataclass(frozen=True, slots=True)
class Request:
    """One call of the API, as it came in."""

    method: str
    path: str
    """Percent-encoded."""
    at: float
    """`time.monotonic()`."""


class Simulator:
    """A provider with messages, one webhook and no mail."""

    def __init__(self, base_url: str, token: str, session: aiohttp.ClientSession) -> None:
        self.base_url = base_url
        """What `provider.base_url` is set to."""
        self.token = token
        self.faults = Faults()
        self.requests: deque[Request] = deque(maxlen=_REMEMBERED)
        """The last calls of the API, the newest at the end."""
        self.webhook_url: str | None = None
        self._session = session
        self._messages: dict[str, dict[str, Any]] = {}
        self._from_the_start = 0
        self._last_id = 0

    @classmethod
    @asynccontextmanager
    async def serve(
        cls, host: str = "127.0.0.1", port: int = 0, token: str = TOKEN, *, messages: int = 0
    ) -> AsyncIterator[Simulator]:
        """Serve until the context ends.

        Args:
            host: where to listen.
            port: 0 for any free one; `base_url` has it.
            token: the only API token that is accepted.
            messages: how many exist from the start: ids from 1, to `recipient1@example.org` and so on.

        Raises:
            OSError: the address cannot be bound.
        """
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            simulator = cls("", token, session)
            simulator._from_the_start = simulator._last_id = messages
            # A caller who has gone ends the wait of a slow answer, so that nothing is left to stop for.
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
        """Have a message to this address; returns its id, the next free one if none is given."""
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
        """Post one event as the provider does (and again, if `faults.repeat_events` says so).

        Args:
            name: the event's name, in either spelling.
            message_id: of any message, whether there is one or not.
            timestamp: Unix seconds; now if there is none.
            data: `event.data`, `{}` if there is none.
            url: instead of the webhook that is set.

        Returns:
            The status that was answered, the last one of several.

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
        """Post a batch, one after the other, each event `repeat` times; returns what was answered, in that order.

        With `shuffle`, a seed, the whole batch with its repeats is put in another order.
        """
        return [
            await self.emit(event.name, event.message_id, timestamp=event.timestamp, data=event.data)
            for event in arranged(events, shuffle=shuffle, repeat=repeat)
        ]

    def message(self, message_id: int) -> dict[str, Any]:
        """The message itself, to look at or to change.

        Raises:
            KeyError: there is none.
        """
        if (message := self._found(str(message_id))) is None:
            raise KeyError(message_id)
        return message

    def find(self, message_id: str) -> dict[str, Any] | None:
        """The message as the API shows it, if there is one and no fault hides it."""
        return None if self.faults.hides(message_id) else self._found(message_id)

    def _found(self, message_id: str) -> dict[str, Any] | None:
        """Those that were there from the start are made when somebody asks: there may be a million of them."""
        if message_id not in self._messages and _is_number_up_to(self._from_the_start, message_id):
            self.add_message(f"recipient{message_id}@example.org", int(message_id))
        return self._messages.get(message_id)


def _is_number_up_to(last: int, text: str) -> bool:
    """As the provider writes it: `7`, and not `07` or a digit of another script."""
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
    """The handler behind what all calls of the API share: the record, the token, and what is to go wrong."""

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
    asked = await _object_in(request)
    missing = [key for key in ("from_email", "to", "subject") if not isinstance(asked.get(key), str)]
    if missing:
        return _refusal(422, f"required: {', '.join(missing)}")
    simulator = request.app[_SIMULATOR]
    message = simulator.message(simulator.add_message(asked["to"]))
    message.update({key: asked[key] for key in _SENT if key in asked})
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
    """An error; the provider does not document how its own look."""
    return _json(status, {"errors": [{"code": status, "detail": detail}]}, headers)


def _json(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status, body=orjson.dumps(body), headers=headers, content_type="application/json"
    )
