"""Takes what senders announce by RabbitMQ (`email.sent`), and keeps the addresses of their messages."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from bridge.amqp.errors import BrokerUnavailableError, session_errors_as_loss
from bridge.broker.messages import malformed_message
from bridge.broker.trace_headers import trace_of, with_trace
from bridge.dead_letters import republishing
from bridge.suppression.announcements import InvalidAnnouncementError, read_announcement
from bridge.suppression.errors import RefusedValueError, StoreUnavailableError
from bridge.telemetry import logs
from bridge.timestamps import unix_ms_now
from bridge.worker import failures
from bridge.worker.delivery_result import DeliveryResult, failed_delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.message_types import Delivery
    from bridge.dead_letters.republishing import MessagePublisher
    from bridge.suppression.store import Store
    from bridge.telemetry.metrics import Metrics
    from bridge.worker.consumer import Consumer
    from bridge.worker.dependencies import Dependency
    from bridge.worker.failures import Failure

log = logs.logger("worker")

PREFETCH: Final = 20
"""How many announcements are unacknowledged at once: each has up to 10,000 messages."""
_MAX_BATCH: Final = 10_000
"""Messages that are stored in one transaction, if that many have come."""
_RETRY_SECONDS: Final = 5.0
"""The pause before the queue is consumed again, for example while it does not exist."""


class _Read(NamedTuple):
    """An announcement that was read."""

    result: DeliveryResult
    """Once its addresses are stored."""
    addresses: Mapping[str, str]


class Announcements:
    """The `DeliveryHandler` of announcements. Its `route_failure` puts what it cannot read into the quarantine."""

    def __init__(
        self,
        store: Store,
        publisher: MessagePublisher,
        *,
        quarantine: str,
        database: Dependency,
        longest_wait: float,
        metrics: Metrics,
    ) -> None:
        """Make one that does nothing until `run`.

        Args:
            store: the list, which keeps the addresses.
            publisher: sends copies to the quarantine.
            quarantine: the name of its queue.
            database: its circuit breaker.
            longest_wait: seconds between two attempts to publish while RabbitMQ does not confirm.
            metrics: count the messages.
        """
        self._store = store
        self._publisher = publisher
        self._quarantine = quarantine
        self._database = database
        self._longest_wait = longest_wait
        self._known = metrics.announced.labels("known")
        self._invalid = metrics.announced.labels("invalid")
        self.steps = 0
        """How often the database has answered, or was not available."""
        self.quarantining = 0
        """How many announcements wait until RabbitMQ has confirmed their copies in the quarantine."""

    async def run(self, inbox: asyncio.Queue[Delivery], report: Callable[[DeliveryResult], None]) -> None:
        """Handle announcements until cancelled. Those that have come together are stored together."""
        while True:
            batch: list[_Read] = []
            count = 0
            while not batch or (count < _MAX_BATCH and not inbox.empty()):
                read = self._read(await inbox.get())
                batch.append(read)
                count += len(read.addresses)
            for result in await self._stored(batch):
                report(result)

    async def route_failure(self, incoming: Delivery, failure: Failure) -> str:
        """Put a copy into the quarantine; returns the outcome when RabbitMQ has confirmed it, however long that takes."""
        self.quarantining += 1
        try:
            return await self._quarantine_copy(incoming, failure)
        finally:
            self.quarantining -= 1

    async def _quarantine_copy(self, incoming: Delivery, failure: Failure) -> str:
        copy = malformed_message(incoming.body, failure.error, exchange="", received_at=unix_ms_now())
        copy = with_trace(copy, trace_of(incoming.properties))
        await republishing.publish_until_confirmed(
            self._publisher,
            copy._replace(routing_key=self._quarantine),
            longest_wait=self._longest_wait,
            retry_action="worker.quarantine_waiting",
        )
        log.warning(
            "an announcement cannot be read: it is in the quarantine",
            action="worker.announcement_quarantined",
            digest=copy.message_id,
            error=failure.error,
        )
        return "quarantined"

    def _read(self, delivery: Delivery) -> _Read:
        try:
            announcement = read_announcement(delivery.body)
        except InvalidAnnouncementError as error:
            self._invalid.inc()
            return _Read(failed_delivery(delivery, failures.malformed(error)), {})
        self._invalid.inc(len(announcement.problems))
        result = DeliveryResult(delivery, "known")
        if announcement.problems:  # the other messages of the same announcement are kept
            result = failed_delivery(
                delivery, failures.malformed(InvalidAnnouncementError(announcement.problem))
            )
        return _Read(result, announcement.addresses)

    async def _stored(self, batch: Sequence[_Read]) -> list[DeliveryResult]:
        """Store the addresses. If the database refuses one, each announcement is stored alone."""
        addresses = {message: address for read in batch for message, address in read.addresses.items()}
        try:
            await self._remember(addresses)
        except RefusedValueError as error:
            if len(batch) == 1:
                return [failed_delivery(batch[0].result.delivery, failures.failure_of(error))]
            return [result for read in batch for result in await self._stored([read])]
        self._known.inc(len(addresses))
        return [read.result for read in batch]

    async def _remember(self, addresses: Mapping[str, str]) -> None:
        while True:
            try:
                return await self._database.call(
                    lambda: self._store.remember(addresses),
                    errors=failures.DATABASE_ERRORS,
                    operation="write",
                )
            except StoreUnavailableError:
                continue
            finally:
                self.steps += 1


class AnnouncementCounts:
    """Counts the deliveries for the consumer; the metrics count messages."""

    def __init__(self) -> None:
        self.acknowledged = 0

    def watch(self, prefetch: int, unacknowledged: Callable[[], int]) -> None:
        """There is no metric of them."""

    def taken(self, delivery: Delivery) -> None:
        """There is no metric of them."""

    def acknowledging(self, results: Sequence[DeliveryResult], seconds: Sequence[float], now: float) -> None:
        """Args: the deliveries that are about to be acknowledged; the others do not matter here."""
        del seconds, now
        self.acknowledged += len(results)


async def consume_announcements(consumer: Consumer, connection: AbstractConnection) -> None:
    """Consume until cancelled. While that fails, as where the queue is missing, events are consumed all the same.

    Args:
        consumer: of the queue.
        connection: that of the worker's session. When it is lost, the caller notices it, too, and cancels this.
    """
    while True:
        try:
            with session_errors_as_loss(connection):
                await consumer.session(connection, opened=lambda: None)
        except BrokerUnavailableError as error:
            log.warning(
                "announcements cannot be consumed now; trying again",
                action="worker.announcements_waiting",
                error=str(error),
            )
        await asyncio.sleep(_RETRY_SECONDS)
