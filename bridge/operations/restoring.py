"""Puts discarded messages back into their queue, from the file in which they were kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeVar

from bridge.amqp.connection import Link
from bridge.amqp.errors import session_errors_as_loss
from bridge.broker.topology_plan import planned_topology
from bridge.dead_letters import republishing
from bridge.dead_letters.kept_messages import kept_messages
from bridge.dead_letters.queue_reader import BATCH_SIZE, QueueReader
from bridge.operations.queue_messages import LONGEST_WAIT_SECONDS, check_delivery_limit, connect_as_operator
from bridge.roles.publishing import make_publisher, publishing
from bridge.roles.role_topology import RoleTopology
from bridge.tasks import task_group, wait_while_running
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aio_pika.abc import AbstractConnection

    from bridge.dead_letters.kept_messages import KeptMessage
    from bridge.operations.queue_messages import QueueOperations


class Identified(Protocol):
    """A message of a queue that waits for a person."""

    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=Identified)


@dataclass(slots=True)
class Restored:
    """How far a file has been put back."""

    total: int = 0
    """Messages of the file."""
    published: int = 0
    already_there: int = 0
    """Messages that are in the queue, and are not published once more."""
    unseen: int = 0
    """Messages of the queue that could not be compared, because they are behind the first ones."""

    @property
    def done(self) -> int:
        return self.published + self.already_there


async def restore(
    operations: QueueOperations[T],
    path: Path,
    restored: Restored,
    moved: Callable[[], None] = lambda: None,
    *,
    dry_run: bool = False,
) -> None:
    """Publish each message of the file to the queue from which it was discarded, behind those that are there.

    A message whose id is in the queue is left out, so an interrupted call can be repeated.

    Args:
        operations: of the queue.
        path: of the file.
        restored: is kept up to date.
        moved: called after each step.
        dry_run: compare only.

    Raises:
        MessageFileError: the file cannot be read, or is none of this queue; nothing was published.
        BrokerUnavailableError, TopologyRefusedError, BusyError: as `QueueOperations`.
    """
    restored.total = await asyncio.to_thread(messages_in, operations, path)
    async with await connect_as_operator(operations.settings.rabbitmq) as connection:
        with session_errors_as_loss(connection):
            # While the connection lasts nobody else reads the queue, nor puts the same file back.
            there = await _ids(connection, operations, restored)
            if dry_run:
                await asyncio.to_thread(_count, operations.file_keys, path, there, restored)
            else:
                await _publish(operations, path, there, restored, moved)


def messages_in(operations: QueueOperations[T], path: Path) -> int:
    """How many messages the file has. It reads all of it, and blocks.

    Raises:
        MessageFileError: the file cannot be read, or is none of this queue.
    """
    return sum(1 for _ in kept_messages(path, operations.file_keys))


def _count(keys: frozenset[str], path: Path, there: Counter[str], restored: Restored) -> None:
    """What would be published."""
    restored.published = sum(len(_missing([kept], there, restored)) for kept in kept_messages(path, keys))


async def _ids(
    connection: AbstractConnection, operations: QueueOperations[T], restored: Restored
) -> Counter[str]:
    """The ids in the queue."""
    there: Counter[str] = Counter()
    await check_delivery_limit(connection, operations.settings, operations.place.queue, before_removal=False)
    async with QueueReader.open(connection, operations.place) as reading:
        async for batch in reading.batches():
            there.update(found.summary.id for found in batch)
        restored.unseen = reading.total - reading.seen
    return there


async def _publish(
    operations: QueueOperations[T],
    path: Path,
    there: Counter[str],
    restored: Restored,
    moved: Callable[[], None],
) -> None:
    settings, metrics = operations.settings, Metrics()
    link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    publisher = make_publisher(settings, link, metrics, window=2 * BATCH_SIZE)
    required = operations.required | {operations.place.queue}

    async def one(kept: KeptMessage) -> None:
        await republishing.publish_until_confirmed(
            publisher,
            operations.kept(kept),
            longest_wait=LONGEST_WAIT_SECONDS,
            retry_action=operations.retry_action,
        )
        restored.published += 1
        moved()

    topology = RoleTopology(settings, planned_topology(settings), required)
    async with publishing(link, publisher, topology) as publish:
        await wait_while_running(link.up, publish)
        with closing(kept_messages(path, operations.file_keys)) as messages:
            while batch := await asyncio.to_thread(list, islice(messages, BATCH_SIZE)):
                async with task_group() as tasks:
                    for kept in _missing(batch, there, restored):
                        tasks.create_task(one(kept))
                moved()


def _missing(messages: list[KeptMessage], there: Counter[str], restored: Restored) -> list[KeptMessage]:
    """Those that are not in the queue. The others are counted."""
    missing = []
    for kept in messages:
        if there[kept.id] > 0:
            there[kept.id] -= 1
            restored.already_there += 1
        else:
            missing.append(kept)
    return missing
