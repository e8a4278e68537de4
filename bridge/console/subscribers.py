"""The queues of other services: how far each is behind, and when it has consumed last. It keeps itself up to date."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from bridge.console.figures import subscriber_rows
from bridge.console.monitor import MONITOR
from bridge.console.overview import coded
from bridge.console.rendering import render
from bridge.console.streams import Fragments, is_signed_in, stream_to

if TYPE_CHECKING:
    from bridge.console.figures import SubscriberRow
    from bridge.console.monitor import Monitor
    from bridge.roles.api import ConsoleParts


def routes(_: ConsoleParts) -> list[web.RouteDef]:
    """Its paths below /console."""
    return [web.get("/subscribers", page), web.get("/subscribers/events", events)]


async def page(request: web.Request) -> web.StreamResponse:
    """The page, with what the last look has seen."""
    return render(request, "subscribers.html", **_context(request.config_dict[MONITOR]))


async def events(request: web.Request) -> web.StreamResponse:
    """Every new look: the event `subscribers` is the table with its answer."""
    monitor = request.config_dict[MONITOR]
    async with stream_to(request) as stream:
        fragments = Fragments(request, stream)
        async for look in monitor.looks():
            if not is_signed_in(request):
                break
            await fragments.send("subscribers", "_subscribers.html", **_context(monitor))
            await stream.send_json({"at": look.at if look else None, "now": time.time()}, event="seen")
    return stream


def _context(monitor: Monitor) -> dict[str, Any]:
    look = monitor.latest
    status = look.status if look else None
    rows = [] if status is None else subscriber_rows(status, monitor.trends)
    return {
        "look": look,
        "rows": rows,
        "coded": coded,
        "sentence": _sentence(rows),
        "broker_problem": status.broker.problem if status else "",
        "notes": [note for note in (status.unseen if status else ()) if "subscribers" in note],
        "began": monitor.since,
        "stale": monitor.is_stale,
    }


def _sentence(rows: list[SubscriberRow]) -> str:
    """The answer to what one comes for."""
    behind = [row for row in rows if row.kind in {"bad", "warn"}]
    unknown = [row for row in rows if row.kind == "quiet"]
    if behind:
        named = ", ".join(row.of.queue for row in behind)
        return f"{len(behind)} of {len(rows)} need{'s' if len(behind) == 1 else ''} a look: {named}."
    if unknown:
        return f"How {len(unknown)} of {len(rows)} are is not known now."
    return "It keeps up." if len(rows) == 1 else f"All {len(rows)} keep up."
