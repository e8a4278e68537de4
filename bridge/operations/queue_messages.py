"""Operations on the messages of a queue, for dead letters and quarantine alike."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from aiolimiter import AsyncLimiter

from bridge.amqp.connection import Link, connect_to_any
from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError, session_errors_as_loss
from bridge.broker import declaring
from bridge.broker.declare_errors import TopologyMismatchError
from bridge.broker.queue_counts import queue_exists
from bridge.broker.topology import Topology
from bridge.broker.topology_plan import planned_topology
from bridge.dead_letters import republishing
from bridge.dead_letters.queue_reader import BATCH_SIZE, QueueReader
from bridge.roles.publishing import make_publisher, publishing
from bridge.roles.role_topology import RoleTopology
from bridge.tasks import task_group, wait_while_running
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.message_types import Message
    from bridge.dead_letters.kept_messages import KeptMessage
    from bridge.dead_letters.message_file import MessageFile
    from bridge.dead_letters.queue_reader import HeldMessage, InspectedQueue
    from bridge.settings.sections import RabbitMQ, Settings

T = TypeVar("T")

_LIMIT: Final = "x-delivery-limit"

MIN_RATE: Final = 0.1
"""Messages a second. At a lower rate a batch would not be done before RabbitMQ's timeout of acknowledgements."""
LONGEST_WAIT_SECONDS: Final = 2.0
"""Between two attempts to publish while RabbitMQ does not confirm."""


@dataclass(frozen=True, slots=True)
class MessageList(Generic[T]):
    """The messages that were found."""

    messages: list[T]
    """Those that match, oldest first."""
    seen: int
    """How many messages were read."""
    total: int
    """How many messages the queue has."""

    @property
    def unseen(self) -> int:
        """How many lie beyond the first `queue_reader.MAX_HELD`, and were not read."""
        return self.total - self.seen


@dataclass(frozen=True, slots=True)
class QueueOperations(Generic[T]):
    """Select, find, replay and discard the messages of one queue.

    Each method raises:
        BrokerUnavailableError: RabbitMQ cannot be reached, or was lost.
        TopologyRefusedError: there is no such queue, or it has other arguments than we need.
        BusyError: another program is reading the queue.
    """

    settings: Settings
    place: InspectedQueue[T]
    message: Callable[[HeldMessage[T]], Message]
    """Makes the message that a replay publishes."""
    required: frozenset[str]
    """Names of the exchanges and queues that a replay requires."""
    retry_action: str
    """The action of the log line when a message cannot be published, and is tried again."""
    kept: Callable[[KeptMessage], Message]
    """Makes the message that puts a discarded one back."""
    file_keys: frozenset[str]
    """What each line of a file of discarded messages must have."""
    can_replay: Callable[[T], bool] = lambda _: True
    """A replay leaves the others in the queue."""

    async def select(self, wanted: Callable[[T], bool], *, before_removal: bool = False) -> MessageList[T]:
        """The messages that match. They stay in the queue, in their order.

        Args:
            wanted: which.
            before_removal: whether the messages will be removed next. Then a queue without our delivery limit is accepted.
        """
        messages: list[T] = []
        async with _reading(self.settings, self.place, before_removal=before_removal) as reading:
            async for batch in reading.batches():
                messages += [found.summary for found in batch if wanted(found.summary)]
        return MessageList(messages, reading.seen, reading.total)

    async def find(self, wanted: Callable[[T], bool]) -> HeldMessage[T] | None:
        """The first match, with its message, which stays in the queue."""
        async with _reading(self.settings, self.place) as reading, aclosing(reading.batches()) as batches:
            async for batch in batches:
                for found in batch:
                    if wanted(found.summary):
                        return found
        return None

    async def replay(self, wanted: Callable[[T], bool], *, rate: float, moved: Callable[[T], None]) -> int:
        """Publish messages again, and remove each when RabbitMQ has confirmed it. Messages that come meanwhile stay.

        Args:
            wanted: which.
            rate: messages a second; `MIN_RATE` or more.
            moved: called for each message that was replayed.

        Returns:
            As `_take_out`.
        """
        metrics = Metrics()
        link = Link(self.settings.rabbitmq, use="publish", metrics=metrics)
        publisher = make_publisher(self.settings, link, metrics, window=2 * BATCH_SIZE)
        limiter = AsyncLimiter(1, 1 / rate)

        async def one(reading: QueueReader[T], found: HeldMessage[T]) -> None:
            await republishing.publish_until_confirmed(
                publisher,
                self.message(found),
                longest_wait=LONGEST_WAIT_SECONDS,
                retry_action=self.retry_action,
            )
            await reading.acknowledge(found)
            moved(found.summary)

        async def handle(reading: QueueReader[T], batch: list[HeldMessage[T]]) -> None:
            async with task_group() as tasks:
                for found in batch:
                    await limiter.acquire()
                    tasks.create_task(one(reading, found))

        role_topology = RoleTopology(self.settings, planned_topology(self.settings), self.required)
        async with publishing(link, publisher, role_topology) as publish:
            await wait_while_running(link.up, publish)
            return await self._take_out(lambda summary: self.can_replay(summary) and wanted(summary), handle)

    async def discard(
        self, wanted: Callable[[T], bool], *, file: MessageFile[T], discarded: Callable[[T], None]
    ) -> int:
        """Remove messages for good, each after it was written to a file.

        Args:
            wanted: which.
            file: the messages are written to it.
            discarded: called for each message that was removed.

        Returns:
            As `_take_out`.

        Raises:
            MessageFileError: the file cannot be written.
        """

        async def handle(reading: QueueReader[T], batch: list[HeldMessage[T]]) -> None:
            await asyncio.to_thread(file.append, batch)
            for found in batch:
                await reading.acknowledge(found)
                discarded(found.summary)

        return await self._take_out(wanted, handle)

    async def _take_out(
        self,
        wanted: Callable[[T], bool],
        handle: Callable[[QueueReader[T], list[HeldMessage[T]]], Awaitable[None]],
    ) -> int:
        """Call `handle` with the matching messages that are in the queue now, in as many readings as the time limit requires.

        Returns:
            How many messages could not be read, because they are behind the first ones.
        """
        left: int | None = None
        while left is None or left > 0:
            async with _reading(self.settings, self.place, most=left, before_removal=True) as reading:
                async for batch in reading.batches():
                    if chosen := [found for found in batch if wanted(found.summary)]:
                        await handle(reading, chosen)
            # Messages that came meanwhile are behind those that were there at first.
            left = reading.total - reading.acknowledged if reading.out_of_time else 0
        return reading.total - reading.seen


