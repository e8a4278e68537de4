"""Reports every few seconds what this worker knows of events that wait, so that a check can say how far the list is behind."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from typing import TYPE_CHECKING, Final

from bridge.broker.queue_counts import ready_messages
from bridge.suppression.errors import StoreError, StoreUnavailableError
from bridge.suppression.freshness import ON_THE_WIRE_SECONDS, REQUEUED_AFTER_SECONDS, Report
from bridge.telemetry import logs
from bridge.worker.failures import DATABASE_ERRORS
from bridge.worker.waiting_events import ReturningEvents, oldest_of, received_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.message_types import Delivery
    from bridge.broker.topology import Names
    from bridge.suppression.freshness import Freshness
    from bridge.telemetry.metrics import Metrics
    from bridge.worker.backfill import Backfill
    from bridge.worker.consumer import Consumer
    from bridge.worker.dead_letter_age import DeadLetterAge
    from bridge.worker.dependencies import Dependency

log = logs.logger("worker")

REPORT_SECONDS: Final = 5.0
_NOT_ABLE_SECONDS: Final = 0.5
"""The pause while there is nothing to report, as at the start."""
_END_SECONDS: Final = 0.5
"""How long the end of the worker may wait for the last report."""
_RETURN_SECONDS: Final = 5.0
"""RabbitMQ takes at most this long to move a message from a delay queue back to the suppression queue."""


class WaitingEvents:
    """What this worker knows of the events that wait: its consumer and its failure router tell it."""

    def __init__(self, dead_letters: DeadLetterAge, clock: Callable[[], float] = time.time) -> None:
        """Make it. Args: the age of the dead letters; the time in Unix seconds."""
        self.dead_letters = dead_letters
        self.returning = ReturningEvents()
        self._clock = clock

    def moved(self, delivery: Delivery, seconds: float | None) -> None:
        """A message was moved: into a delay queue for some seconds, or (None) to the dead letters."""
        if seconds is None:
            self.dead_letters.made(delivery)
            return
        now = self._clock()
        at = received_at(delivery.properties)
        self.returning.add(now if at is None else at, returned_by=now + seconds + _RETURN_SECONDS)

    def requeued(self, properties: Sequence[bytes]) -> None:
        """RabbitMQ requeues deliveries, because their channel is gone. Args: the encoded properties of each."""
        if (oldest := oldest_of(properties, self._clock)) is not None:
            self.returning.add(oldest, returned_by=self._clock() + REQUEUED_AFTER_SECONDS)


class FreshnessReporter:
    """Writes this worker's report into the database while it consumes."""

    def __init__(
        self,
        freshness: Freshness,
        waiting: WaitingEvents,
        consumer: Consumer,
        *,
        names: Names,
        database: Dependency,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Make one that does nothing until `run`.

        Args:
            freshness: where the reports are.
            waiting: what this worker knows of events that wait.
            consumer: of the suppression queue.
            names: of the queues.
            database: its circuit breaker.
            metrics: show how fresh the list is.
            clock: the time in Unix seconds.
        """
        self._freshness = freshness
        self._waiting = waiting
        self._consumer = consumer
        self._names = names
        self._database = database
        self._fresh_as_of = metrics.fresh_as_of
        self._clock = clock
        self._source = f"{socket.gethostname()}.{uuid.uuid4().hex}"
        self._drained_at = 0.0
        self._caught_up_to = 0.0

    async def run(self, connection: AbstractConnection, backfill: Backfill) -> None:
        """Report again and again, until cancelled. While the queue is not consumed, or misses events, nothing is reported.

        Args:
            connection: the consumer's.
            backfill: says whether the queue misses events.

        Raises:
            BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
        """
        while True:
            able = self._consumer.consuming and not backfill.pending and self._database.available
            if able:
                await self._look_and_report(connection)
            await asyncio.sleep(REPORT_SECONDS if able else _NOT_ABLE_SECONDS)

    async def report_end(self) -> None:
        """The last report: RabbitMQ has requeued what was not acknowledged, and no other report follows.

        Does nothing if the database does not answer: then the others wait until RabbitMQ has certainly requeued it.
        """
        if self._caught_up_to and self._database.answering:
            try:
                async with asyncio.timeout(_END_SECONDS):
                    await self._freshness.report(self._source, self._current(requeued_by=self._clock()))
            except TimeoutError:
                pass
            except StoreError as error:
                self._log_failure(error)

    async def _look_and_report(self, connection: AbstractConnection) -> None:
        looked_at = self._clock()
        ready = await ready_messages(connection, self._names.suppression)
        await self._waiting.dead_letters.look(connection)
        if ready is None or not self._waiting.dead_letters.known:
            return
        if not ready:
            self._drained_at = looked_at
            reached: float | None = looked_at
        else:
            latest = self._consumer.latest_properties
            reached = None if latest is None else received_at(latest)
        if reached is not None:
            # Events overtake each other by less than this, on their ways through receivers and RabbitMQ.
            self._caught_up_to = max(self._caught_up_to, min(reached, looked_at) - ON_THE_WIRE_SECONDS)
        if self._caught_up_to:
            await self._report()

    async def _report(self) -> None:
        report = self._current(requeued_by=self._clock() + REQUEUED_AFTER_SECONDS)
        try:
            drained = await self._database.call(
                lambda: self._freshness.report(self._source, report),
                errors=DATABASE_ERRORS,
                operation="write",
            )
            fresh_as_of = await self._database.call(self._freshness.read, errors=DATABASE_ERRORS)
        except StoreUnavailableError as error:
            self._log_failure(error)
            return
        self._waiting.returning.forget(drained)
        if fresh_as_of is not None:
            self._fresh_as_of.set(fresh_as_of)

    def _current(self, *, requeued_by: float) -> Report:
        returning = self._waiting.returning
        return Report(
            drained_at=self._drained_at,
            caught_up_to=self._caught_up_to,
            requeued_by=requeued_by,
            oldest_held=oldest_of(self._consumer.unacknowledged_properties, self._clock),
            oldest_returning=returning.oldest,
            returned_by=returning.returned_by,
            oldest_dead=self._waiting.dead_letters.oldest,
        )

    def _log_failure(self, error: StoreError) -> None:
        log.debug(
            "freshness cannot be reported now", action="worker.freshness_not_reported", error=str(error)
        )
