"""The events that clients post: a body, and what it says, so that the checker need not read it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MIX: Final = (
    ("delivered", 600),
    ("opened", 280),
    ("clicked", 80),
    ("soft_bounced", 10),
    ("hard_bounced", 15),
    ("unsubscribed", 8),
    ("complined", 2),
    ("skipped", 5),
)
"""Of 1,000 events, how many have this name: a newsletter's."""
BUSY_MIX: Final = (
    ("delivered", 300),
    ("opened", 200),
    ("hard_bounced", 300),
    ("complained", 100),
    ("complined", 100),
)
"""The same, with so many bounces and complaints that each address has several."""
_STEP: Final = 617
"""Prime to 1,000, so that the names come mixed and not in blocks."""


@dataclass(frozen=True, slots=True)
class Mail:
    """An event of a message."""

    message: str
    """The provider's message id."""
    name: str
    """Of the event, in either spelling of the complaint."""
    event_at: int
    """When it happened, Unix seconds."""
    address: str | None
    """To whom the message was sent; None: nobody knows, and the list is not judged for it."""
    body: bytes


def name_of(number: int, names: Sequence[str]) -> str:
    """The name of this event of a mix, all of whose names are given: mixed, and not in blocks."""
    return names[number * _STEP % len(names)]


def names_of(mix: Sequence[tuple[str, int]]) -> tuple[str, ...]:
    """Each name as often as the mix has it."""
    return tuple(name for name, share in mix for _ in range(share))


def recipient(number: int) -> str:
    """To whom the simulator has sent this message, unless it was told otherwise."""
    return f"recipient{number}@example.org"


def recipients_of(addresses: int) -> list[str]:
    """All to whom `mails` are sent."""
    return [recipient(number) for number in range(1, addresses + 1)]


def mails(
    mix: Sequence[tuple[str, int]] = MIX, *, addresses: int | None = None, first: int = 1
) -> Iterator[Mail]:
    """Events without end, each about a message of its own, whose number is its id.

    Args:
        mix: name -> how many of 1,000.
        addresses: how many recipients there are, all in turn; None: each message has its own, as in the simulator.
        first: number of the first message.
    """
    names = names_of(mix)
    number = first - 1
    while True:
        number += 1
        to = recipient(number if addresses is None else number % addresses + 1)
        yield mail_of(number, name_of(number, names), int(time.time()), to)


def mail_of(number: int, name: str, event_at: int, address: str | None) -> Mail:
    """An event as the provider's documentation writes it."""
    event: dict[str, object] = {"name": name, "timestamp": event_at}
    if name == "clicked":
        event["data"] = {"url": f"https://example.com/offer/{number}?utm_source=newsletter"}
    body = orjson.dumps({"message": {"id": number}, "event": event})
    return Mail(str(number), name, event_at, address, body)
