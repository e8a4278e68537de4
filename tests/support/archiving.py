"""Events as the receiver publishes them, straight into a test's exchange, received when the test says."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from bridge.broker import declaring
from bridge.broker.messages import message_from_body
from bridge.broker.topology_plan import planned_topology
from tests.support.working import body_of, properties_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.settings.sections import Settings
    from tests.support.rabbit import Rabbit


_DAY_SECONDS: Final = 86_400
_LEFT_SECONDS: Final = 20
"""So much of the day, in UTC, is left for what looks at `today`."""


async def today() -> int:
    """Now, in Unix milliseconds; shortly before midnight, shortly after it: who asks for `Today` later means the same day."""
    left = _DAY_SECONDS - time.time() % _DAY_SECONDS
    if left < _LEFT_SECONDS:
        await asyncio.sleep(left)
    return time.time_ns() // 1_000_000


async def archive(rabbit: Rabbit, settings: Settings, bodies: Iterable[tuple[bytes, int]]) -> None:
    """Each body with its `received-at`, Unix milliseconds, in this order; returns when all are confirmed."""
    await declaring.declare(rabbit.connection, planned_topology(settings))
    async with rabbit.channel() as channel:
        aiormq_channel = await channel.get_underlay_channel()
        confirms = []
        for body, received_at in bodies:
            message = message_from_body(body, exchange=rabbit.names.events, received_at=received_at)
            confirms.append(
                aiormq_channel.basic_publish(
                    message.body,
                    exchange=message.exchange,
                    routing_key=message.routing_key,
                    properties=properties_of(message),
                )
            )
        await asyncio.gather(*confirms)


def many(name: str, count: int, received_at: int) -> list[tuple[bytes, int]]:
    """So many events of one name, about the messages 1, 2, …, all received at once."""
    return [(body_of(name, number), received_at) for number in range(1, count + 1)]
