"""The rules, by the names that violations have. docs/testing.md has the same list."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

RULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "lost-event": "what was answered 200 is handed over by each queue that is bound to it",
        "unsent-event": "what a queue hands over was posted, byte for byte",
        "refused-event": "what was answered 4xx each time does not come",
        "early-event": "nothing comes before it was posted",
        "wrong-name": "an event comes under the name under which it was posted",
        "misrouted-event": "a queue gets only what it is bound to",
        "two-bodies": "an event id has one body",
        "two-ids": "a body has one event id, however often it is posted or delivered",
        "lost-entry": "an address whose event suppresses and was answered 200 is on the list",
        "unexplained-entry": "an entry has an event that asks for it",
        "count-too-low": "each event that was answered 200 counts in its entry",
        "count-too-high": "no event counts twice",
        "wrong-times": "an entry has the first and the last time of its events",
        "wrong-cause": "an entry names the message of its earliest event",
        "lost-change": "each event that counts has a change that was published",
        "change-gap": "each change in the log of the list was published",
        "change-from-nowhere": "each change that was published is in the log of the list",
        "altered-change": "a change that is published again says the same",
        "change-order": "the changes of an address are published in their order",
        "unexplained-change": "a change has an event that makes it: of this address, for this reason, not refused",
        "second-change": "an event makes one change",
        "early-change": "no change is published before its event was posted",
        "wrong-action": "the first change of an entry is `added`, each further one `updated`",
        "wrong-reasons": "a change says for what the address is suppressed then",
        "no-order": "some order of an address' events gives both its changes and its entries",
        "backward-read": "the list does not go back between two looks",
        "early-read": "a look shows nothing of an event that was not posted yet",
        "stale-read": "a look shows at least what was published before it",
        "unexplained-read": "a look shows what the list is after some of the events, in some order",
        "undecided": "an order was found, or excluded, within the search's budget",
        "unpublished-change": "the outbox is empty at the end",
        "dead-letter": "no event is in the dead letters at the end, unless the scenario allows it",
        "left-in-spool": "the spool is empty at the end",
        "left-in-queue": "the bridge's own queues are empty at the end",
    }
)
"""Name -> what holds."""
