"""Reading a queue of messages that wait for a person: all are taken, few are let go, the others go back as they were."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Self, TypeVar

from aiormq.exceptions import ChannelNotFoundEntity

from bridge.amqp import exclusive_lock
from bridge.amqp.deliveries import Deliveries
from bridge.amqp.errors import BrokerRefusedError, BrokerUnavailableError
from bridge.amqp.properties import read
from bridge.broker import declaring, header_values
from bridge.dead_letters import dead_letter_queue, delay_queues
from bridge.events import canonical_name, digest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.deliveries import Delivery
    from bridge.amqp.properties import Properties

T = TypeVar("T")
"""What is known of a message: a `Letter`, or `quarantine.Body`."""

REACH: Final = 10_000
"""How many are held at once, and so how far into the queue one can see past what stays in it.

It must be the same for everybody, always. RabbitMQ (3.10.8 and 4.0.5 alike) hands messages that were given back
out first, but puts them behind those that others gave back before: whoever took fewer than had been given back
would change the order. With one reach for all, everybody takes at least what was given back before.

They are given back by closing the channel, which is also what Ctrl-C and SIGKILL come to: there is one way only.
Each time counts as a delivery. On RabbitMQ 4 a quorum queue drops a message at its 21st when nothing else is
said, so the queue needs a far larger `x-delivery-limit`. (-1 means none on 4.0, but on 3.10 that drops all.)
"""

BATCH: Final = 50
"""As many are handled together."""

LONGEST_SECONDS: Final = 900.0
"""Then the rest is given back: RabbitMQ closes the channel of who holds a message for 30 minutes."""

_PATIENCE_SECONDS: Final = 10.0
"""For others who have them in hand."""
_SILENT_SECONDS: Final = 10.0
"""While there are more to come, this long without one is a loss."""
_LOOK_EVERY_SECONDS: Final = 0.1
_UNKNOWN: Final = "unknown"
UNDECODABLE: Final = "undecodable"
"""The reason of a letter that says none, and whose properties cannot be decoded."""


class BusyError(Exception):
    """Somebody else has them in hand. Two at once could change their order."""


@dataclass(frozen=True, slots=True)
class Letter:
    """What its headers say of a dead letter."""

    id: str
    """The event id; of a message without one, the digest of its body."""
    event: str
    reason: str
    """The word it was given up with; RabbitMQ's own, such as `delivery_limit`, where it was RabbitMQ who did."""
    error: str
    attempts: int
    """1 where nothing is said: it was delivered."""
    died_at: int | None
    """Unix milliseconds."""
    first_failure: int | None
    """Unix milliseconds."""
    where: str
    """Where the last attempt failed."""

    def age(self, now: int) -> float | None:
        """Seconds since it died, at a time in Unix milliseconds."""
        return None if self.died_at is None else max(0.0, (now - self.died_at) / 1000)


@dataclass(frozen=True, slots=True)
class Place(Generic[T]):
    """Where messages wait for a person."""

    queue: str
    what: str
    """For people, with its article: `the dead letters`."""
    known: Callable[[Delivery, Properties], T]
    """What is known of a message there. It must not raise, whatever the message is."""


class Found(NamedTuple, Generic[T]):
    """A message in hand."""

    letter: T
    message: Delivery
    properties: Properties
    """What could be read of the message's."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters; every condition that is set must hold. Without any, all."""

    ids: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()
    """In our spelling."""
    died_before: int | None = None
    """Unix milliseconds. A letter without a time is neither older nor younger than any."""
    died_after: int | None = None
    """Unix milliseconds."""

    def matches(self, letter: Letter) -> bool:
        return (
            (not self.ids or letter.id in self.ids)
            and (not self.reasons or letter.reason in self.reasons)
            and (not self.events or canonical_name(letter.event) in self.events)
            and (
                self.died_before is None
                or (letter.died_at is not None and letter.died_at <= self.died_before)
            )
            and (
                self.died_after is None or (letter.died_at is not None and letter.died_at >= self.died_after)
            )
        )


