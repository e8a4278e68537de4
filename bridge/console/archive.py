"""Events of the past: found by message, name and time, counted, shown whole. `archive_replay` publishes them again."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from bridge.broker.topology import Names
from bridge.console import archive_replay
from bridge.console.archive_searches import BACK, SEARCHES, Asked, Searches, presets
from bridge.console.errors import NotFoundError, PageError
from bridge.console.jobs import jobs_of
from bridge.console.message_view import message_view
from bridge.console.parts import parts_of
from bridge.console.rendering import render
from bridge.console.visitor import visitor_of
from bridge.operations.archive_search import ArchiveFindings, event_at
from bridge.operations.replay import ReplayError
from bridge.settings.api_section import OVERRIDE, WRITE

if TYPE_CHECKING:
    from bridge.console.archive_searches import Search
    from bridge.roles.api import ConsoleParts
    from bridge.settings.sections import RabbitMQ

_UNITS: Final = {"Y": "year", "M": "month", "D": "day", "h": "hour", "m": "minute", "s": "second"}
"""Of `rabbitmq.archive_max_age`."""
_SOON_SECONDS: Final = 0.2
"""What is found so soon is in the page; else the page asks for it when it stands."""


def set_up(app: web.Application, parts: ConsoleParts) -> None:
    """Make what keeps the searches."""
    app[SEARCHES] = Searches(parts.settings)


def routes(parts: ConsoleParts) -> list[web.RouteDef]:
    """Its paths below /console."""
    return [
        web.get("/archive", page),
        web.get("/archive/searches/{id}", results),
        web.post("/archive/searches/{id}/stop", stop),
        web.get("/archive/events/{offset}", event),
        *archive_replay.routes(parts),
    ]


async def page(request: web.Request) -> web.StreamResponse:
    """The form, and what was found where it was sent."""
    asked = Asked.of(request.query)
    asked.selection()  # what cannot be is said at once
    search = None
    if request.query.get("search"):
        search = request.app[SEARCHES].begin(asked, jobs_of(request), visitor_of(request))
        await jobs_of(request).wait(search.job, _SOON_SECONDS)
    settings, visitor = parts_of(request).settings, visitor_of(request)
    return render(
        request,
        "archive.html",
        presets=presets(datetime.now(UTC)),
        jobs=jobs_of(request).recent(BACK),
        kept=_kept(settings.rabbitmq),
        names=Names(settings.rabbitmq.prefix),
        queues=archive_replay.known_queues(settings),
        queue=request.query.get("queue", ""),
        may_write=visitor.may(WRITE),
        may_publish=visitor.may(OVERRIDE),
        **({"search": None, "asked": asked} if search is None else _found(search)),
    )


async def results(request: web.Request) -> web.StreamResponse:
    """What a search has found so far."""
    return render(request, "_archive_results.html", **_found(_search(request)))


async def stop(request: web.Request) -> web.StreamResponse:
    """Stop a search; what it has found stays."""
    search, jobs = _search(request), jobs_of(request)
    jobs.stop(search.job)
    await jobs.wait(search.job, 1)
    return render(request, "_archive_results.html", **_found(search))


async def event(request: web.Request) -> web.StreamResponse:
    """One event, whole."""
    offset = Asked(from_offset=request.match_info["offset"]).offset()
    try:
        found = None if offset is None else await event_at(parts_of(request).settings, offset)
    except ReplayError as error:
        raise PageError(f"{error}.", title="There is no archive") from None
    if found is None:
        raise NotFoundError(
            "The archive has no event at this offset: it was deleted because of its age, or was never there.",
            title="This event is not there",
        )
    findings = ArchiveFindings(1)
    findings.add([found])
    [facts] = findings.first
    return render(
        request, "archive_event.html", event=facts, message=message_view(found.properties, found.body)
    )


def _kept(settings: RabbitMQ) -> str:
    """How long the archive keeps events, and how much of them: `7 days, and 2 GiB at the most`."""
    number, unit = settings.archive_max_age[:-1], _UNITS[settings.archive_max_age[-1]]
    age = f"{number} {unit}{'' if number == '1' else 's'}"
    return f"{age}, and {settings.archive_max_bytes / 1024**3:.3g} GiB at the most"


def _search(request: web.Request) -> Search:
    """Raises NotFoundError: it is not kept any more."""
    search = request.app[SEARCHES].get(request.match_info["id"])
    search.job.looked_at = time.monotonic()
    return search


def _found(search: Search) -> dict[str, Any]:
    rows = search.findings.first
    following = ""
    if rows and search.findings.total > len(rows):
        following = search.asked.query(search="yes", from_offset=str(rows[-1].offset + 1))
    return {
        "search": search,
        "job": search.job,
        "asked": search.asked,
        "rows": rows,
        "by_name": search.findings.by_name.most_common(),
        "by_day": sorted(search.findings.by_day.items()),
        "total": search.findings.total,
        "following": following,
    }
