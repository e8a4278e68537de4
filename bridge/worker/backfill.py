"""A suppression queue that was deleted has missed events; the archive has them. That it is to be filled is a message."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from bridge.amqp import exclusive_lock
from bridge.amqp.errors import BrokerRefusedError, BrokerUnavailableError, losses_of
from bridge.amqp.publish_batch import not_confirmed
from bridge.amqp.publish_errors import PublishError
from bridge.broker import archive, backfill_marker, declaring
from bridge.events import canonical_name
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.frames import Message
    from bridge.amqp.publisher import Publisher
    from bridge.broker.archive import Archived
    from bridge.broker.backfill_marker import Due
    from bridge.broker.topology import Names
    from bridge.telemetry.metrics import Metrics

    Stand = Callable[[AbstractConnection], Awaitable[None]]

log = logs.logger("worker")

_LOOK_EVERY_SECONDS: Final = 30.0
"""So long a binding that somebody has taken away stays away at the most."""
_AGAIN_SECONDS: Final = 5.0
"""After an interruption, or while another worker fills the queue."""
_AT_ONCE: Final = 200
"""Events that wait for their confirms together."""
_STEP_SECONDS: Final = 1.0
"""How often it is noted how far the archive has been read."""
_LONGEST_WAIT_SECONDS: Final = 5.0


class Backfill:
    """Makes the topology stand, and puts the events that suppress into the worker's queue again where they are missing.

    Those that were handled before are recognised by their ids, and change nothing. One worker at a time does it; where
    it is interrupted, it or another one goes on from where the last marker was left.
    """

    def __init__(
        self,
        publisher: Publisher,
        names: Names,
        *,
        suppressing: Collection[str],
        window: int,
        stand: Stand,
        metrics: Metrics,
    ) -> None:
        """Make a backfill.

        Args:
            publisher: sends the events, through the default exchange.
            names: of archive and queue.
            suppressing: names of the events that the policy uses.
            window: how many messages the publisher may have in flight.
            stand: makes the topology stand.
            metrics: say that it is due, and count the events.
        """
        self._publisher = publisher
        self._names = names
        self._suppressing = suppressing
        self._at_once = max(1, min(_AT_ONCE, window // 2))
        self._stand = stand
        self._due = metrics.backfill_due
        self._events = metrics.backfilled
        self._due.set(0)

    async def run(self, connection: AbstractConnection) -> None:
        """Look again and again, until cancelled; the topology stands when this begins."""
        while True:
            try:
                with losses_of(connection):
                    again = await self.fill_if_due(connection)
                    await asyncio.sleep(_AGAIN_SECONDS if again else _LOOK_EVERY_SECONDS)
                    await self._stand(connection)
            except (BrokerUnavailableError, BrokerRefusedError) as error:
                log.warning(
                    "the topology, or the archive, is looked at later",
                    action="worker.backfill_interrupted",
                    error=str(error),
                )
                await asyncio.sleep(_AGAIN_SECONDS)

    async def fill_if_due(self, connection: AbstractConnection) -> bool:
        """Whether it is still due: another worker is at it."""
        due = bool(await declaring.depth(connection, self._names.backfill))
        self._due.set(due)
        if not due:
            return False
        lock = f"{self._names.backfill}.in-hand"
        if not await exclusive_lock.lock(connection, lock):
            return True
        marked = await backfill_marker.read(connection, self._names.backfill)
        if marked is not None:
            # Bound before the archive's end is looked for: what comes after that comes by itself.
            await self._stand(connection)
            await self._fill(connection, marked)
        await exclusive_lock.unlock(connection, lock)
        self._due.set(0)
        return False

    async def _fill(self, connection: AbstractConnection, due: Due) -> None:
        log.info(
            "the suppression queue was missing: taking what it may have missed from the archive",
            action="worker.backfill",
            offset=due.offset,
        )
        count, noted_at = 0, asyncio.get_running_loop().time()
        begin = archive.BEGINNING if due.offset is None else due.offset
        async with aclosing(archive.read(connection, self._names.archive, begin=begin)) as found:
            async for events in found:
                count += await self._publish(
                    [event for event in events if canonical_name(event.routing_key) in self._suppressing]
                )
                if asyncio.get_running_loop().time() - noted_at > _STEP_SECONDS:
                    due = await self._note(connection, due, events[-1].offset + 1)
                    noted_at = asyncio.get_running_loop().time()
        await backfill_marker.remove(connection, self._names.backfill, due.ids)
        log.info("the archive has been read", action="worker.backfilled", events=count)

    async def _note(self, connection: AbstractConnection, due: Due, offset: int) -> Due:
        """The new marker is confirmed before the old ones go."""
        marker = backfill_marker.marker(self._names.backfill, offset)
        await self._confirmed([marker])
        await backfill_marker.remove(connection, self._names.backfill, due.ids)
        return backfill_marker.Due(offset, frozenset({marker.message_id}))

    async def _publish(self, events: Sequence[Archived]) -> int:
        for begin in range(0, len(events), self._at_once):
            chunk = events[begin : begin + self._at_once]
            await self._confirmed(
                [archive.again(event, exchange="", routing_key=self._names.suppression) for event in chunk]
            )
            self._events.inc(len(chunk))
        return len(events)

    async def _confirmed(self, messages: Sequence[Message]) -> None:
        """Publish until RabbitMQ has confirmed each, however long that takes."""
        left = list(messages)
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(PublishError),
            wait=wait_random_exponential(multiplier=0.1, max=_LONGEST_WAIT_SECONDS),
        ):
            with attempt:
                refused = await not_confirmed(self._publisher, left)
                left = [message for message, _ in refused]
                for _, error in refused:
                    raise error
