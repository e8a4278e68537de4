"""What is answered: the table of answers as bodies, and the bytes on the wire."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson
from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIRMED: Final = "confirmed"
SPOOLED: Final = "spooled"
PROBE: Final = "probe"
QUARANTINED: Final = "quarantined"

USUAL: Final = (CONFIRMED, SPOOLED, QUARANTINED, PROBE, "400", "404", "405", "408", "413", "503")
"""Labels that the metrics show from the beginning: from nothing to 1 Prometheus sees no increase."""

JSON: Final = "application/json"
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class Answer(NamedTuple):
    """What the caller is told."""

    label: str
    """For the metrics."""
    status: int
    body: bytes
    """JSON."""
    headers: Mapping[str, str] = _NONE
    closes: bool = False
    """The connection ends: what is still on its way on it is not another request."""

    def on_the_wire(self) -> bytes:
        """As aiohttp writes it."""
        more = tuple(self.headers.items())
        head = _head(self.status, more, len(self.body), rfc822_formatted_time(), closes=self.closes)
        return head + self.body


@lru_cache(64)
def _head(status: int, more: tuple[tuple[str, str], ...], length: int, date: str, *, closes: bool) -> bytes:
    """The same for all answers of one kind within one second."""
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        + "".join(f"{name}: {value}\r\n" for name, value in more)
        + f"Content-Type: {JSON}\r\nContent-Length: {length}\r\nDate: {date}\r\nServer: {SERVER_SOFTWARE}\r\n"
        + ("Connection: close\r\n\r\n" if closes else "\r\n")
    ).encode("ascii")


class RefusedError(Exception):
    """The request gets no 200. Its message is the reason that the caller is told."""

    def __init__(self, status: int, reason: str, *, closes: bool = False, **headers: str) -> None:
        """Say why.

        Args:
            status: of the answer.
            reason: for the caller.
            closes: the connection ends with the answer.
            headers: of the answer; `retry_after` is `Retry-After`.
        """
        super().__init__(reason)
        body = orjson.dumps({"status": "refused", "reason": reason})
        titled = {name.replace("_", "-").title(): value for name, value in headers.items()}
        self.answer: Final = Answer(str(status), status, body, titled, closes)


def accepted(event_id: str, durability: str) -> Answer:
    """The event is where it cannot be lost: `confirmed` or `spooled`."""
    body = f'{{"status":"accepted","id":"{event_id}","durability":"{durability}"}}'.encode("ascii")
    return Answer(durability, 200, body)


def quarantined(reason: str) -> Answer:
    return Answer(QUARANTINED, 200, orjson.dumps({"status": "quarantined", "reason": reason}))


def ready() -> Answer:
    """For a panel that looks whether there is anything here."""
    return Answer(PROBE, 200, orjson.dumps({"status": "ready"}))


def response(answer: Answer) -> web.Response:
    """For aiohttp to write."""
    made = web.Response(
        status=answer.status, body=answer.body, content_type=JSON, headers=dict(answer.headers)
    )
    if answer.closes:
        made.force_close()
    return made
