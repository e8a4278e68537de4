"""How the drain publishes entries of a spool file, and whom it informs of refusals."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from bridge.amqp.publish_errors import NotConnectedError, ReturnedError
from bridge.broker.publish_spans import end_at_confirm, start_publish_span
from bridge.spool.known_refusals import (
    NOT_FOUND_CODE,
    EveryPublishRefusedError,
    KnownRefusals,
    refuses_everything,
)
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from bridge.amqp.message_types import Message
    from bridge.amqp.publish_errors import ChannelClosedError
    from bridge.amqp.publisher import Publisher
    from bridge.spool.entries import SpoolEntry
    from bridge.spool.set_aside_entries import EntryTask
    from bridge.telemetry.spans import Spans

log = logs.logger("spool")

T = TypeVar("T")

CHUNK: Final = 200
"""Entries in flight at once: enough for RabbitMQ to confirm many together, few compared to live traffic."""
_REOPEN_SECONDS: Final = 5.0
"""Timeout for a new channel after RabbitMQ has closed one."""


class EntrySource(Protocol):
    """Something to drain: a spool, or an orphaned file. Its methods are those of `Spool`."""

    async def read(self, after: int, limit: int) -> list[SpoolEntry]:
        """See `Spool.read`."""

    async def remove(self, entries: Sequence[SpoolEntry]) -> None:
        """See `Spool.remove`."""

    async def run_task(self, task: EntryTask[T]) -> T:
        """See `Spool.run_task`."""


async def _do_nothing() -> None:
    """No preparation is needed."""


@dataclass(frozen=True, slots=True)
class DrainPublisher:
    """Publishes entries, and reports what it learns of refusals."""

    publisher: Publisher
    compose: Callable[[SpoolEntry], Message]
    """Creates the message of an entry."""
    known_refusals: KnownRefusals = field(default_factory=KnownRefusals)
    """What RabbitMQ is known to refuse; live traffic uses it too."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One source publishes at a time: a message that is alone on the channel is the one that RabbitMQ refuses."""
    ready: Callable[[], Awaitable[None]] = _do_nothing
    """Awaited before anything is published."""
    on_topology_damaged: Callable[[], None] = lambda: None
    """Called when the topology has to be repaired."""
    on_recovered: Callable[[str], None] = lambda _: None
    """Called with a routing key that was nacked and is confirmed again."""
    trace: Callable[..., object] | None = field(default_factory=lambda: logs.tracer(log))
    spans: Spans | None = None
    """Makes a span for each publish of a trace that is recorded."""

    async def handle_channel_closed(self, error: ChannelClosedError) -> None:
        """RabbitMQ closed the channel: remember why, and wait for the next one.

        Raises:
            EveryPublishRefusedError: it refuses every event.
            NotConnectedError: no new channel was opened in time.
        """
        if refuses_everything(error):
            if error.code == NOT_FOUND_CODE:
                self.on_topology_damaged()
            raise EveryPublishRefusedError(f"RabbitMQ refuses every event: {error.text}")
        self.known_refusals.learn_from(error)
        try:
            async with asyncio.timeout(_REOPEN_SECONDS):
                await self.publisher.ready()
        except TimeoutError:
            raise NotConnectedError("there is no new channel to RabbitMQ") from error

    def publish(self, message: Message) -> asyncio.Future[None]:
        """As `Publisher.publish`, with a line in the log at `debug`, and a span.

        Raises:
            PublishError: it was not published.
        """
        confirm = self.publisher.publish(message)
        if self.trace is not None:
            self.trace(
                "publishes an event from the spool", action="spool.publish", event_id=message.message_id
            )
        if self.spans is not None and message.trace is not None and message.trace.sampled:
            span = start_publish_span(self.spans, message, parent=message.trace, operation="drain")
            end_at_confirm(span, confirm)
        return confirm

    def raise_failure(self, failure: BaseException) -> None:
        """Raise a failure that is not about the published entries.

        Raises:
            BaseException: the failure.
        """
        if isinstance(failure, ReturnedError):
            self.on_topology_damaged()
        raise failure
