"""Long lists in pages: which entries are wanted, and the cursor that says where a page ends."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, Any, Final

import orjson
from yarl import URL

from bridge.api import fields
from bridge.api.problems import invalid_field
from bridge.suppression.addresses import MAX_ADDRESS_LENGTH, InvalidAddressError, normalise_domain
from bridge.suppression.list_filter import ListFilter
from bridge.suppression.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

FILTERS: Final = ("reason", "domain", "text", "changed_since", "expiring_before")
"""Parameters of a query that choose entries."""
REASONS: Final = tuple(reason.value for reason in Reason)

LIMIT, CURSOR = "limit", "cursor"
MAX_LIMIT: Final = 1000
_USUAL_LIMIT: Final = 100
MAX_ID: Final = 2**63 - 1
"""Of a change."""
_CURSOR: Final = "query.cursor"
_BAD_CURSOR: Final = "is none that this list has given; begin without one"


def list_filter(given: Mapping[str, str]) -> ListFilter:
    """The entries that this query wants."""
    reason = fields.query_choice(given, "reason", REASONS)
    return ListFilter(
        reason=None if reason is None else Reason(reason),
        domain=_domain(given),
        text=fields.query_text(given, "text", most=MAX_ADDRESS_LENGTH) or None,
        changed_since=fields.query_time(given, "changed_since"),
        expiring_before=fields.query_time(given, "expiring_before"),
    )


def _domain(given: Mapping[str, str]) -> str | None:
    if "domain" not in given:
        return None
    try:
        return normalise_domain(fields.query_text(given, "domain", most=MAX_ADDRESS_LENGTH))
    except InvalidAddressError as error:
        raise invalid_field(
            "query.domain", str(error).replace("not an e-mail address", "not a domain")
        ) from None


def limit(given: Mapping[str, str]) -> int:
    """How many items the page may have."""
    return fields.query_number(given, LIMIT, preset=_USUAL_LIMIT, least=1, most=MAX_LIMIT)


def written_cursor(*place: str) -> str:
    """The cursor for what comes behind this place: opaque to clients."""
    return urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")


def read_cursor(given: Mapping[str, str], parts: int) -> tuple[str, ...] | None:
    """The place of the cursor, which has so many parts; None without a cursor."""
    if (cursor := given.get(CURSOR)) is None:
        return None
    try:
        place = orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):  # ValueError: not ASCII, or not JSON
        raise invalid_field(_CURSOR, _BAD_CURSOR) from None
    if (
        not isinstance(place, list)
        or len(place) != parts
        or not all(isinstance(part, str) and "\x00" not in part for part in place)
    ):
        raise invalid_field(_CURSOR, _BAD_CURSOR)
    return tuple(place)


def link_headers(request: web.Request, following: Mapping[str, Any]) -> dict[str, str]:
    """`Link: …; rel="next"`: the same query with other values, relative to the server."""
    path = URL.build(
        path=request.path, query=dict(request.query) | {name: str(value) for name, value in following.items()}
    )
    return {"Link": f'<{path}>; rel="next"', "Cache-Control": "no-store"}
