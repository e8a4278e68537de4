"""The events that come in now, as `bridge tail` shows them: each viewer has a queue of his own, which ends when he leaves."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from bridge import events
from bridge.amqp.connection import Link, LinkState
from bridge.amqp.errors import TopologyRefusedError
from bridge.console.parts import parts_of
from bridge.console.rendering import render
from bridge.console.streams import is_signed_in, stream_to
from bridge.operations.tail import tail
from bridge.settings.errors import InvalidSettingsError
from bridge.tasks import background_task
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from bridge.console.streams import Stream
    from bridge.operations.tail import TailedEvent
    from bridge.roles.api import ConsoleParts

EVERY_SECONDS: Final = 0.5
"""Between two updates of the page."""
MOST_ROWS: Final = 20
"""In one update: more than that nobody reads. The others are counted."""
MOST_VIEWERS: Final = 10
"""At once: each has a connection to RabbitMQ and a queue."""
_LONGEST_FILTER: Final = 200
_NAMES: Final = (*sorted(events.KNOWN_NAMES - {events.MALFORMED}), events.MALFORMED)
_VIEWERS: Final = web.AppKey("console.live.viewers", set[asyncio.Event])


class Window:
    """What has come since the last update, as far as it fits on the page."""

    def __init__(self, contains: str) -> None:
        """Args: only events whose id, message id or URL contains this text; empty: all."""
        self._contains = contains.casefold()
        self._rows: deque[TailedEvent] = deque(maxlen=MOST_ROWS)
        self._came = 0

    def add(self, event: TailedEvent) -> None:
        """The next event."""
        about = (event.id, event.message_id or "", event.url or "", event.problem or "")
        if any(self._contains in part.casefold() for part in about):
            self._came += 1
            self._rows.append(event)

    def take(self) -> tuple[list[TailedEvent], int]:
        """The newest ones, the newest first, and how many more have come; then it is empty."""
        rows, came = list(reversed(self._rows)), self._came
        self._rows.clear()
        self._came = 0
        return rows, came - len(rows)


def routes(_: ConsoleParts) -> list[web.RouteDef]:
    """Its paths below /console."""
    return [web.get("/live", page), web.get("/live/events", stream_events)]


def set_up(app: web.Application) -> None:
    """Have the streams end when the application shuts down."""
    app[_VIEWERS] = set()

    async def close(_: web.Application) -> None:
        for ending in app[_VIEWERS]:
            ending.set()

    app.on_shutdown.append(close)


async def page(request: web.Request) -> web.StreamResponse:
    """The page. The filters are in its address, so that it can be passed on."""
    return render(
        request,
        "live.html",
        names=_NAMES,
        chosen=_chosen(request),
        contains=_contains(request),
        most_rows=MOST_ROWS,
        every=EVERY_SECONDS,
    )


async def stream_events(request: web.Request) -> web.StreamResponse:
    """The events: `rows` of the table, `skipped` with how many more have come, `state` of the connection, `refused`.

    After `refused` the stream ends, and trying again does not help.
    """
    viewers, ending = request.config_dict[_VIEWERS], asyncio.Event()
    async with stream_to(request) as stream:
        if len(viewers) >= MOST_VIEWERS:
            await stream.send(
                f"{MOST_VIEWERS} others look at the events already. Try again when one of them has left.",
                event="refused",
            )
            return stream
        viewers.add(ending)
        try:
            await _show(request, stream, ending)
        finally:
            viewers.discard(ending)
    return stream


async def _show(request: web.Request, stream: Stream, ending: asyncio.Event) -> None:
    settings, window = parts_of(request).settings, Window(_contains(request))
    link = Link(settings.rabbitmq, use="consume", metrics=Metrics())
    work = tail(settings, _chosen(request), window.add, link=link)
    async with background_task(work, name="console.tail") as tailing:
        said: dict[str, Any] = {}
        while not ending.is_set() and is_signed_in(request):
            if (state := _state(link)) != said:
                said = state
                await stream.send_json(state, event="state")
            rows, more = window.take()
            if rows:
                text = render(request, "_live_rows.html", rows=rows, more=more).text or ""
                await stream.send(text, event="rows")
            await asyncio.wait([tailing], timeout=EVERY_SECONDS)
            if tailing.done():
                await stream.send(_end_of(tailing), event="refused")
                return


def _state(link: Link) -> dict[str, Any]:
    return {"up": link.state is not LinkState.DOWN, "reason": link.reason}


def _end_of(tailing: asyncio.Task[None]) -> str:
    """Why there are no more events."""
    try:
        tailing.result()
    except (TopologyRefusedError, InvalidSettingsError) as error:
        return f"RabbitMQ does not let the console listen: {error}."
    return "RabbitMQ has ended the connection."


def _chosen(request: web.Request) -> list[str]:
    return [name for name in _NAMES if name in request.query.getall("event", [])]


def _contains(request: web.Request) -> str:
    return request.query.get("contains", "").strip()[:_LONGEST_FILTER]
