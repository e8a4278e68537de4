"""The answers of the webhook."""

from __future__ import annotations

from typing import Final, NamedTuple

import orjson
from aiohttp import web

CONFIRMED: Final = "confirmed"
SPOOLED: Final = "spooled"
PROBE: Final = "probe"
QUARANTINED: Final = "quarantined"

EXPECTED_LABELS: Final = (CONFIRMED, SPOOLED, QUARANTINED, PROBE, "400", "404", "405", "408", "413", "503")
"""Labels to create at the start: Prometheus sees no increase from a missing series to 1."""

JSON: Final = "application/json"


class WebhookAnswer(NamedTuple):
    """An answer to the caller."""

    label: str
    """For the metrics."""
    status: int
    body: bytes
    """JSON."""
    headers: tuple[tuple[str, str], ...] = ()
    """Name and value."""
    closes: bool = False
    """Whether the connection is closed: the bytes that still arrive are not a request."""


class RequestRejectedError(Exception):
    """The request is answered with an error. The message is the reason for the caller."""

    def __init__(self, status: int, reason: str, *, closes: bool = False, **headers: str) -> None:
        """Create the error and its answer.

        Args:
            status: of the answer.
            reason: for the caller.
            closes: whether the connection is closed after the answer.
            headers: of the answer; `retry_after` becomes `Retry-After`.
        """
        super().__init__(reason)
        body = orjson.dumps({"status": "refused", "reason": reason})
        titled = tuple((name.replace("_", "-").title(), value) for name, value in headers.items())
        self.answer: Final = WebhookAnswer(str(status), status, body, titled, closes)


def accepted(event_id: str, durability: str) -> WebhookAnswer:
    """The event is durable. Args: its id; `confirmed` or `spooled`."""
    body = f'{{"status":"accepted","id":"{event_id}","durability":"{durability}"}}'.encode("ascii")
    return WebhookAnswer(durability, 200, body)


def quarantined(reason: str) -> WebhookAnswer:
    """The body is durable, but no event. Args: why not."""
    return WebhookAnswer(QUARANTINED, 200, orjson.dumps({"status": "quarantined", "reason": reason}))


def ready() -> WebhookAnswer:
    """To a GET or HEAD: a panel probes the URL."""
    return WebhookAnswer(PROBE, 200, orjson.dumps({"status": "ready"}))


def to_response(answer: WebhookAnswer) -> web.Response:
    """The answer as a response of aiohttp."""
    made = web.Response(
        status=answer.status, body=answer.body, content_type=JSON, headers=dict(answer.headers)
    )
    if answer.closes:
        made.force_close()
    return made