class Reading(Generic[T]):
    """What was there when it began, oldest first. What is not let go stays, in its order."""

    def __init__(self, place: Place[T], total: int, deliveries: Deliveries) -> None:
        self.total = total
        """How many there were."""
        self.seen = 0
        self.gone = 0
        """How many were let go."""
        self.out_of_time = False
        """Whether it ended only because of `LONGEST_SECONDS`; reading may begin anew."""
        self._place = place
        self._deliveries = deliveries

    @classmethod
    @asynccontextmanager
    async def of(
        cls, connection: AbstractConnection, place: Place[T], *, most: int | None = None
    ) -> AsyncIterator[Self]:
        """Take them in hand, on channels of its own.

        Args:
            connection: an open connection of `open_connection`. As long as it lasts, nobody else takes them in hand.
            place: what is read.
            most: only so many from the front.

        Raises:
            BusyError: somebody else has them.
            BrokerRefusedError: there is no such queue.
            aiormq.exceptions.AMQPError: the connection is gone.
        """
        await _alone(connection, place)
        total, _ = await _standing(connection, place.queue)
        taking = Deliveries.of(connection, place.queue, prefetch=REACH, acknowledge_every=None)
        async with taking as deliveries:
            yield cls(place, total if most is None else min(total, most), deliveries)

    async def found(self) -> AsyncGenerator[list[Found[T]], None]:
        """Up to `BATCH` at a time, to the last one or as far as one can see.

        Raises:
            BrokerUnavailableError: they stop coming before, or the connection is gone.
        """
        began = time.monotonic()
        while self.seen < self.total and self.seen - self.gone < REACH:
            if self.seen and time.monotonic() - began > LONGEST_SECONDS:
                self.out_of_time = True
                return
            try:
                async with asyncio.timeout(_SILENT_SECONDS):
                    arrived = await self._deliveries.some(min(BATCH, self.total - self.seen))
            except TimeoutError:
                raise BrokerUnavailableError(
                    f"RabbitMQ sends no more of {self._place.what}, though there is more; nothing is lost, try again"
                ) from None
            self.seen += len(arrived)
            yield [self._found(message) for message in arrived]

    def _found(self, message: Delivery) -> Found[T]:
        properties = read(message.properties)
        return Found(self._place.known(message, properties), message, properties)

    async def let_go(self, found: Found[T]) -> None:
        """This one is safe elsewhere: RabbitMQ may forget it.

        Raises:
            aiormq.exceptions.AMQPError: the connection is gone; it may still be there.
        """
        await self._deliveries.let_go(found.message)
        self.gone += 1


def dead_letters(queue: str) -> Place[Letter]:
    return Place(queue, "the dead letters", letter_of)


def letter_of(message: Delivery, properties: Properties) -> Letter:
    """What a message says of itself, whoever has made a dead letter of it."""
    headers, text = properties.headers, header_values.text
    attempts = header_values.attempts(headers.get(delay_queues.ATTEMPT_HEADER))
    death = _last_death(headers)
    undecodable = f"the properties cannot be decoded: {properties.error}" if properties.error else ""
    return Letter(
        id=properties.message_id or digest(message.body),
        event=properties.values.get("message_type") or text(headers.get("cloudEvents:type")) or _UNKNOWN,
        reason=text(headers.get(dead_letter_queue.REASON_HEADER))
        or text(death.get("reason"))
        or (UNDECODABLE if undecodable else _UNKNOWN),
        error=text(headers.get(dead_letter_queue.ERROR_HEADER))
        or text(headers.get(delay_queues.ERROR_HEADER))
        or undecodable,
        attempts=1 if attempts is None else attempts,
        died_at=header_values.moment(headers.get(dead_letter_queue.AT_HEADER))
        or header_values.milliseconds(death.get("time")),
        first_failure=header_values.moment(headers.get(delay_queues.FIRST_FAILURE_HEADER)),
        where=text(headers.get(delay_queues.WHERE_HEADER)),
    )


async def _alone(connection: AbstractConnection, place: Place[T]) -> None:
    """Be the only one who has them in hand: a lock that dies with its connection, and then nobody's consumer.

    RabbitMQ removes a consumer and gives back what it held in one step.
    """
    queue = place.queue
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not await exclusive_lock.lock(connection, f"{queue}.in-hand"):  # noqa: ASYNC110 -- nobody tells
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
            while (await _standing(connection, queue))[1]:  # noqa: ASYNC110 -- as above
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
    except TimeoutError:
        raise BusyError(
            f"somebody else has {place.what} in hand, or a program consumes '{queue}'; try again after that"
        ) from None


async def _standing(connection: AbstractConnection, queue: str) -> tuple[int, int]:
    """How many messages are ready, and how many consumers there are."""
    try:
        return await declaring.counts(connection, queue)
    except ChannelNotFoundEntity:
        raise BrokerRefusedError(
            f"there is no queue '{queue}'; look at rabbitmq.prefix, or run `bridge topology apply`"
        ) from None


def _last_death(headers: Any) -> dict[str, Any]:
    """What RabbitMQ writes when it dead-letters itself; the latest comes first."""
    deaths = headers.get("x-death")
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
        return dict(deaths[0])
    return {}
