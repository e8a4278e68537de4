"""What is set aside in a spool file is tried again: one for all of its kind, until it has passed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bridge.amqp.publish_errors import ChannelClosedError, NackedError, WindowFullError
from bridge.spool.drain_publisher import CHUNK
from bridge.spool.refused_entries import (
    NACKED,
    to_find_due,
    to_hasten,
    to_note_passed,
    to_note_refused,
    to_try,
)
from bridge.spool.spool_file import Entry
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bridge.amqp.frames import Message
    from bridge.spool.drain_publisher import Line, Source

log = logs.logger("spool")

_KINDS_AT_ONCE: Final = 20
_GROWTH: Final = 4
"""When one of a kind has passed, so many times as many are tried, again and again."""


class SecondTries:
    """Publishes entries that were refused before."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def retry(
        self,
        source: Source,
        *,
        all_of_them: bool = False,
        own: bool = True,
        moved: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Try what is set aside and due; returns how many went. One stands for its kind until it has passed.

        Args:
            source: where the entries are.
            all_of_them: whether they are due or not.
            own: what is found not to be refused any more is tried soon; that is said once, and so to one source.
            moved: told how many have gone, as they go.

        Raises:
            BrokerRefusesError: RabbitMQ takes nothing.
            PublishError: RabbitMQ takes no more.
            SpoolError: the source cannot be read, or written.
        """
        if own and (recovered := self._line.refused.recovered()):
            await source.do(to_hasten(recovered))
        kinds = await source.do(to_find_due(_KINDS_AT_ONCE, all_of_them=all_of_them))
        if not kinds:
            return 0
        await self._line.ready()
        if any(reason == NACKED for _, reason in kinds):
            # On RabbitMQ 3.10 a channel can go on being nacked when the cause is over (rabbitmq-server#12206).
            async with self._line.turn:
                await self._line.publisher.renew()
        total = 0
        for kind, _ in kinds:
            total += await self._kind(source, kind, all_of_them=all_of_them, moved=moved)
        return total

    async def _kind(
        self, source: Source, kind: str, *, all_of_them: bool, moved: Callable[[int], None]
    ) -> int:
        total, at_once = 0, 1
        while True:
            async with self._line.turn:
                rows = await source.do(to_try(kind, at_once, all_of_them=all_of_them))
                confirmed, go_on = await self._try(source, kind, [Entry(*row) for row in rows])
            total += confirmed
            moved(confirmed)
            if not go_on:
                return total
            at_once = min(_GROWTH * at_once, CHUNK)

    async def _try(self, source: Source, kind: str, entries: Sequence[Entry]) -> tuple[int, bool]:
        """How many of these went, and whether to go on with more of their kind."""
        if not entries:
            return 0, False
        messages, confirms = self._publish_all(entries)
        outcomes = await asyncio.gather(*confirms, return_exceptions=True)
        confirmed = [entry for entry, outcome in zip(entries, outcomes, strict=False) if outcome is None]
        await source.remove(confirmed)
        for message, outcome in zip(messages, outcomes, strict=True):
            if isinstance(outcome, NackedError):
                self._line.refused.nack(message, outcome)
        for failure in outcomes:
            if isinstance(failure, NackedError | ChannelClosedError):
                await self._refused_again(source, kind, failure)
                return len(confirmed), False
            if failure is not None:
                self._line.give_up(failure)
        for message in messages:
            self._line.refused.passed(message)
            self._line.taken(message.routing_key)
        await source.do(to_note_passed(kind))
        return len(confirmed), True

    async def _refused_again(
        self, source: Source, kind: str, failure: NackedError | ChannelClosedError
    ) -> None:
        said = failure.text if isinstance(failure, ChannelClosedError) else str(failure)
        await source.do(to_note_refused(kind, said))
        log.info(
            "an event that was set aside is refused again", action="spool.refused_again", kind=kind, said=said
        )
        if isinstance(failure, ChannelClosedError):
            await self._line.closed(failure)

    def _publish_all(self, entries: Sequence[Entry]) -> tuple[list[Message], list[asyncio.Future[None]]]:
        """Those of them that the window takes, and a future for each."""
        messages: list[Message] = []
        confirms: list[asyncio.Future[None]] = []
        for entry in entries:
            message = self._line.compose(entry)
            try:
                confirms.append(self._line.publish(message))
            except WindowFullError:
                if not confirms:
                    raise
                break
            messages.append(message)
        return messages, confirms
