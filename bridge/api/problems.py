"""What goes wrong, as an answer: `application/problem+json` of RFC 9457, with a `type` that does not change."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONTENT_TYPE: Final = "application/problem+json"
_URN: Final = "urn:bridge:problem:"

MAX_ERRORS: Final = 100
"""How many errors of one request are listed."""


class Kind(NamedTuple):
    """One type of problem."""

    name: str
    """The end of its `type`."""
    status: int
    title: str


INVALID_JSON: Final = Kind("invalid-json", 400, "The body is not JSON")
UNAUTHORIZED: Final = Kind("unauthorized", 401, "No valid token")
INSUFFICIENT_SCOPE: Final = Kind("insufficient-scope", 403, "The token may not do this")
NOT_FOUND: Final = Kind("not-found", 404, "There is no such resource")
NOT_SUPPRESSED: Final = Kind("not-suppressed", 404, "The address is not on the list")
NO_ALLOW_RULE: Final = Kind("no-allow-rule", 404, "There is no such rule on the allow-list")
METHOD_NOT_ALLOWED: Final = Kind("method-not-allowed", 405, "The resource does not have this method")
BODY_TOO_SLOW: Final = Kind("body-too-slow", 408, "The body did not come in time")
PROTECTED_COMPLAINT: Final = Kind("protected-complaint", 409, "A complaint protects the address")
NO_PRIVACY_KEY: Final = Kind("no-privacy-key", 409, "There is no privacy key")
IDEMPOTENCY_CONFLICT: Final = Kind(
    "idempotency-conflict", 409, "The idempotency key was used for another request"
)
BODY_TOO_LARGE: Final = Kind("body-too-large", 413, "The body is too large")
UNSUPPORTED_MEDIA_TYPE: Final = Kind("unsupported-media-type", 415, "The body must be JSON")
INVALID_REQUEST: Final = Kind("invalid-request", 422, "The request has errors")
RATE_LIMITED: Final = Kind("rate-limited", 429, "Too many requests with this token")
INTERNAL: Final = Kind("internal", 500, "An unforeseen failure")
LIST_FAILED: Final = Kind("list-failed", 500, "The suppression list failed")
LIST_UNAVAILABLE: Final = Kind("list-unavailable", 503, "The suppression list is not available now")

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class FieldError(NamedTuple):
    """One error of a request."""

    where: str
    """Such as `addresses[3]`, or `query.limit`."""
    detail: str


class ProblemError(Exception):
    """Ends a request with a problem."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        errors: Sequence[FieldError] = (),
        *,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> None:
        """Make one.

        Args:
            kind: its type.
            detail: one or two sentences: what is wrong, and what to do.
            errors: each with its place.
            headers: of the answer.
        """
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.errors = errors
        self.headers = headers

    def response(self) -> web.Response:
        """The answer."""
        body: dict[str, Any] = {
            "type": _URN + self.kind.name,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
        }
        if self.errors:
            body["errors"] = [error._asdict() for error in self.errors[:MAX_ERRORS]]
        return web.Response(
            status=self.kind.status,
            body=orjson.dumps(body),
            content_type=CONTENT_TYPE,
            headers={"Cache-Control": "no-store", **self.headers},
        )


def invalid(errors: Sequence[FieldError]) -> ProblemError:
    """The problem of a request with these errors, at least one."""
    first = f"{errors[0].where}: {errors[0].detail}"
    return ProblemError(
        INVALID_REQUEST, first if len(errors) == 1 else f"{first} (and {len(errors) - 1} more)", errors
    )


def invalid_field(where: str, detail: str) -> ProblemError:
    """The problem of a request with one error. Args: where it is, such as `query.limit`; what is wrong."""
    return invalid([FieldError(where, detail)])
