"""Takes deliveries off the queue, hands them on, and acknowledges those that are settled, many at once."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from bridge.amqp.aiormq_internals import close_taken_channel, open_taken_channel
from bridge.amqp.deliveries import Assembly, never_called
from bridge.amqp.errors import BrokerUnavailableError, channel_gone, gone, may_be_lost, task_group, together
from bridge.telemetry import logs
from bridge.worker.consumer_metrics import Counts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import AbstractChannel as AiormqChannel

    from bridge.amqp.deliveries import Delivery
    from bridge.settings.sections import Worker
    from bridge.telemetry.metrics import Metrics
    from bridge.worker.failures import Failure

    Part = Callable[[Delivery, Failure], Awaitable[str]]
    _Settled = Callable[[Sequence["Verdict"], Sequence[float]], None]

log = logs.logger("worker")

_TAG: Final = "bridge.worker"
"""The consumer's name on its channel."""
_SET_UP_SECONDS = 10.0
"""What RabbitMQ may take to set the consumer up; a dead connection would be noticed only by its heartbeats."""
_CANCEL_SECONDS: Final = 1.0
"""What RabbitMQ may take to answer `basic.cancel` before we leave anyway."""

IDLE_SECONDS: Final = 30.0
"""A consumer that has heard nothing for so long is set up anew.

RabbitMQ does not always tell when it forgets one: 3.10.8 answers a quorum queue that is deleted and made again at once
with no `basic.cancel`, keeps the consumer in its lists, and delivers nothing to it (4.0.5 cancels it).
"""


class Verdict(NamedTuple):
    """What is to become of a delivery."""

    delivery: Delivery
    outcome: str
    """For the metrics: `added`, `updated`, `repeated`, `ignored`; or `failed`, which ends as `delayed` or `dead`."""
    failure: Failure | None = None
    """Why it goes to another queue, if it does."""
    happened_at: int | None = None
    """Of an event that has changed the list: the time that it bears, Unix seconds."""


def failed(delivery: Delivery, failure: Failure) -> Verdict:
    """The verdict that an attempt has failed."""
    return Verdict(delivery, "failed", failure)


class Work(Protocol):
    """What is done with deliveries: runs until cancelled, and gives each a verdict, in any order."""

    async def run(self, inbox: asyncio.Queue[Delivery], settle: Callable[[Verdict], None]) -> None: ...


class Consumer:
    """Consumes one queue, on whichever connection its session runs on.

    A delivery is acknowledged after its verdict: when the list is written, or when RabbitMQ has confirmed that
    it is in another queue. Whatever has no verdict when a session ends is given back by the closing of its channel.
    """

    def __init__(
        self,
        settings: Worker,
        *,
        queue: str,
        work: Work,
        part: Part,
        metrics: Metrics,
        idle: float = IDLE_SECONDS,
    ) -> None:
        """Make a consumer that rests until its first session.

        Args:
            settings: prefetch and how long stopping may take.
            queue: the queue's name.
            work: what is done with deliveries.
            part: moves one that has failed to another queue; returns the outcome when RabbitMQ has confirmed it.
            metrics: counts what is delivered and what is handled.
            idle: seconds without a delivery after which it consumes anew.
        """
        self._settings = settings
        self._queue = queue
        self._work = work
        self._part = part
        self._counts = Counts(metrics)
        self._idle_seconds = idle
        self._hand: _Hand | None = None
        self._stopping = asyncio.Event()
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        metrics.prefetch.set(settings.prefetch)
        metrics.before_reading(lambda: metrics.in_hand.set(self.unacknowledged))

    @property
    def acknowledged(self) -> int:
        """How many deliveries, since the start."""
        return self._counts.acknowledged

    @property
    def consuming(self) -> bool:
        """Whether RabbitMQ has a consumer of ours, as far as it has told us."""
        return self._hand is not None

    @property
    def unacknowledged(self) -> int:
        """How many deliveries RabbitMQ waits for to be acknowledged."""
        return 0 if self._hand is None else len(self._hand)

    async def session(self, connection: AbstractConnection, *, opened: Callable[[], None]) -> None:
        """Consume on this connection; returns when `stop` was called and nothing is in hand any more.

        Args:
            connection: an open connection of `open_connection`.
            opened: called when the consumer is set up.

        Raises:
            BrokerUnavailableError: the connection, the channel or the consumer is gone; what was not
                settled will be delivered again.
        """
        if self._stopping.is_set():
            return
        self._at_rest.clear()
        try:
            await self._consume(connection, opened)
            while not self._stopping.is_set():
                await self._consume(connection, _again)
        finally:
            self._hand = None
            self._at_rest.set()

    async def stop(self) -> None:
        """Take no new deliveries, finish those in hand within `drain_timeout`, give back the rest."""
        self._stopping.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_timeout + _CANCEL_SECONDS):
                await self._at_rest.wait()

    async def _consume(self, connection: AbstractConnection, opened: Callable[[], None]) -> None:
        cancelled = asyncio.Event()
        hand = _Hand(self._part, self._settled, self._counts.taken)
        with may_be_lost(connection):
            async with asyncio.timeout(_SET_UP_SECONDS):
                channel = await open_taken_channel(connection, Assembly(hand.take).take)
                channel.on_consumer_cancel_callbacks.add(lambda _: cancelled.set())
                await channel.basic_qos(prefetch_count=self._settings.prefetch)
                await channel.basic_consume(self._queue, never_called, consumer_tag=_TAG)
        self._hand = hand
        opened()
        await together(
            work=self._work.run(hand.inbox, hand.settle),
            acknowledge=hand.acknowledge(connection, channel),
            part=hand.part(),
            stop=self._drain(connection, channel, hand),
            cancelled=self._cancelled(cancelled),
            idle=self._idle(hand),
            channel=channel_gone(channel),
            connection=gone(connection),
        )
        await close_taken_channel(connection, channel)

    async def _drain(self, connection: AbstractConnection, channel: AiormqChannel, hand: _Hand) -> None:
        await self._stopping.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CANCEL_SECONDS):
                with may_be_lost(connection):
                    await channel.basic_cancel(_TAG)  # without an answer, no acknowledgement is heard either
            async with asyncio.timeout(self._settings.drain_timeout):
                await hand.empty()
        log.info("stopped consuming", action="worker.drained", given_back=len(hand))

    def _settled(self, verdicts: Sequence[Verdict], seconds: Sequence[float]) -> None:
        self._counts.settled(verdicts, seconds, time.time())

    async def _cancelled(self, cancelled: asyncio.Event) -> None:
        await cancelled.wait()
        raise BrokerUnavailableError(f"RabbitMQ cancelled the consumer of queue '{self._queue}'")

    async def _idle(self, hand: _Hand) -> None:
        """Wait until there is nothing in hand, and was nothing for a while."""
        taken = -1
        while hand or hand.taken != taken or self._stopping.is_set():
            taken = hand.taken
            await asyncio.sleep(self._idle_seconds)


