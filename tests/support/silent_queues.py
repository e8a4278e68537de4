"""A bound queue of which no confirm comes, as from a quorum queue without a majority or a stream that cannot be written."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.node import Control
    from tests.support.rabbit import Rabbit


@dataclass(slots=True)
class SilentQueue:
    name: str
    control: Control

    async def suspend(self) -> None:
        """RabbitMQ's process of the queue takes nothing more, so whatever is routed to it waits for its confirm."""
        await self._ask("suspend")

    async def speak(self) -> None:
        """It takes what has waited."""
        await self._ask("resume")

    async def _ask(self, what: str) -> None:
        await self.control.evaluate(
            f'{{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{self.name}">>)), '
            f"sys:{what}(amqqueue:get_pid(Queue))."
        )


@asynccontextmanager
async def silent_queue(rabbit: Rabbit, control: Control, key: str) -> AsyncIterator[SilentQueue]:
    """Bound to this key of the events, and silent from now on."""
    async with rabbit.channel() as channel:
        declared = await channel.declare_queue(exclusive=True)
        await declared.bind(rabbit.names.events, key)
        queue = SilentQueue(declared.name, control)
        await queue.suspend()
        try:
            yield queue
        finally:
            await queue.speak()  # RabbitMQ would wait for it when it deletes the queue
