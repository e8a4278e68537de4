"""From a spool file to RabbitMQ: what it refuses is found and set aside, and everything else goes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from bridge.broker.outcomes import (
    ChannelClosedError,
    NackedError,
    NotConnectedError,
    PublishError,
    ReturnedError,
    WindowFullError,
)
from bridge.receiver.refused_events import (
    NOT_FOUND_CODE,
    BrokerRefusesError,
    RefusedEvents,
    takes_nothing,
)
from bridge.receiver.spool_aside import (
    NACKED,
    to_find_due,
    to_hasten,
    to_note_passed,
    to_note_refused,
    to_set_aside,
    to_try,
)
from bridge.receiver.spool_file import Entry
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from bridge.broker.frames import Message
    from bridge.broker.publisher import Publisher
    from bridge.receiver.spool_aside import Refusal, Task

log = logs.logger("spool")

T = TypeVar("T")

CHUNK: Final = 200
"""Entries in flight at once: enough for RabbitMQ to confirm many together, few beside the live window."""
_LIVE_SHARE: Final = 4.0
"""Beside live traffic the drain works one part of its time in so many, so that it takes a quarter at most."""
_KINDS_AT_ONCE: Final = 20
_GROWTH: Final = 4
"""When one of a kind has passed, so many times as many are tried, again and again."""
_REOPEN_SECONDS: Final = 5.0
_MOST_IN_A_ROW: Final = 10
"""So many refused one after the other, for a reason that names none of them: it is not the events."""


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
    refused: RefusedEvents = field(default_factory=RefusedEvents)
    """What is known to be refused; live traffic asks it, too."""
    ready: Callable[[], Awaitable[None]] = _ready
    """Awaited before anything is published."""
    damaged: Callable[[], None] = lambda: None
    """Called when the topology has to be looked after."""
    taken: Callable[[str], None] = lambda _: None
    """Called with a routing key that was nacked, and is not any more."""


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

    def __init__(
        self, line: Line, *, compose: Callable[[Entry], Message], live: Callable[[], int] = lambda: 0
    ) -> None:
        """Make a mover.

        Args:
            line: where the entries go. A channel of its own: what is refused closes it.
            compose: the message that an entry was to become.
            live: a count that grows with live traffic; while it does, the mover takes its time.
        """
        self._line = line
        self._compose = compose
        self._live = live
        self._in_a_row = 0
        self._turn = asyncio.Lock()
        """Of several sources one publishes at a time: who is alone on the channel is what RabbitMQ refuses."""
        self._trace = logs.tracer(log)

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
            async with self._turn:
                live = self._live()
                done = await self._move(source, chosen)
                after = entries[-1].id if done.sent == len(chosen) else chosen[done.sent].id - 1
                moved(done.confirmed)
                total += done.confirmed
                if self._live() != live:
                    await asyncio.sleep(done.spent * (_LIVE_SHARE - 1))
        return total

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
            async with self._turn:
                await self._line.publisher.renew()
        total = 0
        for kind, _ in kinds:
            total += await self._retry(source, kind, all_of_them=all_of_them, moved=moved)
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
        await self._after(error)
        messages = [self._compose(entry) for entry in unclear]
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
            self._give_up(failure)
        attempt.confirmed = len(confirmed)
        # Waiting for RabbitMQ costs nobody anything.
        attempt.spent = (sent_at - began) + (time.monotonic() - confirmed_at)
        return attempt

    def _send(self, entries: Sequence[Entry]) -> _Sending:
        """Publish these, or as many as the window takes; what is known to be refused is not."""
        sending, refused = _Sending(), self._line.refused
        for entry in entries:
            message = self._compose(entry)
            if refused.any and (known := refused.of(message)) is not None:
                sending.refuse(known, entry)
                continue
            try:
                sending.outgoing.append((entry, message, self._publish(message)))
            except PublishError as error:
                if not (sending.outgoing and isinstance(error, WindowFullError)):
                    sending.failures.append(error)
                break
        return sending

    async def _retry(
        self, source: Source, kind: str, *, all_of_them: bool, moved: Callable[[int], None]
    ) -> int:
        total, at_once = 0, 1
        while True:
            async with self._turn:
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
                self._give_up(failure)
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
            await self._after(failure)

    async def _after(self, error: ChannelClosedError) -> None:
        """The channel was closed: learn why, and wait for the next one.

        Raises:
            BrokerRefusesError: it is not for a single event.
            NotConnectedError: there is none.
        """
        if takes_nothing(error):
            if error.code == NOT_FOUND_CODE:
                self._line.damaged()
            raise BrokerRefusesError(f"RabbitMQ takes no event: {error.text}")
        self._line.refused.heard(error)
        try:
            async with asyncio.timeout(_REOPEN_SECONDS):
                await self._line.publisher.ready()
        except TimeoutError:
            raise NotConnectedError("there is no new channel to RabbitMQ") from error

    async def _set_aside(self, source: Source, refused: dict[Refusal, list[int]]) -> None:
        for refusal, ids in refused.items():
            await source.do(to_set_aside(refusal, ids))
            self._line.refused.report.add(refusal, len(ids))

    def _publish_all(self, entries: Sequence[Entry]) -> tuple[list[Message], list[asyncio.Future[None]]]:
        """Those of them that the window takes, and a future for each."""
        messages: list[Message] = []
        confirms: list[asyncio.Future[None]] = []
        for entry in entries:
            message = self._compose(entry)
            try:
                confirms.append(self._publish(message))
            except WindowFullError:
                if not confirms:
                    raise
                break
            messages.append(message)
        return messages, confirms

    def _publish(self, message: Message) -> asyncio.Future[None]:
        confirm = self._line.publisher.publish(message)
        if self._trace is not None:
            self._trace("publishes from the spool", action="spool.publish", event_id=message.message_id)
        return confirm

    def _give_up(self, failure: BaseException) -> None:
        if isinstance(failure, ReturnedError):
            self._line.damaged()
        raise failure
