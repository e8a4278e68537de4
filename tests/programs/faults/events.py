"""The events that are posted: the mix of a real sender, every one of its own, and what shall come of each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import orjson

from tests.support.spellings import SPELLINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

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
"""Of 1,000 events, how many have this name."""

KNOWN_MESSAGES: Final = 200_000
"""The simulator knows the messages up to this one."""
SUPPRESSING: Final = frozenset({"hard_bounced", "complined"})
_STEP: Final = 617
"""Prime to 1,000, so that the names come mixed and not in blocks."""
_NAMES: Final = tuple(name for name, share in MIX for _ in range(share))


def name_of(number: int) -> str:
    return _NAMES[number * _STEP % len(_NAMES)]


def address_of(number: int) -> str:
    """Whom the simulator has sent message `number` to."""
    return f"recipient{number}@example.org"


def bodies(*, spelt_oddly: bool = False) -> Iterator[tuple[int, bytes]]:
    """Number and body, without end; the number is the message's id, from 1 on.

    Args:
        spelt_oddly: whether each hard bounce is written in another way than the provider's documentation has it.
    """
    spellings = tuple(SPELLINGS.values())
    now, number = int(time.time()), 0
    while True:
        number += 1
        name = name_of(number)
        event: dict[str, object] = {"name": name, "timestamp": now}
        if name == "clicked":
            event["data"] = {"url": f"https://example.com/offer/{number}?utm_source=newsletter"}
        if spelt_oddly and name == "hard_bounced":
            yield number, spellings[number % len(spellings)](number)
            continue
        yield number, orjson.dumps({"message": {"id": number}, "event": event})
