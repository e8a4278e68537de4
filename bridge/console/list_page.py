"""The suppression list: filters, pages, export. Each step takes a bounded time; where little fits, the page goes on by itself."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from aiohttp import web

from bridge.api import fields, pages
from bridge.api.exporting import send_file
from bridge.api.problems import ProblemError
from bridge.console.address_words import REASONS, path_of
from bridge.console.errors import InvalidFieldError
from bridge.console.forms import Given
from bridge.console.parts import parts_of
from bridge.console.rendering import render
from bridge.suppression.address_keys import is_hash
from bridge.suppression.browsing import Place
from bridge.suppression.list_filter import ALL, ListFilter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bridge.roles.api import ConsoleParts
    from bridge.suppression.allow_list import AllowRule
    from bridge.suppression.entries import Entry
    from bridge.suppression.store import Store
    from bridge.suppression.transfer.exporting import Format

_ROWS: Final = 50
"""Entries on a page."""
_SHOWN: Final = "shown"
"""Parameter: how many entries the page has already, where one step did not fill it."""
_PAGE_SECONDS: Final = 0.05
"""How long a page looks for what is rare before it is there."""
_FURTHER_SECONDS: Final = 0.3
"""The same for each part that is added to it."""
_COUNT_SECONDS: Final = 2.0
_DAYS: Final = ("changed_since", "expiring_before")
"""Filters that are days, or times."""
_NO_PLACE: Final = "This is no place in the list. Begin at its first page."
_NO_DAY: Final = "must be a day, such as 2026-11-26, or a time in RFC 3339"
_DAY_CHARACTERS: Final = len("2026-11-26")


class Row(NamedTuple):
    """An entry as the page shows it."""

    entry: Entry
    path: str
    """Of its address."""
    reason: str
    state: str
    """`suppresses`, `has ended`, or the rule that wins."""
    kind: str
    """Of the badge."""


class AllowedRow(NamedTuple):
    """A rule of the allow-list as its page shows it."""

    rule: AllowRule
    path: str
    """Where one finds whom it is about."""


class Asked(NamedTuple):
    """What a request wants to see."""

    given: Mapping[str, str]
    """The filters as they were written, without empty ones."""
    wanted: ListFilter
    problems: Mapping[str, str]
    """Name of a filter -> what is wrong with it. Then nothing is shown."""


def routes(_: ConsoleParts) -> list[web.RouteDef]:
    """Its paths below /console."""
    return [
        web.get("/list", page),
        web.get("/list/rows", further_rows),
        web.get("/list/count", count),
        web.get("/list/export", export_file),
        web.get("/list/allowed", allowed),
    ]


async def page(request: web.Request) -> web.StreamResponse:
    """The filters, and the first entries that fit."""
    asked = _asked(request)
    context = {} if asked.problems else await _rows(request, asked, seconds=_PAGE_SECONDS)
    return render(
        request,
        "list.html",
        status=HTTPStatus.UNPROCESSABLE_ENTITY if asked.problems else HTTPStatus.OK,
        given=Given(asked.given),
        problems_of=Given(asked.problems),
        query=urlencode(asked.given),
        reasons=REASONS,
        begins=request.query.get(pages.CURSOR) is None,
        **context,
    )


async def further_rows(request: web.Request) -> web.StreamResponse:
    """The fragment with what one more step has found."""
    asked = _understood(request)
    return render(
        request,
        "_list_rows.html",
        query=urlencode(asked.given),
        **await _rows(request, asked, seconds=_FURTHER_SECONDS),
    )


async def count(request: web.Request) -> web.StreamResponse:
    """The fragment that says how many there are: counting takes longer than a page."""
    asked = _understood(request)
    counted = await parts_of(request).opened.store.browsing.count(asked.wanted, seconds=_COUNT_SECONDS)
    return render(request, "_list_count.html", counted=counted, filtered=asked.wanted != ALL)


async def export_file(request: web.Request) -> web.StreamResponse:
    """What is filtered, as a file: the entries in force."""
    asked = _asked(request)
    form: Format = "ndjson" if request.query.get("format") == "ndjson" else "csv"
    if asked.problems:
        raise InvalidFieldError(
            "The list is not exported: a filter is wrong. Set it on the page of the list."
        )
    return await send_file(request, parts_of(request).opened.store.exports, form, asked.wanted)


async def allowed(request: web.Request) -> web.StreamResponse:
    """The rules of the allow-list, page by page. They are made and taken away on the pages of addresses."""
    rules = parts_of(request).opened.store.allow_list
    after = _after(request, 1)
    page = await rules.rules(limit=_ROWS + 1, after=None if after is None else after[0])
    shown = [
        AllowedRow(
            rule, path_of(rule.pattern) if _is_one(rule.pattern) else f"/address?q=@{quote(rule.pattern)}"
        )
        for rule in page[:_ROWS]
    ]
    return render(
        request,
        "list_allowed.html",
        rows=shown,
        count=await rules.count(),
        following=pages.written_cursor(page[_ROWS - 1].pattern) if len(page) > _ROWS else None,
        begins=after is None,
    )


def _is_one(pattern: str) -> bool:
    """Whether a rule is for one address, not for a domain."""
    return "@" in pattern or is_hash(pattern)


def _understood(request: web.Request) -> Asked:
    """The same for what is no page of its own. Raises InvalidFieldError where a filter means nothing."""
    asked = _asked(request)
    if asked.problems:
        wrong = "; ".join(f"{name} {what}" for name, what in asked.problems.items())
        raise InvalidFieldError(f"{wrong}. Set the filters on the page of the list.")
    return asked


def _asked(request: web.Request) -> Asked:
    """Filters that are given, and fit. Whatever else is in the query is nobody's business."""
    given = {name: value for name in pages.FILTERS if (value := request.query.get(name, "").strip())}
    problems = {}
    for name, value in given.items():
        try:
            pages.list_filter(_as_api({name: value}))
        except ProblemError as problem:
            problems[name] = _NO_DAY if name in _DAYS else problem.errors[0].detail
    return Asked(given, ALL if problems else pages.list_filter(_as_api(given)), problems)


