"""One address: may we write to it, why not, since when, and all that ever happened. Found while it is typed."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from aiohttp import web

from bridge.api import fields, pages
from bridge.api.problems import ProblemError
from bridge.console import address_actions as actions
from bridge.console.address_words import REASONS, in_words, path_of, timeline
from bridge.console.forms import Form, Given, RefusedError, form_of
from bridge.console.notices import redirect
from bridge.console.parts import parts_of
from bridge.console.rendering import render
from bridge.suppression.address_keys import domain_of, is_hash
from bridge.suppression.addresses import MAX_TEXT_LENGTH, InvalidAddressError
from bridge.suppression.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from bridge.roles.api import ConsoleParts
    from bridge.suppression.change import Change
    from bridge.suppression.checking import Checked
    from bridge.suppression.store import Store

ADDRESS: Final = "address"
_FOUND: Final = 10
"""Addresses that a search shows."""
_CHANGES: Final = 25
"""Changes on one page of a timeline."""


class Hit(NamedTuple):
    """An address that was found."""

    address: str
    path: str
    known: bool
    """Whether the list or its log has anything of it."""
    checked: Checked
    reasons: str
    """Why it must not be written to, in words."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A form that was not carried out: it is shown again."""

    form: str
    """Its action, such as `lift`."""
    message: str
    status: HTTPStatus
    given: Form
    """What was in it."""


def routes(_: ConsoleParts) -> list[web.RouteDef]:
    """Its paths below /console."""
    one = "/address/{address:[^/]+}"
    return [
        web.get("/address", search_page),
        web.get("/address/search", search_results),
        web.get(one, page),
        web.get(f"{one}/changes", older_changes),
        *(web.post(f"{one}/{name}", _acting(name)) for name in actions.ACTIONS),
    ]


async def search_page(request: web.Request) -> web.StreamResponse:
    """The search. Whoever presses Enter behind a known address is led to its page."""
    text, problem = _text(request)
    hits = await _search(parts_of(request).opened.store, text)
    if text and (len(hits) == 1 or (hits and hits[0].address == text.lower())):
        return redirect(request, hits[0].path)
    return render(request, "address.html", q=text, hits=hits, problem=problem)


async def search_results(request: web.Request) -> web.StreamResponse:
    """The fragment below the field, while somebody types."""
    text, problem = _text(request)
    hits = await _search(parts_of(request).opened.store, text)
    return render(request, "_address_found.html", q=text, hits=hits, problem=problem)


async def page(request: web.Request) -> web.StreamResponse:
    """One address."""
    return await _page(request)


async def older_changes(request: web.Request) -> web.StreamResponse:
    """The fragment with the changes before one."""
    address, store = request.match_info[ADDRESS], parts_of(request).opened.store
    before = _before(request)
    try:
        changes = await store.inquiries.latest_changes(address, limit=_CHANGES + 1, before=before)
    except InvalidAddressError as error:
        return _no_address(request, address, error)
    return render(
        request,
        "_address_changes.html",
        path=path_of(address),
        lines=timeline(changes[:_CHANGES]),
        older=changes[_CHANGES - 1].id if len(changes) > _CHANGES else None,
        continued=True,
    )


def _acting(name: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The handler of a form: done, it leads to the page of the address, which says so; refused, it shows the form again."""

    async def handler(request: web.Request) -> web.StreamResponse:
        given = await form_of(request)
        try:
            done = await actions.ACTIONS[name](request, request.match_info[ADDRESS], given)
        except InvalidAddressError as error:
            return _no_address(request, request.match_info[ADDRESS], error)
        except RefusedError as error:
            return await _page(request, Refused(name, error.detail, error.status, given))
        return redirect(request, path_of(done.address), notice=done.sentence)

    return handler


async def _page(request: web.Request, refused: Refused | None = None) -> web.StreamResponse:
    address, store = request.match_info[ADDRESS], parts_of(request).opened.store
    before = _before(request)
    try:
        known = await store.inquiries.about(address)
        changes = await store.inquiries.latest_changes(address, limit=_CHANGES + 1, before=before)
    except InvalidAddressError as error:
        return _no_address(request, address, error)
    return render(
        request,
        "address_one.html",
        status=HTTPStatus.OK if refused is None else refused.status,
        known=known,
        path=path_of(known.address),
        domain=domain_of(known.address),
        is_hash=is_hash(known.address),
        hashed=any(is_hash(entry.address) for entry in known.entries),
        words=REASONS,
        in_words=in_words,
        by=_by_hand(changes),
        complaint=Reason.COMPLAINT,
        lines=timeline(changes[:_CHANGES]),
        older=changes[_CHANGES - 1].id if len(changes) > _CHANGES else None,
        before=before,
        continued=False,
        refused=refused,
        given=Given() if refused is None else refused.given,
    )


def _by_hand(changes: Iterable[Change]) -> dict[Reason, Change]:
    """Reason -> the last addition that was no event's: it says who, and why."""
    found: dict[Reason, Change] = {}
    for change in changes:
        if change.action in {"added", "updated"} and change.event_id is None and change.reason is not None:
            found.setdefault(change.reason, change)
    return found


async def _search(store: Store, text: str) -> list[Hit]:
    found = await store.inquiries.search(text, limit=_FOUND)
    checked = await store.check_many([one.address for one in found])
    return [
        Hit(
            one.address, path_of(one.address), one.known, check, in_words(why.reason for why in check.reasons)
        )
        for one, check in zip(found, checked, strict=True)
    ]


def _text(request: web.Request) -> tuple[str, str]:
    """What is searched for, and why it cannot be; one of the two is empty."""
    try:
        return fields.query_text(request.query, "q", most=MAX_TEXT_LENGTH).strip(), ""
    except ProblemError as problem:
        return "", f"This cannot be searched for: it {problem.errors[0].detail}."


def _before(request: web.Request) -> int | None:
    try:
        return fields.query_number(request.query, "before", preset=0, least=0, most=pages.MAX_ID) or None
    except ProblemError:
        return None


def _no_address(request: web.Request, text: str, error: InvalidAddressError) -> web.Response:
    return render(
        request,
        "address.html",
        status=HTTPStatus.NOT_FOUND,
        q=text,
        hits=[],
        problem=f"“{text[:100]}” is {error}.",
    )
