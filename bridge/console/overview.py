"""The first page: what is wrong, since when and what to do; then what happens now. It keeps itself up to date."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from aiohttp import web
from markupsafe import Markup, escape

from bridge.console import figures
from bridge.console.advice import advice_on
from bridge.console.monitor import MONITOR
from bridge.console.notices import redirect
from bridge.console.rendering import is_htmx, render
from bridge.console.streams import Fragments, is_signed_in, stream_to
from bridge.console.verdict import verdict_of

if TYPE_CHECKING:
    from bridge.console.monitor import Look, Monitor
    from bridge.diagnostics.status import Status
    from bridge.roles.api import ConsoleParts


def routes(_: ConsoleParts) -> list[web.RouteDef]:
    """Its paths below /console."""
    return [
        web.get("/", page),
        web.get("/events", events),
        web.get("/overview/points", points),
        web.post("/overview/check", check),
    ]


async def page(request: web.Request) -> web.StreamResponse:
    """The page, with what the last look has seen."""
    monitor = request.config_dict[MONITOR]
    return render(request, "overview.html", **_context(monitor))


async def events(request: web.Request) -> web.StreamResponse:
    """Every new look as events: `headline`, `problems`, `checked` and `numbers` are parts of the page, `point` is for the charts."""
    monitor = request.config_dict[MONITOR]
    async with stream_to(request) as stream:
        fragments = Fragments(request, stream)
        sent: Look | None = None
        async for look in monitor.looks():
            if not is_signed_in(request):
                break
            context = _context(monitor)
            await fragments.send("headline", "_headline.html", **context)
            await fragments.send("problems", "_problems.html", **context)
            await fragments.send("checked", "_checked.html", **context)
            await fragments.send("numbers", "_numbers.html", **context)
            newest = monitor.trends.points[-1:]
            if look is not sent and newest:
                await stream.send_json(newest[0].document(), event="point")
            sent = look
            await stream.send_json({"at": look.at if look else None, "now": time.time()}, event="seen")
    return stream


async def points(request: web.Request) -> web.StreamResponse:
    """The last quarter of an hour, for the charts."""
    monitor = request.config_dict[MONITOR]
    return web.json_response([point.document() for point in monitor.trends.points])


async def check(request: web.Request) -> web.StreamResponse:
    """Run `doctor`'s checks now. They change nothing, so that whoever may read may ask for them."""
    monitor = request.config_dict[MONITOR]
    await monitor.checkup.run_now()
    if is_htmx(request):
        return render(request, "_problems.html", **_context(monitor))
    return redirect(request, "/", notice="Everything was checked again.")


def _context(monitor: Monitor) -> dict[str, Any]:
    look = monitor.latest
    status = look.status if look else None
    return {
        "verdict": verdict_of(monitor),
        "look": look,
        "seen": status,
        "advice": advice_on,
        "coded": coded,
        "findings": monitor.checkup.latest,
        "ended": monitor.ended,
    } | ({} if status is None else _numbers(status, monitor))


def _numbers(status: Status, monitor: Monitor) -> dict[str, Any]:
    return {
        "event_rate": figures.total_rate(status.events),
        "answer_rate": figures.total_rate(status.answers),
        "meaning": figures.answer_meaning,
        "queues": figures.queue_rows(status, monitor.trends, monitor.archive),
        "spooled": figures.in_spools(status),
        "breakers": figures.breakers_of(status),
    }


def coded(text: str) -> Markup:
    """A text of `status` or `doctor`, in which commands stand between backticks."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one is not closed: it is none of ours
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in enumerate(parts)
    )
