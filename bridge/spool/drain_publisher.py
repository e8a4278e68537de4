"""Where the drain publishes, what it moves, and who hears what is learnt there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from bridge.amqp.publish_errors import NotConnectedError, ReturnedError
from bridge.spool.refused_events import NOT_FOUND_CODE, BrokerRefusesError, RefusedEvents, takes_nothing
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from bridge.amqp.frames import Message
    from bridge.amqp.publish_errors import ChannelClosedError
    from bridge.amqp.publisher import Publisher
    from bridge.spool.refused_entries import Task
    from bridge.spool.spool_file import Entry

log = logs.logger("spool")

T = TypeVar("T")

CHUNK: Final = 200
"""Entries in flight at once: enough for RabbitMQ to confirm many together, few beside the live window."""
_REOPEN_SECONDS: Final = 5.0


class Source(Protocol):
    """Something to drain."""

    async def read(self, after: int, limit: int) -> list[Entry]: ...

    async def remove(self, entries: Sequence[Entry]) -> None: ...

    async def do(self, task: Task[T]) -> T: ...


async def _ready() -> None:
    """Nothing has to be done first."""


@dataclass(frozen=True, slots=True)
class Line:
    """Where entries are published, and who is to hear what is learnt there."""

    publisher: Publisher
    compose: Callable[[Entry], Message]
    """The message that an entry was to become."""
    refused: RefusedEvents = field(default_factory=RefusedEvents)
    """What is known to be refused; live traffic asks it, too."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Of several sources one publishes at a time: who is alone on the channel is what RabbitMQ refuses."""
    ready: Callable[[], Awaitable[None]] = _ready
    """Awaited before anything is published."""
    damaged: Callable[[], None] = lambda: None
    """Called when the topology has to be looked after."""
    taken: Callable[[str], None] = lambda _: None
    """Called with a routing key that was nacked, and is not any more."""
    trace: Callable[..., object] | None = field(default_factory=lambda: logs.tracer(log))

    async def closed(self, error: ChannelClosedError) -> None:
        """The channel was closed: learn why, and wait for the next one.

        Raises:
            BrokerRefusesError: it is not for a single event.
            NotConnectedError: there is none.
        """
        if takes_nothing(error):
            if error.code == NOT_FOUND_CODE:
                self.damaged()
            raise BrokerRefusesError(f"RabbitMQ takes no event: {error.text}")
        self.refused.heard(error)
        try:
            async with asyncio.timeout(_REOPEN_SECONDS):
                await self.publisher.ready()
        except TimeoutError:
            raise NotConnectedError("there is no new channel to RabbitMQ") from error

    def publish(self, message: Message) -> asyncio.Future[None]:
        """As `Publisher.publish`."""
        confirm = self.publisher.publish(message)
        if self.trace is not None:
            self.trace("publishes from the spool", action="spool.publish", event_id=message.message_id)
        return confirm

    def give_up(self, failure: BaseException) -> None:
        """It is not for the entries that were published.

        Raises:
            BaseException: the failure.
        """
        if isinstance(failure, ReturnedError):
            self.damaged()
        raise failure
