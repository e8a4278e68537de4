"""Dead letters for tests: put where the worker buries them, and read without disturbing anybody."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import aio_pika
from aio_pika import DeliveryMode

from tests.support.traffic import FORGED_HEADER
from tests.support.working import AT, body_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.rabbit import Rabbit

HOUR = 3600


async def move_to_dead_letters(
    rabbit: Rabbit,
    numbers: Iterable[int],
    *,
    reason: str = "unknown-message",
    event: str = "hard_bounced",
    hours: float = 0,
    **headers: Any,
) -> None:
    """Letters with the ids `letter-N`, dead for so many hours."""
    died_at = int((time.time() - hours * HOUR) * 1000)
    async with rabbit.channel() as channel:
        for number in numbers:
            await channel.default_exchange.publish(
                _letter(number, event, _headers(reason, died_at) | headers), routing_key=rabbit.names.dead
            )


def _letter(number: int, event: str, headers: dict[str, Any]) -> aio_pika.Message:
    return aio_pika.Message(
        body_of(event, number),
        message_id=f"letter-{number}",
        type=event,
        content_type="application/json",
        timestamp=AT,
        app_id="bridge",
        delivery_mode=DeliveryMode.PERSISTENT,
        headers=headers,
    )


def _headers(reason: str, died_at: int) -> dict[str, Any]:
    return {
        "received-at": 17,
        "dead-reason": reason,
        "dead-error": "the provider does not know it",
        "dead-at": died_at,
        "retry-attempt": 4,
        "retry-first-failure": died_at - HOUR * 1000,
        "retry-error": "404",
        "retry-where": "provider@a-host",
        "retry-reason": reason,
        "retry-same-since": died_at - HOUR * 1000,
        FORGED_HEADER: "the ids of these letters are names",
    }


def ids(numbers: Iterable[int]) -> list[str]:
    return [f"letter-{number}" for number in numbers]