def _as_api(given: Mapping[str, str]) -> dict[str, str]:
    """As the API takes them: a day is its beginning, in UTC."""
    return {
        name: f"{value}T00:00:00Z" if name in _DAYS and len(value) == _DAY_CHARACTERS else value
        for name, value in given.items()
    }


async def _rows(request: web.Request, asked: Asked, *, seconds: float) -> dict[str, Any]:
    """What the templates need: the entries that are found in this time, and where it goes on. One step is always made."""
    store, until = parts_of(request).opened.store, time.monotonic() + seconds
    shown, place = _shown(request), _place(request)
    entries: list[Entry] = []
    while True:
        part = await store.browsing.step(asked.wanted, limit=_ROWS - shown - len(entries), after=place)
        entries += part.entries
        place = part.following
        if place is None or shown + len(entries) >= _ROWS or time.monotonic() >= until:
            break
    shown += len(entries)
    return {
        "rows": await _told(store, entries),
        "following": None
        if place is None
        else pages.written_cursor(str(place.at), place.address, place.reason),
        "full": shown >= _ROWS,
        "shown": shown,
        "looked_to": "" if place is None else place.address,
    }


def _shown(request: web.Request) -> int:
    try:
        return fields.query_number(request.query, _SHOWN, preset=0, least=0, most=_ROWS - 1)
    except ProblemError:
        return 0


def _place(request: web.Request) -> Place | None:
    cursor = _after(request, 3)
    if cursor is None:
        return None
    at, address, reason = cursor
    if not (at.removeprefix("-").isdecimal() and at.isascii() and len(at) <= len(str(pages.MAX_ID)) - 1):
        raise InvalidFieldError(_NO_PLACE)
    return Place(int(at), address, reason)


def _after(request: web.Request, parts: int) -> tuple[str, ...] | None:
    try:
        return pages.read_cursor(request.query, parts)
    except ProblemError:
        raise InvalidFieldError(_NO_PLACE) from None


async def _told(store: Store, entries: Sequence[Entry]) -> list[Row]:
    """The entries with whether they count now: a rule of the allow-list may win, and some have ended."""
    addresses = list(dict.fromkeys(entry.address for entry in entries))
    checked = dict(zip(addresses, await store.check_many(addresses), strict=True))
    now, rows = time.time(), []
    for entry in entries:
        found = checked[entry.address]
        if entry.expires_at is not None and entry.expires_at <= now:
            state, kind = "has ended", "quiet"
        elif found.allow_rule is None or entry.reason in {one.reason for one in found.reasons}:
            state, kind = "suppresses", "bad"
        else:
            state, kind = f"allowed by {found.allow_rule}", "good"
        rows.append(Row(entry, path_of(entry.address), REASONS[entry.reason], state, kind))
    return rows
