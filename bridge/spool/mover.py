"""From a spool file to RabbitMQ: what it refuses is found and set aside, and everything else goes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bridge.amqp.publish_errors import ChannelClosedError, NackedError, PublishError, WindowFullError
from bridge.spool.drain_publisher import CHUNK
from bridge.spool.refused_entries import to_set_aside
from bridge.spool.refused_events import BrokerRefusesError
from bridge.spool.refused_retries import SecondTries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bridge.amqp.frames import Message
    from bridge.spool.drain_publisher import Line, Source
    from bridge.spool.refused_entries import Refusal
    from bridge.spool.spool_file import Entry

_LIVE_SHARE: Final = 4.0
"""Beside live traffic the drain works one part of its time in so many, so that it takes a quarter at most."""
_MOST_IN_A_ROW: Final = 10
"""So many refused one after the other, for a reason that names none of them: it is not the events."""


@dataclass(slots=True)
class _Attempt:
    sent: int = 0
    """How many were dealt with: published, or known to be refused."""
    confirmed: int = 0
    spent: float = 0.0
    """How many seconds live traffic had to stand back for it."""
    unclear: list[Entry] = field(default_factory=list)
    """In flight when RabbitMQ closed the channel."""
    closed_by: ChannelClosedError | None = None


@dataclass(slots=True)
class _Sending:
    outgoing: list[tuple[Entry, Message, asyncio.Future[None]]] = field(default_factory=list)
    refused: dict[Refusal, list[int]] = field(default_factory=dict)
    failures: list[BaseException] = field(default_factory=list)

    @property
    def dealt_with(self) -> int:
        return len(self.outgoing) + sum(map(len, self.refused.values()))

    def refuse(self, refusal: Refusal, entry: Entry) -> None:
        self.refused.setdefault(refusal, []).append(entry.id)


class Mover:
    """Publishes what a source has, and removes from it what RabbitMQ has confirmed."""

    def __init__(self, line: Line, *, live: Callable[[], int] = lambda: 0) -> None:
        """Make a mover.

        Args:
            line: where the entries go. A channel of its own: what is refused closes it.
            live: a count that grows with live traffic; while it does, the mover takes its time.
        """
        self._line = line
        self._live = live
        self._in_a_row = 0
        self.retry = SecondTries(line).retry
        """Try what is set aside."""

    async def empty(
        self,
        source: Source,
        *,
        skip: Callable[[Entry], bool] = lambda _: False,
        moved: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Move every entry, oldest first; returns how many went. Those that RabbitMQ refuses are set aside.

        Args:
            source: where the entries are.
            skip: entries to leave alone.
            moved: told how many have gone, chunk by chunk.

        Raises:
            BrokerRefusesError: RabbitMQ takes nothing; what was not confirmed is still there.
            PublishError: RabbitMQ takes no more; what was not confirmed is still there.
            SpoolError: the source cannot be read, or written.
        """
        after = total = 0
        while entries := await source.read(after, CHUNK):
            chosen = [entry for entry in entries if not skip(entry)]
            async with self._line.turn:
                live = self._live()
                done = await self._move(source, chosen)
                after = entries[-1].id if done.sent == len(chosen) else chosen[done.sent].id - 1
                moved(done.confirmed)
                total += done.confirmed
                if self._live() != live:
                    await asyncio.sleep(done.spent * (_LIVE_SHARE - 1))
        return total

    def tell(self) -> None:
        """Log what is refused, unless it is too soon."""
        self._line.refused.report.tell()

    async def _move(self, source: Source, entries: Sequence[Entry]) -> _Attempt:
        """Publish these, or as many as the window takes, and find those over which RabbitMQ closes the channel."""
        done = await self._attempt(source, entries)
        parts = await self._parts(source, done)
        while parts:
            attempt = await self._attempt(source, parts.pop())
            done.confirmed += attempt.confirmed
            parts += await self._parts(source, attempt)
        return done

    async def _parts(self, source: Source, attempt: _Attempt) -> list[list[Entry]]:
        """What is to be published again after the channel was closed; in halves, until the culprit is alone."""
        error, unclear = attempt.closed_by, attempt.unclear
        if error is None:
            return []
        await self._line.closed(error)
        messages = [self._line.compose(entry) for entry in unclear]
        if any(self._line.refused.of(message) for message in messages):
            return [unclear]
        if len(unclear) > 1:
            middle = len(unclear) // 2
            return [unclear[middle:], unclear[:middle]]
        await self._set_aside(source, {self._line.refused.blame(messages[0], error): [unclear[0].id]})
        self._in_a_row += 1
        if self._in_a_row >= _MOST_IN_A_ROW:
            raise BrokerRefusesError(f"RabbitMQ refuses one event after the other: {error.text}")
        return []

    async def _attempt(self, source: Source, entries: Sequence[Entry]) -> _Attempt:
        """Publish these at once; what is confirmed is removed, what is nacked, or known to be refused, set aside."""
        if entries:
            await self._line.ready()
        began = time.monotonic()
        sending = self._send(entries)
        sent_at = time.monotonic()
        outcomes = await asyncio.gather(
            *(confirm for _, _, confirm in sending.outgoing), return_exceptions=True
        )
        confirmed_at = time.monotonic()
        attempt = _Attempt(sent=sending.dealt_with)
        confirmed, failures = [], sending.failures
        for (entry, message, _), outcome in zip(sending.outgoing, outcomes, strict=True):
            if outcome is None:
                confirmed.append(entry)
            elif isinstance(outcome, NackedError):
                sending.refuse(self._line.refused.nack(message, outcome), entry)
            elif isinstance(outcome, ChannelClosedError):
                attempt.closed_by = outcome
                attempt.unclear.append(entry)
            else:
                failures.append(outcome)
        if confirmed:
            self._in_a_row = 0
            await source.remove(confirmed)
        await self._set_aside(source, sending.refused)
        for failure in failures:
            self._line.give_up(failure)
        attempt.confirmed = len(confirmed)
        # Waiting for RabbitMQ costs nobody anything.
        attempt.spent = (sent_at - began) + (time.monotonic() - confirmed_at)
        return attempt

    def _send(self, entries: Sequence[Entry]) -> _Sending:
        """Publish these, or as many as the window takes; what is known to be refused is not."""
        sending, refused = _Sending(), self._line.refused
        for entry in entries:
            message = self._line.compose(entry)
            if refused.any and (known := refused.of(message)) is not None:
                sending.refuse(known, entry)
                continue
            try:
                sending.outgoing.append((entry, message, self._line.publish(message)))
            except PublishError as error:
                if not (sending.outgoing and isinstance(error, WindowFullError)):
                    sending.failures.append(error)
                break
        return sending

    async def _set_aside(self, source: Source, refused: dict[Refusal, list[int]]) -> None:
        for refusal, ids in refused.items():
            await source.do(to_set_aside(refusal, ids))
            self._line.refused.report.add(refusal, len(ids))
