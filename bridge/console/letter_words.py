"""What the reasons of dead letters mean, and what helps. docs/operate.md has the same at length."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from bridge.dead_letters.failure_reasons import (
    INVALID_ADDRESS,
    MALFORMED,
    PROVIDER_FAILURE,
    REASONS,
    REFUSED_VALUE,
    SEVERAL_ADDRESSES,
    UNDECODABLE,
    UNKNOWN_MESSAGE,
    UNREADABLE_ANSWER,
    UNRESOLVED,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_OF_RABBITMQ: Final[Mapping[str, str]] = MappingProxyType(
    {
        "delivery_limit": "RabbitMQ gave up: it was delivered too often and never acknowledged",
        "expired": "RabbitMQ took it out of its queue, because it was there too long",
        "rejected": "a consumer rejected it",
        "maxlen": "RabbitMQ took it out of its queue, because the queue was full",
        "unknown": "it does not say why",
    }
)
_READ_LATER: Final = (
    "Look at one of them. A newer release of the bridge may read them: replay them then, or discard them."
)
_ADVICE: Final[Mapping[str, str]] = MappingProxyType(
    {
        UNKNOWN_MESSAGE: "Check that provider.api_token belongs to the account that sends the mail. Then replay them.",
        UNRESOLVED: "Set provider.api_token, so that the worker can look addresses up. Then replay them.",
        PROVIDER_FAILURE: "Look at the error. When the provider answers again, replay them.",
        UNREADABLE_ANSWER: "Look at the error. When the provider answers again with an address, replay them.",
        SEVERAL_ADDRESSES: "Find out in the provider's panel which address it is about, add it to the list, and discard "
        "the letter.",
        INVALID_ADDRESS: "Nobody can be suppressed for it: discard them.",
        MALFORMED: _READ_LATER,
        UNDECODABLE: _READ_LATER,
        REFUSED_VALUE: _READ_LATER,
        "delivery_limit": "Look in the workers' logs for lost connections, restarts and worker.stuck. Then replay them.",
        "expired": "Look with `bridge doctor` for a policy on the queue. Then replay them.",
        "rejected": "Look which other program consumes the queue. Then replay them.",
        "maxlen": "Look with `bridge doctor` for a policy on the queue. Then replay them.",
    }
)


def meaning_of(reason: str) -> str:
    """What a reason says, in words; empty for one that nobody knows."""
    return REASONS.get(reason) or _OF_RABBITMQ.get(reason, "")


def advice_of(reason: str) -> str:
    """What to do about it."""
    return _ADVICE.get(reason, "Look at one of them, and replay or discard it.")
