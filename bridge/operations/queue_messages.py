"""What a person does with messages that wait for him, in whichever queue: look, and take out."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from aiolimiter import AsyncLimiter
from aiormq.exceptions import AMQPError

from bridge.amqp.connection import Link, open_connection, why_not
from bridge.amqp.errors import BrokerRefusedError, BrokerUnavailableError, losses_of, task_group
from bridge.broker import declaring
from bridge.broker.declare_errors import TopologyMismatchError
from bridge.broker.topology import Topology
from bridge.dead_letters import republishing
from bridge.dead_letters.queue_reader import BATCH, Reading
from bridge.roles.lifetime import until
from bridge.roles.publishing import publisher_of, publishing
from bridge.roles.role_topology import Standing, topology_of
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.frames import Message
    from bridge.dead_letters.message_file import LetterFile
    from bridge.dead_letters.queue_reader import Found, Place
    from bridge.settings.sections import Settings

T = TypeVar("T")

_LIMIT: Final = "x-delivery-limit"

SLOWEST: Final = 0.1
"""A second: a batch that is handled so slowly, and `parked.LONGEST_SECONDS` before it, is done in time."""
_LONGEST_WAIT_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """What was there."""

    letters: list[T]
    """Those that were wanted, oldest first."""
    seen: int
    """How many were looked at."""
    total: int
    """How many there were."""

    @property
    def unseen(self) -> int:
        """How many are out of `parked.REACH`."""
        return self.total - self.seen


async def look(
    settings: Settings,
    place: Place[T],
    wanted: Callable[[T], bool],
    *,
    to_take_out: bool = False,
) -> Look[T]:
    """See what there is; order and number stay.

    Args:
        settings: where RabbitMQ is.
        place: where to look.
        wanted: which.
        to_take_out: whether that is what comes next, so that a queue without our delivery limit is looked at, too.

    Raises:
        BrokerUnavailableError: RabbitMQ cannot be reached, or was lost.
        BrokerRefusedError: there is no such queue, or it has other arguments than we need.
        BusyError: somebody else has them in hand.
    """
    letters: list[T] = []
    async with _in_hand(settings, place, to_take_out=to_take_out) as reading:
        async for batch in reading.found():
            letters += [found.letter for found in batch if wanted(found.letter)]
    return Look(letters, reading.seen, reading.total)


async def first(settings: Settings, place: Place[T], wanted: Callable[[T], bool]) -> Found[T] | None:
    """The first that is wanted, with its message, which goes back to where it was.

    Raises:
        BrokerUnavailableError, BrokerRefusedError, BusyError: as `look`.
    """
    async with _in_hand(settings, place) as reading, aclosing(reading.found()) as batches:
        async for batch in batches:
            for found in batch:
                if wanted(found.letter):
                    return found
    return None


@dataclass(frozen=True, slots=True)
class Replay(Generic[T]):
    """How messages go back to work."""

    message: Callable[[Found[T]], Message]
    """What is published for one."""
    moved: Callable[[T], None]
    """Told of each, as they go."""
    rate: float
    """How many a second; `SLOWEST` at the least."""
    needed: frozenset[str]
    """Names of the exchanges and queues without which it cannot be."""
    waiting: str
    """The action that is logged when one cannot be published, and is tried again."""


async def replay(settings: Settings, place: Place[T], wanted: Callable[[T], bool], order: Replay[T]) -> int:
    """Publish messages anew, and let each go when RabbitMQ has confirmed it. What comes meanwhile is left alone.

    Returns:
        As `take_out`.

    Raises:
        BrokerUnavailableError, BrokerRefusedError, BusyError: as `look`.
    """
    metrics = Metrics()
    link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    publisher = publisher_of(settings, link, metrics, window=2 * BATCH)
    limiter = AsyncLimiter(1, 1 / order.rate)

    async def one(reading: Reading[T], found: Found[T]) -> None:
        await republishing.move(
            publisher, order.message(found), longest_wait=_LONGEST_WAIT_SECONDS, waiting=order.waiting
        )
        await reading.let_go(found)
        order.moved(found.letter)

    async def handle(reading: Reading[T], batch: list[Found[T]]) -> None:
        async with task_group() as tasks:
            for found in batch:
                await limiter.acquire()
                tasks.create_task(one(reading, found))

    standing = Standing(settings, topology_of(settings), order.needed)
    async with publishing(link, publisher, standing) as publish:
        await until(link.up, publish)
        return await take_out(settings, place, wanted, handle)


async def discard(
    settings: Settings,
    place: Place[T],
    wanted: Callable[[T], bool],
    *,
    file: LetterFile[T],
    kept: Callable[[T], None],
) -> int:
    """Let them go for good, each when it is on the disk.

    Args:
        settings: where RabbitMQ is.
        place: where they are.
        wanted: which.
        file: has them from then on.
        kept: told of each, as they go.

    Returns:
        As `take_out`.

    Raises:
        LetterFileError: it cannot be written.
        BrokerUnavailableError, BrokerRefusedError, BusyError: as `look`.
    """

    async def handle(reading: Reading[T], batch: list[Found[T]]) -> None:
        await asyncio.to_thread(file.keep, batch)
        for found in batch:
            await reading.let_go(found)
            kept(found.letter)

    return await take_out(settings, place, wanted, handle)


async def take_out(
    settings: Settings,
    place: Place[T],
    wanted: Callable[[T], bool],
    handle: Callable[[Reading[T], list[Found[T]]], Awaitable[None]],
) -> int:
    """Have the wanted ones handled that are there now, in as many readings as their time needs.

    Returns:
        How many could not be looked at: they are out of reach.
    """
    left: int | None = None
    while left is None or left > 0:
        async with _in_hand(settings, place, most=left, to_take_out=True) as reading:
            async for batch in reading.found():
                if chosen := [found for found in batch if wanted(found.letter)]:
                    await handle(reading, chosen)
        # Those that came meanwhile stand behind the ones that were there at first.
        left = reading.total - reading.gone if reading.out_of_time else 0
    return reading.total - reading.seen


@asynccontextmanager
async def _in_hand(
    settings: Settings, place: Place[T], *, most: int | None = None, to_take_out: bool = False
) -> AsyncIterator[Reading[T]]:
    async with _connected(settings) as connection:
        with losses_of(connection):
            await _safe_to_look(connection, settings, place.queue, to_take_out=to_take_out)
            async with Reading.of(connection, place, most=most) as reading:
                yield reading


async def _safe_to_look(
    connection: AbstractConnection, settings: Settings, queue: str, *, to_take_out: bool
) -> None:
    """Each look is a delivery: a queue that stands without our delivery limit would drop what is looked at often.

    What is taken out of it is not looked at again. A queue that is missing is not made here: a wrong prefix would
    leave it behind.
    """
    if await declaring.depth(connection, queue) is None:
        return
    only = tuple(
        replace(planned, tolerated=frozenset())
        for planned in topology_of(settings).queues
        if planned.name == queue
    )
    try:
        await declaring.ensure(connection, Topology((), only, ()), settings.rabbitmq.declare)
    except TopologyMismatchError as mismatch:
        if mismatch.argument != _LIMIT:
            raise
        if not to_take_out:
            raise BrokerRefusedError(
                f"queue '{queue}' stands with other arguments than the bridge needs: without its {_LIMIT} RabbitMQ 4 "
                "drops what is looked at often; take out what is in it with `replay` and `discard`, delete it, and run "
                "`bridge topology apply`"
            ) from None


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[AbstractConnection]:
    """A connection of its own: what an alarm does to publishers must not hold up acknowledgements."""
    failures = []
    for url in settings.rabbitmq.urls:
        try:
            opening = partial(open_connection, name="bridge: by hand", heartbeat=settings.rabbitmq.heartbeat)
            connection = await opening(url.get_secret_value(), patience=settings.rabbitmq.connect_timeout)
        except TimeoutError:
            failures.append(f"no answer in {settings.rabbitmq.connect_timeout:g} s")
        except (AMQPError, OSError) as error:
            failures.append(await why_not(url.get_secret_value(), error))
        else:
            async with connection:
                yield connection
            return
    raise BrokerUnavailableError(f"RabbitMQ cannot be reached: {'; '.join(failures)}")
