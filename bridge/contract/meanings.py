"""What the keywords of the contract mean, in a few words for people. The keywords themselves are those of the code."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, get_args

from bridge import events
from bridge.suppression.change import Action
from bridge.suppression.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

EVENTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        events.DELIVERED: "The message was delivered.",
        events.OPENED: "The recipient opened the message.",
        events.CLICKED: "The recipient followed a link of the message; `event.data.url` holds it.",
        events.UNSUBSCRIBED: "The recipient unsubscribed.",
        events.COMPLAINED: "The recipient reported the message as spam. The provider also spells it `complined`.",
        events.SKIPPED: "The message was not sent: for example, the recipient had unsubscribed or complained before.",
        events.SOFT_BOUNCED: "The recipient's server refused the message, and may accept it later.",
        events.HARD_BOUNCED: "The recipient's server refused the message for good.",
    }
)
"""Canonical name of each event that the provider documents -> what happened."""

_ACTIONS: Final[Mapping[Action, str]] = MappingProxyType(
    {
        "added": "The address is on the list now for this reason, and was not before.",
        "updated": "The address was on the list for this reason already, and something of the entry has changed.",
        "removed": "A person took the address off the list for this reason.",
        "expired": "The entry has ended by itself.",
        "allowed": "A rule of the allow-list was set; `address` is its address or domain, `reason` is null.",
        "disallowed": "A rule of the allow-list was removed; `address` is its address or domain, `reason` is null.",
        "erased": "A person was erased for good; `address` is the key under which the person stays suppressed.",
    }
)

_REASONS: Final[Mapping[Reason, str]] = MappingProxyType(
    {
        Reason.HARD_BOUNCE: "a hard bounce",
        Reason.COMPLAINT: "a complaint",
        Reason.UNSUBSCRIBE: "the recipient has unsubscribed",
        Reason.SKIPPED: "the provider has skipped a message",
        Reason.SOFT_BOUNCE: "several soft bounces",
        Reason.MANUAL: "a person or an import has put it there",
    }
)

ACTIONS: Final[Mapping[str, str]] = MappingProxyType({name: _ACTIONS[name] for name in get_args(Action)})
"""Action of a change of the list -> what was done."""
REASONS: Final[Mapping[str, str]] = MappingProxyType({one.value: _REASONS[one] for one in Reason})
"""Reason of an entry of the list -> what it stands for."""
DEATHS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "rejected": "a consumer has rejected the message, without requeue",
        "expired": "it has waited longer than `x-message-ttl` of the queue",
        "maxlen": "the queue was full, and this was its oldest message",
        "delivery_limit": "it was delivered more often than `x-delivery-limit` of the queue",
    }
)
"""RabbitMQ's own reasons to dead-letter a message: https://www.rabbitmq.com/docs/dlx."""
