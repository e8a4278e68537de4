"""Builds a dead letter: a copy of the message that cannot be handled, with the reason in its headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.broker.copies import copy_of
from bridge.dead_letters.history import DEAD_AT_HEADER, DEAD_ERROR_HEADER, DEAD_REASON_HEADER

if TYPE_CHECKING:
    from bridge.amqp.message_types import Message
    from bridge.dead_letters.history import RetryHistory


@dataclass(frozen=True, slots=True)
class DeadLetterCause:
    """Why a message becomes a dead letter."""

    reason: str
    """A keyword to filter by."""
    history: RetryHistory
    """The history of its attempts. Its `error` is the reason for people."""


def dead_letter_message(
    properties: bytes, body: bytes, cause: DeadLetterCause, *, queue: str, at: int
) -> Message:
    """The dead letter of a message.

    Args:
        properties: of the message, encoded.
        body: of the message.
        cause: why it cannot be handled.
        queue: the dead-letter queue.
        at: when it became a dead letter, Unix milliseconds.
    """
    headers = {
        DEAD_REASON_HEADER: cause.reason,
        DEAD_ERROR_HEADER: cause.history.error,
        DEAD_AT_HEADER: at,
    }
    return copy_of(
        properties, body, exchange="", routing_key=queue, headers=cause.history.headers() | headers
    )
