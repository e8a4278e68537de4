"""The mix of the load as requests: for each of 1,000 events what comes before the message's id, and what behind it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from tests.support.history.mail import MIX, name_of, names_of

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_ID: Final = 1_000_000_000
"""Ids have ten digits, so that the length of a request depends on its name alone."""
LENGTH: Final = sum(share for _, share in MIX)
_ID: Final = b"0" * len(str(FIRST_ID))


class Halves(NamedTuple):
    """A request without the id of its message."""

    head: bytes
    tail: bytes


def requests(path: str) -> list[Halves]:
    """One for each event of the mix, in the order in which they are sent."""
    return [_request(path, body) for body in _bodies()]


def as_lua(path: str) -> str:
    """The same as a chunk of Lua that returns them; JSON's escapes of plain ASCII are Lua's as well."""
    lines = [
        f"{{{orjson.dumps(head.decode()).decode()}, {orjson.dumps(tail.decode()).decode()}}},"
        for head, tail in requests(path)
    ]
    return "\n".join(["return {", *lines, "}", ""])


def _request(path: str, body: Halves) -> Halves:
    length = len(body.head) + len(_ID) + len(body.tail)
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {length}",
        "",
        "",
    )
    return Halves("\r\n".join(lines).encode() + body.head, body.tail)


def _bodies() -> Iterator[Halves]:
    now, names = int(time.time()), names_of(MIX)
    for number in range(LENGTH):
        name = name_of(number, names)
        event: dict[str, object] = {"name": name, "timestamp": now}
        if name == "clicked":
            event["data"] = {"url": f"https://example.com/offer/{number}?utm_source=newsletter"}
        yield Halves(b'{"message":{"id":', b'},"event":' + orjson.dumps(event) + b"}")
