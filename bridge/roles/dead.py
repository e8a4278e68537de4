"""What a person does with the dead letters: look, put back to work, let go for good."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from aiolimiter import AsyncLimiter
from aiormq.exceptions import AMQPError

from bridge.broker import deadletters, declaring, moving, retries
from bridge.broker.connection import Link, open_connection
from bridge.broker.parked import BATCH, Found, Reading
from bridge.broker.session import BrokerUnavailableError, said, task_group, told_as_loss
from bridge.broker.topology import Names, Topology
from bridge.roles.lifetime import until
from bridge.roles.publishing import publisher_of, publishing
from bridge.roles.standing import Standing, needed_to_keep_the_list, topology_of
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aio_pika.abc import AbstractConnection

    from bridge.broker.letterfile import LetterFile
    from bridge.broker.parked import Letter, Wanted
    from bridge.settings import Settings

    Handle = Callable[[Reading, list[Found]], Awaitable[None]]

SLOWEST: Final = 0.1
"""A second: a batch that is handled so slowly, and `parked.LONGEST_SECONDS` before it, is done in time."""
_LONGEST_WAIT_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Look:
    """What was there."""

    letters: list[Letter]
    """Those that were wanted, oldest first."""
    matching: int
    """How many were wanted, those beyond the limit included."""
    seen: int
    """How many were looked at."""
    total: int
    """How many there were."""

    @property
    def unseen(self) -> int:
        """How many are out of `parked.REACH`."""
        return self.total - self.seen

    def counts(self) -> Counter[tuple[str, str]]:
        """(reason, event) -> how many."""
        return Counter((letter.reason, letter.event) for letter in self.letters)


async def look(settings: Settings, wanted: Wanted, *, limit: int | None = None) -> Look:
    """See which dead letters there are; their order and number stay.

    Args:
        settings: where RabbitMQ is.
        wanted: which.
        limit: how many are returned at the most.

    Raises:
        BrokerUnavailableError: RabbitMQ cannot be reached, or was lost.
        BrokerRefusedError: there is no such queue, or it has other arguments than we need.
        BusyError: somebody else has them in hand.
    """
    letters: list[Letter] = []
    matching = 0
    async with _in_hand(settings) as reading:
        async for batch in reading.found():
            chosen = [found.letter for found in batch if wanted.matches(found.letter)]
            matching += len(chosen)
            letters += chosen if limit is None else chosen[: limit - len(letters)]
    return Look(letters, matching, reading.seen, reading.total)


async def show(settings: Settings, letter_id: str) -> Found | None:
    """One dead letter with its message, which goes back to where it was.

    Raises:
        BrokerUnavailableError, BrokerRefusedError, BusyError: as `look`.
    """
    async with _in_hand(settings) as reading, aclosing(reading.found()) as batches:
        async for batch in batches:
            for found in batch:
                if found.letter.id == letter_id:
                    return found
    return None


async def replay(settings: Settings, wanted: Wanted, *, rate: float, moved: Callable[[Letter], None]) -> int:
    """Put dead letters back into the worker's queue, as new: same bytes and event id, no attempts counted.

    Each is let go when RabbitMQ has confirmed it there. Letters that die meanwhile are left alone.

    Args:
        settings: where RabbitMQ is.
        wanted: which.
        rate: how many a second; `SLOWEST` at the least.
        moved: told of each, as they go.

    Returns:
        How many could not be looked at: they are out of reach.

    Raises:
        BrokerUnavailableError, BrokerRefusedError, BusyError: as `look`.
    """
    metrics = Metrics()
    link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    publisher = publisher_of(settings, link, metrics, window=2 * BATCH)
    limiter = AsyncLimiter(1, 1 / rate)
    queue = Names(settings.rabbitmq.prefix).suppression

    async def one(reading: Reading, found: Found) -> None:
        message = moving.of_message(
            found.message, queue=queue, headers={}, without=(*deadletters.HEADERS, *retries.HEADERS)
        )
        await moving.move(
            publisher, message, longest_wait=_LONGEST_WAIT_SECONDS, waiting="dead.replay_waiting"
        )
        await reading.let_go(found)
        moved(found.letter)

    async def handle(reading: Reading, batch: list[Found]) -> None:
        async with task_group() as tasks:
            for found in batch:
                await limiter.acquire()
                tasks.create_task(one(reading, found))

    standing = Standing(settings, topology_of(settings), needed_to_keep_the_list(settings))
    async with publishing(link, publisher, standing) as publish:
        await until(link.up, publish)
        return await _take_out(settings, wanted, handle)


async def discard(
    settings: Settings, wanted: Wanted, *, file: LetterFile, kept: Callable[[Letter], None]
) -> int:
    """Let dead letters go for good, each when it is on the disk.

    Args:
        settings: where RabbitMQ is.
        wanted: which.
        file: has them from then on.
        kept: told of each, as they go.

    Returns:
        As `replay`.

    Raises:
        LetterFileError: it cannot be written.
        BrokerUnavailableError, BrokerRefusedError, BusyError: as `look`.
    """

    async def handle(reading: Reading, batch: list[Found]) -> None:
        await asyncio.to_thread(file.keep, batch)
        for found in batch:
            await reading.let_go(found)
            kept(found.letter)

    return await _take_out(settings, wanted, handle)


async def _take_out(settings: Settings, wanted: Wanted, handle: Handle) -> int:
    """Have the wanted ones handled that are there now, in as many readings as their time needs.

    Returns:
        How many could not be looked at: they are out of reach.
    """
    left: int | None = None
    while left is None or left > 0:
        async with _in_hand(settings, most=left) as reading:
            async for batch in reading.found():
                if chosen := [found for found in batch if wanted.matches(found.letter)]:
                    await handle(reading, chosen)
        # Those that died meanwhile stand behind the ones that were there at first.
        left = reading.total - reading.gone if reading.out_of_time else 0
    return reading.total - reading.seen


@asynccontextmanager
async def _in_hand(settings: Settings, *, most: int | None = None) -> AsyncIterator[Reading]:
    queue = Names(settings.rabbitmq.prefix).dead
    async with _connected(settings) as connection:
        with told_as_loss(connection):
            await _safe_to_look(connection, settings, queue)
            async with Reading.of(connection, queue, most=most) as reading:
                yield reading


async def _safe_to_look(connection: AbstractConnection, settings: Settings, queue: str) -> None:
    """Each look is a delivery: a queue that stands without our delivery limit would drop what is looked at often.

    One that is missing is not made here: a wrong prefix would leave it behind.
    """
    if await declaring.depth(connection, queue) is not None:
        only = tuple(planned for planned in topology_of(settings).queues if planned.name == queue)
        await declaring.ensure(connection, Topology((), only, ()), settings.rabbitmq.declare)


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[AbstractConnection]:
    """A connection of its own: what an alarm does to publishers must not hold up acknowledgements."""
    failures = []
    for url in settings.rabbitmq.urls:
        try:
            opening = partial(open_connection, name="bridge dead", heartbeat=settings.rabbitmq.heartbeat)
            connection = await opening(url.get_secret_value(), patience=settings.rabbitmq.connect_timeout)
        except TimeoutError:
            failures.append(f"no answer in {settings.rabbitmq.connect_timeout:g} s")
        except (AMQPError, OSError) as error:
            failures.append(said(error))
        else:
            async with connection:
                yield connection
            return
    raise BrokerUnavailableError(f"RabbitMQ cannot be reached: {'; '.join(failures)}")