@asynccontextmanager
async def _reading(
    settings: Settings, place: InspectedQueue[T], *, most: int | None = None, before_removal: bool = False
) -> AsyncIterator[QueueReader[T]]:
    async with await connect_as_operator(settings.rabbitmq) as connection:
        with session_errors_as_loss(connection):
            await check_delivery_limit(connection, settings, place.queue, before_removal=before_removal)
            async with QueueReader.open(connection, place, most=most) as reading:
                yield reading


async def check_delivery_limit(
    connection: AbstractConnection, settings: Settings, queue: str, *, before_removal: bool
) -> None:
    """Raise TopologyRefusedError for a queue with other arguments than ours.

    Each reading is a delivery: a queue without our delivery limit would drop messages that are read often.

    That does not matter for messages that are removed. A missing queue is not declared here: with a wrong prefix a useless
    queue would be left.
    """
    if not await queue_exists(connection, queue):
        return
    only = tuple(
        replace(planned, may_differ=frozenset())
        for planned in planned_topology(settings).queues
        if planned.name == queue
    )
    try:
        await declaring.apply_all(connection, Topology((), only, ()), settings.rabbitmq.declare)
    except TopologyMismatchError as mismatch:
        if mismatch.argument != _LIMIT:
            raise
        if not before_removal:
            raise TopologyRefusedError(
                f"queue '{queue}' stands with other arguments than the bridge needs: without its {_LIMIT} RabbitMQ 4 drops "
                "messages that are read often; `bridge topology apply --migrate` gives it its arguments, and keeps its messages"
            ) from None


async def connect_as_operator(settings: RabbitMQ) -> AbstractConnection:
    """A connection of its own: an alarm that blocks publishers must not block acknowledgements.

    Raises:
        BrokerUnavailableError: RabbitMQ cannot be reached.
    """
    try:
        return await connect_to_any(settings, name="bridge: operator")
    except BrokerUnavailableError as error:
        raise BrokerUnavailableError(f"RabbitMQ cannot be reached: {error}") from None
