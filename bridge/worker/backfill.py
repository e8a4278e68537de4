"""A suppression queue that was gone has missed events; the archive has them all."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from bridge.broker import archive, declaring
from bridge.broker.outcomes import PublishError
from bridge.broker.session import BrokerUnavailableError, told_as_loss
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Collection

    from aio_pika.abc import AbstractConnection

    from bridge.broker.publisher import Publisher
    from bridge.broker.topology import Names

log = logs.logger("worker")

_LONGEST_WAIT_SECONDS: Final = 5.0


class Backfill:
    """Puts the events that suppress, as far as the archive goes back, into the worker's queue again.

    Those that were handled before are recognised by their ids, and change nothing.
    """

    def __init__(self, publisher: Publisher, names: Names, *, suppressing: Collection[str]) -> None:
        """Make a backfill.

        Args:
            publisher: sends the events, through the default exchange.
            names: of archive and queue.
            suppressing: names of the events that the policy uses.
        """
        self._publisher = publisher
        self._names = names
        self._suppressing = suppressing
        self.due = False

    async def find_out(self, connection: AbstractConnection) -> None:
        """Before the topology is made to stand: is the queue missing while there is an archive?

        Raises:
            aiormq.exceptions.AMQPError: the connection is gone.
        """
        if await declaring.depth(connection, self._names.suppression) is None:
            self.due = await declaring.depth(connection, self._names.archive) is not None

    async def run(self, connection: AbstractConnection) -> None:
        """Read the archive once, from its beginning. When the connection is lost on the way, it is still due."""
        log.info(
            "the suppression queue was missing: taking what it may have missed from the archive",
            action="worker.backfill",
        )
        count = 0
        try:
            with told_as_loss(connection):
                async with aclosing(archive.read(connection, self._names.archive)) as found:
                    async for events in found:
                        for event in events:
                            if event.routing_key in self._suppressing:
                                await self._publish(event)
                                count += 1
        except BrokerUnavailableError as error:
            log.warning("the archive is read later", action="worker.backfill_interrupted", error=str(error))
            return
        self.due = False
        log.info("the archive has been read", action="worker.backfilled", events=count)

    async def _publish(self, event: archive.Archived) -> None:
        message = archive.again(event, exchange="", routing_key=self._names.suppression)
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(PublishError),
            wait=wait_random_exponential(multiplier=0.1, max=_LONGEST_WAIT_SECONDS),
        ):
            with attempt:
                await self._publisher.publish(message)
