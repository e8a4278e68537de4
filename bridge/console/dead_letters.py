"""Dead letters: grouped by their error, one group, one letter. `letter_actions` replays and discards them."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from bridge.broker.topology import Names
from bridge.console import letter_actions
from bridge.console.errors import NotFoundError, PageError
from bridge.console.jobs import jobs_of
from bridge.console.letter_listings import LISTINGS, Listings, readings
from bridge.console.letter_words import advice_of, meaning_of
from bridge.console.message_view import message_view
from bridge.console.notices import redirect
from bridge.console.parts import parts_of
from bridge.console.rendering import render
from bridge.console.undo_files import kept_files
from bridge.console.visitor import visitor_of
from bridge.dead_letters.queue_reader import BusyError
from bridge.operations.dead_letters import dead_letter_operations
from bridge.settings.api_section import OVERRIDE, WRITE

if TYPE_CHECKING:
    from bridge.console.letter_listings import Listing
    from bridge.roles.api import ConsoleParts

PAGE_SIZE: Final = 100
_SOON_SECONDS: Final = 0.2
"""What can be read within this time is in the page; else the page asks for it when it stands."""


def set_up(app: web.Application, parts: ConsoleParts) -> None:
    """Make what keeps what the pages have shown."""
    app[LISTINGS] = Listings(dead_letter_operations(parts.settings))
    app.cleanup_ctx.append(readings)


def routes(parts: ConsoleParts) -> list[web.RouteDef]:
    """Its paths below /console."""
    return [
        web.get("/dead-letters", page),
        web.get("/dead-letters/groups", groups),
        web.get("/dead-letters/groups/{key}", group),
        *letter_actions.routes(parts),
        web.get("/dead-letters/{id}", letter),
    ]


async def page(request: web.Request) -> web.StreamResponse:
    """All groups."""
    listings, jobs = request.app[LISTINGS], jobs_of(request)
    context: dict[str, Any] = {
        "job": jobs.in_lane(letter_actions.LANE),
        "jobs": jobs.recent(letter_actions.BACK),
        "files": await kept_files(parts_of(request).settings.console.directory),
        "may_write": visitor_of(request).may(WRITE),
    }
    listing = listings.latest() if context["job"] else listings.fresh()
    if listing is None and not context["job"]:
        reading = listings.begin()
        await asyncio.wait([reading], timeout=_SOON_SECONDS)
        listing = _result_of(reading) if reading.done() else None
    return render(request, "dead_letters.html", listing=listing, **context, **_words(request))


async def groups(request: web.Request) -> web.StreamResponse:
    """The groups alone, when they are read."""
    listings = request.app[LISTINGS]
    listing = listings.fresh() or await _read(listings)
    return render(request, "_letter_groups.html", listing=listing, **_words(request))


async def group(request: web.Request) -> web.StreamResponse:
    """The letters of one group, a page at a time, with the forms."""
    listings, key = request.app[LISTINGS], request.match_info["key"]
    try:
        listing = listings.get(request.query.get("as_of", ""))
    except PageError:  # an old bookmark: what is there now
        listing = listings.fresh() or await _read(listings)
        if not any(one.key == key for one in listing.groups):
            raise NotFoundError(
                "There are no such dead letters now: they were replayed or discarded.",
                title="This group is empty",
            ) from None
        return redirect(request, f"/dead-letters/groups/{key}?as_of={listing.id}")
    found = listing.group(key)
    last = max(1, -(-len(found.letters) // PAGE_SIZE))
    number = min(max(_number(request.query.get("page", "1")), 1), last)
    return render(
        request,
        "letter_group.html",
        listing=listing,
        group=found,
        letters=found.letters[(number - 1) * PAGE_SIZE : number * PAGE_SIZE],
        page=number,
        last=last,
        job=jobs_of(request).in_lane(letter_actions.LANE),
        **_words(request),
        **_rights(request),
    )


async def letter(request: web.Request) -> web.StreamResponse:
    """One letter, whole."""
    listings = request.app[LISTINGS]
    letter_id, died_at = request.match_info["id"], request.query.get("died")
    try:
        found = await listings.operations.find(
            lambda one: one.id == letter_id and died_at in {None, "", str(one.died_at or "")}
        )
    except BusyError as error:
        raise _busy(error) from None
    if found is None:
        raise NotFoundError(
            f"There is no dead letter “{letter_id}” now, or it is behind the first 10,000. It may have been replayed or "
            "discarded meanwhile.",
            title="This letter is not there",
        )
    listing = _listing_of(listings, request.query.get("as_of", ""), found.summary) or listings.keep_one(
        found.summary
    )
    message = found.message
    return render(
        request,
        "dead_letter.html",
        letter=found.summary,
        place=listing.places[found.summary],
        listing=listing,
        message=message_view(message.properties, message.body),
        job=jobs_of(request).in_lane(letter_actions.LANE),
        **_words(request),
        **_rights(request),
    )


def _listing_of(listings: Listings, listing_id: str, letter: Any) -> Listing | None:
    """The listing from which somebody came, if the letter is in it."""
    try:
        listing = listings.get(listing_id)
    except PageError:
        return None
    return listing if letter in listing.places else None


async def _read(listings: Listings) -> Listing:
    reading = listings.begin()
    await asyncio.wait([reading])
    return _result_of(reading)


def _result_of(reading: asyncio.Task[Listing]) -> Listing:
    try:
        return reading.result()
    except BusyError as error:
        raise _busy(error) from None


def _busy(error: BusyError) -> PageError:
    return PageError(
        f"Two who read at once could change the order of the messages: {error}.",
        title="Somebody else reads the dead letters",
        status=HTTPStatus.CONFLICT,
    )


def _words(request: web.Request) -> dict[str, Any]:
    names = Names(parts_of(request).settings.rabbitmq.prefix)
    return {"meaning": meaning_of, "advice": advice_of, "names": names, "now": time.time()}


def _rights(request: web.Request) -> dict[str, Any]:
    visitor = visitor_of(request)
    return {"may_write": visitor.may(WRITE), "may_discard": visitor.may(OVERRIDE)}


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 1  # noqa: PLR2004 -- digits of a page
