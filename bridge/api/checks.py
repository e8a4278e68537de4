"""May these addresses be written to? And why not?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from bridge.api import fields
from bridge.api.bodies import answer, read_object
from bridge.api.problems import invalid_field
from bridge.suppression.transfer.times import as_text

if TYPE_CHECKING:
    from aiohttp import web

    from bridge.api.access import Caller
    from bridge.api.freshness import Freshness
    from bridge.api.open_list import OpenList
    from bridge.suppression.checking import Checked
    from bridge.telemetry.metrics import Metrics

MAX_ADDRESSES: Final = 10_000
"""In one request."""
ADDRESS: Final = "address"
_ALLOWED, _SUPPRESSED, _INVALID = "allowed", "suppressed", "invalid"
"""Label values of what was asked about."""

_REST_IF_ALLOWED: Final = b'"allowed":true,"reasons":[],"allow_rule":null,"error":null}'


class Checks:
    """Answers checks from the list."""

    def __init__(self, opened: OpenList, freshness: Freshness, metrics: Metrics) -> None:
        """Args: the list; how far it may be behind; metrics: count the addresses."""
        self._opened = opened
        self._freshness = freshness
        self._counters = {
            result: metrics.buffered_counter(metrics.api_checked.labels(result))
            for result in (_ALLOWED, _SUPPRESSED, _INVALID)
        }

    async def many(self, request: web.Request, _: Caller) -> web.Response:
        """1 to 10,000 addresses, answered in the order asked. One that is no address has an error of its own."""
        fields.query(request)
        body = await read_object(request)
        fields.only(body, "addresses")
        addresses = fields.texts(fields.items(body, "addresses", most=MAX_ADDRESSES), "addresses")
        checked = await self._opened.store.check_many(addresses)
        results = [
            _result(asked, one) if one.reasons or one.error or one.allow_rule else _allowed(asked)
            for asked, one in zip(addresses, checked, strict=True)
        ]
        self._count(checked)
        return answer({"fresh_as_of": self._freshness.as_of, "results": results})

    async def one(self, request: web.Request, _: Caller) -> web.Response:
        """One address, with all its entries: also those that have ended, or over which the allow-list wins."""
        fields.query(request)
        address = request.match_info[ADDRESS]
        (checked,) = await self._opened.store.check_many([address])
        if checked.error is not None:
            raise invalid_field(ADDRESS, checked.error)
        entries = await self._opened.store.entries_of(address)
        result = _result(address, checked)
        self._count([checked])
        return answer(
            {"fresh_as_of": self._freshness.as_of}
            | result
            | {"entries": [entry.document() for entry in entries]}
        )

    def _count(self, results: list[Checked]) -> None:
        allowed = sum(result.allowed for result in results)
        invalid = sum(result.error is not None for result in results)
        self._counters[_ALLOWED].count += allowed
        self._counters[_INVALID].count += invalid
        self._counters[_SUPPRESSED].count += len(results) - allowed - invalid


def _allowed(asked: str) -> orjson.Fragment:
    """As `_result` for an address that is on no list, as most are: at a tenth of its price."""
    return orjson.Fragment(b'{"address":%b,%b' % (orjson.dumps(asked), _REST_IF_ALLOWED))


def _result(asked: str, checked: Checked) -> dict[str, Any]:
    """The answer for one address, in the spelling in which it was asked for: so that it is found again."""
    _, allowed, reasons, allow_rule, error = checked
    return {
        "address": asked,
        "allowed": allowed,
        # As `InForce.document`, at a third of its price.
        "reasons": [
            {
                "reason": reason,
                "since": as_text(since),
                "expires": None if expires is None else as_text(expires),
            }
            for reason, since, expires in reasons
        ]
        if reasons
        else reasons,
        "allow_rule": allow_rule,
        "error": error,
    }
