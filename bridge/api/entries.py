"""The entries of the list: read in pages, added, removed; and the history of an address."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from bridge.api import fields, pages
from bridge.api.bodies import NO_STORE, answer, read_object
from bridge.api.checks import ADDRESS
from bridge.api.problems import NOT_SUPPRESSED, PROTECTED_COMPLAINT, ProblemError, invalid_field
from bridge.settings.api_section import OVERRIDE
from bridge.suppression.additions import Addition
from bridge.suppression.addresses import InvalidAddressError
from bridge.suppression.errors import LogTooShortError, NotSuppressedError, ProtectedComplaintError
from bridge.suppression.idempotency import IdempotentRequest
from bridge.suppression.policy import Reason
from bridge.timestamps import rfc3339

if TYPE_CHECKING:
    from aiohttp import web

    from bridge.api.access import Caller
    from bridge.api.open_list import OpenList
    from bridge.suppression.change import Change

MAX_ADDITIONS: Final = 1000
"""In one request."""
MAX_ADDRESS_TEXT: Final = 4000
"""Characters of an address, with a name and comments."""
MAX_IDEMPOTENCY_KEY: Final = 255
_ITEM_FIELDS: Final = (ADDRESS, "reason", "note", "expires_at")
_IDEMPOTENCY_KEY: Final = "Idempotency-Key"


class Entries:
    """Reads and changes the list."""

    def __init__(self, opened: OpenList) -> None:
        """Args: the list."""
        self._opened = opened

    async def list(self, request: web.Request, _: Caller) -> web.Response:
        """One page, ordered by address and reason, with entries that have ended and are not deleted yet."""
        given = fields.query(request, *pages.FILTERS, pages.LIMIT, pages.CURSOR)
        wanted, limit = pages.list_filter(given), pages.limit(given)
        cursor = pages.read_cursor(given, 2)
        after = None if cursor is None else (cursor[0], cursor[1])
        entries = await self._opened.store.entries(wanted, limit=limit + 1, after=after)
        more = len(entries) > limit
        page = entries[:limit]
        following = pages.written_cursor(page[-1].address, page[-1].reason.value) if more else None
        return answer(
            {"suppressions": [entry.document() for entry in page], "next": following},
            headers=pages.link_headers(request, {pages.CURSOR: following}) if more else NO_STORE,
        )

    async def add(self, request: web.Request, caller: Caller) -> web.Response:
        """1 to 1,000 addresses, in one transaction. One that is no address has an error of its own; the others are added."""
        fields.query(request)
        body = await read_object(request)
        fields.only(body, "suppressions")
        items = fields.items(body, "suppressions", most=MAX_ADDITIONS)
        wanted = [_addition(item, f"suppressions[{at}]") for at, item in enumerate(items)]
        results = await self._opened.store.add_many(
            wanted, actor=caller.actor, idempotency_key=await _idempotent(request, caller)
        )
        return answer(
            {
                "results": [
                    result.document() | {ADDRESS: one.address}
                    for one, result in zip(wanted, results, strict=True)
                ]
            }
        )

    async def remove(self, request: web.Request, caller: Caller) -> web.Response:
        """One address: its entry of one reason, or all. Complaints need the scope, the parameter and a note."""
        given = fields.query(request, "reason", "note", OVERRIDE)
        reason = fields.query_choice(given, "reason", pages.REASONS)
        note, override = fields.query_text(given, "note"), fields.query_flag(given, OVERRIDE)
        if override:
            caller.require(OVERRIDE, "lifting a complaint")
        address = request.match_info[ADDRESS]
        try:
            removed = await self._opened.store.remove(
                address,
                reason=None if reason is None else Reason(reason),
                actor=caller.actor,
                note=note,
                override=override,
            )
            (left,) = await self._opened.store.check_many([address])
        except InvalidAddressError as error:
            raise invalid_field(ADDRESS, str(error)) from None
        except NotSuppressedError as error:
            raise ProblemError(NOT_SUPPRESSED, str(error)) from None
        except ProtectedComplaintError:
            raise ProblemError(
                PROTECTED_COMPLAINT,
                "the address has complained: to write to it again takes a token with the scope 'override', "
                "override=true, and a note",
            ) from None
        return answer(
            {
                "removed": [entry.document() for entry in removed],
                "allowed": left.allowed,
                "reasons": [one.document() for one in left.reasons],
            }
        )

    async def history(self, request: web.Request, _: Caller) -> web.Response:
        """The changes of one address, oldest first, with evidence; and whether it was suppressed at a time."""
        given = fields.query(request, "at", "after", pages.LIMIT)
        limit, at = pages.limit(given), fields.query_time(given, "at")
        after = fields.query_number(given, "after", preset=0, least=0, most=pages.MAX_ID)
        address = request.match_info[ADDRESS]
        try:
            changes = await self._opened.store.history(address, limit=limit + 1, after=after)
            then = None if at is None else await self._then(address, at)
        except InvalidAddressError as error:
            raise invalid_field(ADDRESS, str(error)) from None
        except LogTooShortError as error:
            raise invalid_field("query.at", str(error)) from None
        more = len(changes) > limit
        page = changes[:limit]
        following = page[-1].id if more else None
        return answer(
            {
                ADDRESS: address,
                "then": then,
                "changes": [change.document() | {"evidence": _evidence(change)} for change in page],
                "next": following,
            },
            headers=pages.link_headers(request, {"after": following}) if more else NO_STORE,
        )

    async def _then(self, address: str, at: int) -> dict[str, Any]:
        state = await self._opened.store.suppressed_at(address, at)
        return {
            "at": rfc3339(at),
            "suppressed": bool(state.reasons),
            "reasons": [reason.value for reason in state.reasons],
            "change": state.change,
        }


def _addition(item: Any, place: str) -> Addition:
    if not isinstance(item, dict):
        raise invalid_field(place, "must be an object")
    inside = f"{place}."
    fields.only(item, *_ITEM_FIELDS, place=inside)
    reason = fields.text(item, "reason", most=100, preset=Reason.MANUAL.value, place=inside)
    if reason not in pages.REASONS:
        raise invalid_field(f"{inside}reason", f"must be one of {', '.join(pages.REASONS)}")
    address = item.get(ADDRESS)
    if not isinstance(address, str):
        raise invalid_field(inside + ADDRESS, "must be a string" if ADDRESS in item else "is missing")
    return Addition(
        address,
        Reason(reason),
        fields.text(item, "note", most=fields.MAX_NOTE, preset="", place=inside),
        fields.time(item.get("expires_at"), f"{inside}expires_at"),
    )


async def _idempotent(request: web.Request, caller: Caller) -> IdempotentRequest | None:
    """What makes a repeated request the same: the key, whose it is, and the bytes of the body."""
    given = request.headers.getall(_IDEMPOTENCY_KEY, [])
    if not given:
        return None
    where = f"header.{_IDEMPOTENCY_KEY}"
    if len(given) > 1:
        raise invalid_field(where, "is given twice")
    key = given[0]
    if not (0 < len(key) <= MAX_IDEMPOTENCY_KEY and key.isascii() and key.isprintable()):
        raise invalid_field(where, f"must be 1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters")
    return IdempotentRequest(f"{caller.actor}:{key}", sha256(await request.read()).hexdigest())


def _evidence(change: Change) -> str | None:
    return None if change.evidence is None else change.evidence.decode(errors="replace")