def _again() -> None:
    """Consuming anew is no news to anybody."""


class _Hand:
    """The deliveries of one channel that are not acknowledged yet."""

    def __init__(
        self, part: Part, acknowledging: _Settled, taking: Callable[[Delivery], None] = lambda _: None
    ) -> None:
        self.inbox: asyncio.Queue[Delivery] = asyncio.Queue()
        self.taken = 0
        self._part_one = part
        self._acknowledging = acknowledging
        self._taking = taking
        self._held: dict[int, float] = {}
        """Delivery tag -> since when."""
        self._settled: list[Verdict] = []
        self._to_part: asyncio.Queue[Verdict] = asyncio.Queue()
        self._something_settled = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._held)

    def take(self, delivery: Delivery) -> None:
        self.taken += 1
        self._held[delivery.tag] = time.monotonic()
        self._empty.clear()
        self._taking(delivery)
        self.inbox.put_nowait(delivery)

    def settle(self, verdict: Verdict) -> None:
        if verdict.failure is not None:
            self._to_part.put_nowait(verdict)
        else:
            self._done(verdict)

    async def part(self) -> None:
        async with task_group() as partings:
            while True:
                partings.create_task(self._elsewhere(await self._to_part.get()), name="worker.part")

    async def acknowledge(self, connection: AbstractConnection, channel: AiormqChannel) -> None:
        """Acknowledge what is settled, as it comes: everything up to the first that is not in one frame."""
        while True:
            await self._something_settled.wait()
            self._something_settled.clear()
            verdicts, self._settled = self._settled, []
            settled = sorted(verdict.delivery.tag for verdict in verdicts)
            now = time.monotonic()
            self._acknowledging(verdicts, [now - self._held.pop(tag, now) for tag in settled])
            oldest_held = min(self._held, default=settled[-1] + 1)
            together_up_to = max((tag for tag in settled if tag < oldest_held), default=None)
            alone = [tag for tag in settled if tag > oldest_held]
            with may_be_lost(connection):
                if together_up_to is not None:
                    await channel.basic_ack(together_up_to, multiple=True)
                for tag in alone:
                    # To have it written is worth waiting for once, not for each.
                    await channel.basic_ack(tag, wait=tag == alone[-1])
            if not self._held:
                self._empty.set()

    async def empty(self) -> None:
        """Wait until everything in hand is acknowledged."""
        await self._empty.wait()

    async def _elsewhere(self, verdict: Verdict) -> None:
        if verdict.failure is not None:
            outcome = await self._part_one(verdict.delivery, verdict.failure)
            self._done(Verdict(verdict.delivery, outcome))

    def _done(self, verdict: Verdict) -> None:
        self._settled.append(verdict)
        self._something_settled.set()
