"""Moves the entries of a spool file to RabbitMQ. Refused entries are found and set aside."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bridge.amqp.publish_errors import (
    ChannelClosedError,
    LostError,
    NackedError,
    PublishError,
    WindowFullError,
)
from bridge.spool.drain_publisher import CHUNK
from bridge.spool.known_refusals import EveryPublishRefusedError
from bridge.spool.set_aside_entries import to_set_aside
from bridge.spool.set_aside_retries import SetAsideRetries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bridge.amqp.message_types import Message
    from bridge.spool.drain_publisher import DrainPublisher, EntrySource
    from bridge.spool.entries import SpoolEntry
    from bridge.spool.set_aside_entries import Refusal

_MAX_DUTY: Final = 0.25
"""Share of the time in which the drain works during live traffic."""
_MAX_REFUSED_IN_A_ROW: Final = 10
"""If this many events are refused in a row, for a reason that does not name them, it is not about the events."""


@dataclass(slots=True)
class _Attempt:
    sent: int = 0
    """How many were published, or are known to be refused."""
    confirmed: int = 0
    seconds_used: float = 0.0
    """Seconds of work that delayed live traffic."""
    unclear: list[SpoolEntry] = field(default_factory=list)
    """In flight when RabbitMQ closed the channel."""
    closed_by: ChannelClosedError | None = None
    recovered: bool = False
    """Whether more entries may go now than were chosen: RabbitMQ confirms again what it did not."""


@dataclass(slots=True)
class _PublishedBatch:
    outgoing: list[tuple[SpoolEntry, Message, asyncio.Future[None]]] = field(default_factory=list)
    refused: dict[Refusal, list[int]] = field(default_factory=dict)
    failures: list[BaseException] = field(default_factory=list)

    @property
    def handled(self) -> int:
        return len(self.outgoing) + sum(map(len, self.refused.values()))

    def refuse(self, refusal: Refusal, entry: SpoolEntry) -> None:
        self.refused.setdefault(refusal, []).append(entry.id)


class Mover:
    """Publishes the entries of a source, and removes those that RabbitMQ has confirmed."""

    def __init__(self, target: DrainPublisher, *, live: Callable[[], int] = lambda: 0) -> None:
        """Create a mover.

        Args:
            target: publishes the entries, on a channel of its own, because RabbitMQ closes it at a refusal.
            live: a counter of live traffic; while it grows, the mover slows down.
        """
        self._target = target
        self._live = live
        self._refused_in_a_row = 0
        self.unconfirmed = target.known_refusals.unconfirmed
        """Of what RabbitMQ does not confirm, one entry is tried at a time."""
        self.retries = SetAsideRetries(target)
        """Publishes again what was set aside."""

    async def move_all(
        self,
        source: EntrySource,
        *,
        skip: Callable[[SpoolEntry], bool] = lambda _: False,
        moved: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Move every entry, oldest first; returns how many. Those that RabbitMQ refuses are set aside.

        Of an event name of which RabbitMQ confirms nothing, at most one entry is tried, and not before its pause is over:
        the others stay in the source.

        Args:
            source: where the entries are.
            skip: entries to leave alone.
            moved: called with the number of moved entries, chunk by chunk.

        Raises:
            EveryPublishRefusedError: RabbitMQ refuses everything; what was not confirmed is still in the source.
            PublishError: RabbitMQ does not confirm; what was not confirmed is still in the source.
            SpoolError: the source cannot be read or written.
        """
        after = total = looked_at = 0
        most, probed = self.unconfirmed.most_to_look_at(), set[str]()
        while entries := await source.read(after, CHUNK):
            waiting = [entry for entry in entries if not skip(entry)]
            async with self._target.lock:
                began, live = time.monotonic(), self._live()
                chosen = self.unconfirmed.choose(waiting, self._target.compose, probed)
                if waiting and not chosen:
                    await asyncio.sleep((time.monotonic() - began) * (1 / _MAX_DUTY - 1))
                done = await self._move(source, chosen)
                if done.recovered:
                    after = entries[0].id - 1  # those that were passed over come next
                else:
                    after = entries[-1].id if done.sent == len(chosen) else chosen[done.sent].id - 1
                moved(done.confirmed)
                total += done.confirmed
                if self._live() != live:
                    await asyncio.sleep(done.seconds_used * (1 / _MAX_DUTY - 1))
            looked_at += len(entries)
            if self.unconfirmed.is_silent and looked_at >= most:
                break
        return total

    def log_refused(self) -> None:
        """Log what was refused since the last line, unless that was a moment ago."""
        self._target.known_refusals.report.log_if_due()

    async def _move(self, source: EntrySource, entries: Sequence[SpoolEntry]) -> _Attempt:
        """Publish these, or as many as the window takes, and find those because of which RabbitMQ closes the channel."""
        done = await self._attempt(source, entries)
        batches = await self._to_publish_again(source, done)
        while batches:
            attempt = await self._attempt(source, batches.pop())
            done.confirmed += attempt.confirmed
            done.recovered |= attempt.recovered
            batches += await self._to_publish_again(source, attempt)
        return done

    async def _to_publish_again(self, source: EntrySource, attempt: _Attempt) -> list[list[SpoolEntry]]:
        """What to publish again after the channel was closed: in halves, until the refused entry is alone."""
        error, unclear = attempt.closed_by, attempt.unclear
        if error is None:
            return []
        await self._target.handle_channel_closed(error)
        messages = [self._target.compose(entry) for entry in unclear]
        if any(self._target.known_refusals.refusal_of(message) for message in messages):
            return [unclear]
        if len(unclear) > 1:
            middle = len(unclear) // 2
            return [unclear[middle:], unclear[:middle]]
        await self._set_aside(
            source, {self._target.known_refusals.blame(messages[0], error): [unclear[0].id]}
        )
        self._refused_in_a_row += 1
        if self._refused_in_a_row >= _MAX_REFUSED_IN_A_ROW:
            raise EveryPublishRefusedError(f"RabbitMQ refuses every event: {error.text}")
        return []

    async def _attempt(self, source: EntrySource, entries: Sequence[SpoolEntry]) -> _Attempt:
        """Publish these together. Confirmed entries are removed; nacked ones, and those known to be refused, are set aside."""
        if entries:
            await self._target.ready()
        began = time.monotonic()
        batch = self._send(entries)
        sent_at = time.monotonic()
        outcomes = await asyncio.gather(
            *(confirm for _, _, confirm in batch.outgoing), return_exceptions=True
        )
        confirmed_at = time.monotonic()
        attempt = _Attempt(sent=batch.handled)
        confirmed, failures = [], batch.failures
        confirmed_keys: set[str] = set()
        lost_keys: set[str] = set()
        for (entry, message, _), outcome in zip(batch.outgoing, outcomes, strict=True):
            if outcome is None:
                confirmed.append(entry)
                confirmed_keys.add(message.routing_key)
            elif isinstance(outcome, NackedError):
                batch.refuse(self._target.known_refusals.note_nack(message, outcome), entry)
            elif isinstance(outcome, ChannelClosedError):
                attempt.closed_by = outcome
                attempt.unclear.append(entry)
            else:
                failures.append(outcome)
                if isinstance(outcome, LostError):
                    lost_keys.add(message.routing_key)
        attempt.recovered = self.unconfirmed.note(confirmed=confirmed_keys, lost=lost_keys)
        if confirmed:
            self._refused_in_a_row = 0
            await source.remove(confirmed)
        await self._set_aside(source, batch.refused)
        for failure in failures:
            self._target.raise_failure(failure)
        attempt.confirmed = len(confirmed)
        # Waiting for RabbitMQ does not delay live traffic.
        attempt.seconds_used = (sent_at - began) + (time.monotonic() - confirmed_at)
        return attempt

    def _send(self, entries: Sequence[SpoolEntry]) -> _PublishedBatch:
        """Publish these, or as many as the window takes, except those known to be refused."""
        batch, known_refusals = _PublishedBatch(), self._target.known_refusals
        for entry in entries:
            message = self._target.compose(entry)
            if known_refusals.any and (known := known_refusals.refusal_of(message)) is not None:
                batch.refuse(known, entry)
                continue
            try:
                batch.outgoing.append((entry, message, self._target.publish(message)))
            except PublishError as error:
                if not (batch.outgoing and isinstance(error, WindowFullError)):
                    batch.failures.append(error)
                break
        return batch

    async def _set_aside(self, source: EntrySource, refused: dict[Refusal, list[int]]) -> None:
        for refusal, ids in refused.items():
            await source.run_task(to_set_aside(refusal, ids))
            self._target.known_refusals.report.add(refusal, len(ids))
