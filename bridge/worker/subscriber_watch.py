"""Looks at the queues of other services at intervals, for the metrics: how deep, how old, and whether somebody consumes."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from aiormq.exceptions import ChannelNotFoundEntity

from bridge.broker.management import ManagementError
from bridge.broker.queue_counts import queue_counts, ready_messages
from bridge.telemetry import logs
from bridge.worker.subscriber_progress import QueueLook, SubscriberProgress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aio_pika.abc import AbstractConnection
    from prometheus_client import Gauge

    from bridge.broker.management import ManagementApi
    from bridge.broker.management_views import QueueView
    from bridge.settings.subscribers import Subscriber
    from bridge.telemetry.metrics import Metrics

    Subscribers = Callable[[], Awaitable[Sequence[Subscriber]]]

log = logs.logger("worker")

LOOK_EVERY_SECONDS: Final = 15.0
IDLE_SECONDS: Final = 900.0
"""A subscriber that has consumed nothing for so long, although it could, is logged; `status` and the alert say it, too."""


class SubscriberWatch:
    """Keeps the metrics of the subscribers' queues. It reads no message, and needs no right on the queues."""

    def __init__(
        self,
        subscribers: Subscribers,
        management: ManagementApi,
        *,
        prefix: str,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a watch that does nothing until `run`.

        Args:
            subscribers: all that there are now.
            management: RabbitMQ's management API; without it some metrics are missing.
            prefix: `rabbitmq.prefix`.
            metrics: show what was seen.
            clock: the time in seconds.
        """
        self._subscribers = subscribers
        self._management = management
        self._prefix = prefix
        self._metrics = metrics
        self._clock = clock
        self._progress: dict[str, SubscriberProgress] = {}
        self._is_blind = False
        """Whether the management API has not answered in this look: one wait for it is enough."""
        self._idle: set[str] = set()
        """Those that the log has named."""
        metrics.before_scrape(self._show_times)

    async def run(self, connection: AbstractConnection) -> None:
        """Look until cancelled.

        Raises:
            BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
        """
        try:
            while True:
                await self.look(connection)
                await asyncio.sleep(LOOK_EVERY_SECONDS)
        finally:
            self._keep_only(frozenset())  # without a connection nothing is known

    async def look(self, connection: AbstractConnection) -> None:
        """Look at all queues once.

        Raises:
            BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
        """
        seen = set()
        self._is_blind = False
        for subscriber in await self._subscribers():
            queue = f"{self._prefix}{subscriber.queue}"
            look = await self._look_at(connection, queue, dead=f"{self._prefix}{subscriber.dead}")
            if look is not None:
                seen.add(queue)
                self._progress.setdefault(queue, SubscriberProgress(self._clock)).add(look)
                self._show_counts(queue, look)
                self._log_idle(queue)
        self._keep_only(seen)
        self._show_times()

    async def _look_at(self, connection: AbstractConnection, queue: str, *, dead: str) -> QueueLook | None:
        """None: there is no such queue."""
        try:
            ready, consumers = await queue_counts(connection, queue)
        except ChannelNotFoundEntity:
            return None
        dead_letters = await ready_messages(connection, dead) or 0
        view = await self._view_of(queue)
        if view is None or view.ready is None:
            return QueueLook(ready, consumers, dead_letters)
        # The API counts every 5 s. All of what it says belongs together, and `ready` is of another time.
        return QueueLook(
            view.ready, consumers, dead_letters, view.unacknowledged or 0, view.published, view.consumed
        )

    async def _view_of(self, queue: str) -> QueueView | None:
        if self._is_blind:
            return None
        try:
            return await self._management.queue(queue)
        except ManagementError as blind:
            self._is_blind = True
            log.debug(
                "the management API does not answer", action="worker.subscribers_unseen", reason=str(blind)
            )
            return None

    def _show_counts(self, queue: str, look: QueueLook) -> None:
        shown: dict[Gauge, int | None] = {
            self._metrics.subscriber_ready: look.ready,
            self._metrics.subscriber_unacknowledged: look.unacknowledged,
            self._metrics.subscriber_consumers: look.consumers,
            self._metrics.subscriber_dead_letters: look.dead_letters,
        }
        for gauge, value in shown.items():
            _show(gauge, queue, value)

    def _show_times(self) -> None:
        """They go on between two looks."""
        for queue, progress in self._progress.items():
            _show(self._metrics.subscriber_oldest_age, queue, progress.oldest_age_seconds)
            _show(self._metrics.subscriber_idle, queue, progress.idle_seconds)
            ago = progress.since_consumed_seconds
            _show(self._metrics.subscriber_consumed_at, queue, None if ago is None else time.time() - ago)

    def _log_idle(self, queue: str) -> None:
        """Once, until it consumes again."""
        idle = self._progress[queue].idle_seconds
        if idle < IDLE_SECONDS:
            self._idle.discard(queue)
        elif queue not in self._idle:
            self._idle.add(queue)
            log.warning(
                "a subscriber has consumed nothing for a while, although its queue has messages",
                action="worker.subscriber_idle",
                queue=queue,
                seconds=round(idle),
            )

    def _keep_only(self, queues: set[str] | frozenset[str]) -> None:
        for gone in self._progress.keys() - queues:
            del self._progress[gone]
            self._idle.discard(gone)
            for gauge in self._gauges():
                _show(gauge, gone, None)

    def _gauges(self) -> tuple[Gauge, ...]:
        metrics = self._metrics
        return (
            metrics.subscriber_ready,
            metrics.subscriber_unacknowledged,
            metrics.subscriber_consumers,
            metrics.subscriber_dead_letters,
            metrics.subscriber_oldest_age,
            metrics.subscriber_idle,
            metrics.subscriber_consumed_at,
        )


def _show(gauge: Gauge, queue: str, value: float | None) -> None:
    """None: it is not known, or the queue is gone."""
    if value is not None:
        gauge.labels(queue).set(value)
    else:
        gauge.remove(queue)
