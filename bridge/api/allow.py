"""The allow-list: addresses and domains that are written to although events have suppressed them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge.api import fields, pages
from bridge.api.bodies import NO_STORE, answer, read_object
from bridge.api.problems import NO_ALLOW_RULE, PROTECTED_COMPLAINT, ProblemError, invalid_field
from bridge.settings.api_section import OVERRIDE
from bridge.suppression.addresses import InvalidAddressError
from bridge.suppression.errors import NoSuchRuleError, ProtectedComplaintError

if TYPE_CHECKING:
    from aiohttp import web

    from bridge.api.access import Caller
    from bridge.api.open_list import OpenList
    from bridge.suppression.allow_list import AllowList

PATTERN: Final = "pattern"
_OVER_COMPLAINTS: Final = "over_complaints"


class Allow:
    """Reads and changes the allow-list."""

    def __init__(self, opened: OpenList) -> None:
        """Args: the list."""
        self._opened = opened

    @property
    def _rules(self) -> AllowList:
        return self._opened.store.allow_list

    async def list(self, request: web.Request, _: Caller) -> web.Response:
        """One page of the rules, ordered by pattern."""
        given = fields.query(request, pages.LIMIT, pages.CURSOR)
        limit, cursor = pages.limit(given), pages.read_cursor(given, 1)
        rules = await self._rules.rules(limit=limit + 1, after=None if cursor is None else cursor[0])
        more = len(rules) > limit
        page = rules[:limit]
        following = pages.written_cursor(page[-1].pattern) if more else None
        return answer(
            {"rules": [rule.document() for rule in page], "next": following},
            headers=pages.link_headers(request, {pages.CURSOR: following}) if more else NO_STORE,
        )

    async def get(self, request: web.Request, _: Caller) -> web.Response:
        """The rule of exactly this address or domain."""
        fields.query(request)
        pattern = request.match_info[PATTERN]
        try:
            rule = await self._rules.get(pattern)
        except InvalidAddressError as error:
            raise invalid_field(PATTERN, str(error)) from None
        if rule is None:
            raise _no_rule(pattern)
        return answer(rule.document())

    async def put(self, request: web.Request, caller: Caller) -> web.Response:
        """Allow an address or a domain. A rule that stands already is replaced."""
        fields.query(request)
        body = await read_object(request)
        fields.only(body, "note", _OVER_COMPLAINTS)
        note = fields.text(body, "note", most=fields.MAX_NOTE, preset="")
        over_complaints = fields.flag(body, _OVER_COMPLAINTS)
        if over_complaints:
            caller.require(OVERRIDE, "allowing in spite of complaints")
        try:
            put = await self._rules.put(
                request.match_info[PATTERN],
                actor=caller.actor,
                note=note,
                over_complaints=over_complaints,
                override=over_complaints,
            )
        except InvalidAddressError as error:
            raise invalid_field(PATTERN, str(error)) from None
        except ProtectedComplaintError:
            raise ProblemError(
                PROTECTED_COMPLAINT, "to allow somebody in spite of complaints takes a note that says why"
            ) from None
        return answer(put.rule.document(), status=201 if put.created else 200)

    async def delete(self, request: web.Request, caller: Caller) -> web.Response:
        """Take the rule away: what suppresses the address is in force again at once."""
        given = fields.query(request, "note")
        pattern = request.match_info[PATTERN]
        try:
            rule = await self._rules.delete(
                pattern, actor=caller.actor, note=fields.query_text(given, "note")
            )
        except InvalidAddressError as error:
            raise invalid_field(PATTERN, str(error)) from None
        except NoSuchRuleError:
            raise _no_rule(pattern) from None
        return answer(rule.document())


def _no_rule(pattern: str) -> ProblemError:
    return ProblemError(NO_ALLOW_RULE, f"{pattern} is not on the allow-list")
