"""What other services' queues cost: from a POST to its `confirmed`, with 0, 1, 10 and 50 of them bound to every event."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

import aio_pika

from bridge.broker import declaring, topology_plan
from bridge.settings.loading import load_settings
from bridge.settings.subscribers import Subscriber
from tests.programs.bench import usage
from tests.programs.bench.entrants import CONFIRMED
from tests.programs.bench.throughput import of_another_kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.programs.bench.entrants import Contender
    from tests.programs.bench.load import Answers
    from tests.programs.bench.place import Place
    from tests.programs.bench.throughput import Say

SUBSCRIBERS: Final = (0, 1, 10, 50)
"""The first is what the others are compared with."""
RATE: Final = 200
"""Events a second: with 50 queues RabbitMQ writes each of them 53 times."""
SECONDS: Final = 15
_WARM_UP_SECONDS: Final = 3


@dataclass(frozen=True, slots=True)
class FanOutRow:
    """Medians of the rounds, at `RATE` events a second, open loop: from when an event was due."""

    subscribers: int
    p50: float
    """Seconds, as the others."""
    p99: float
    worst: float
    """Of all rounds."""
    receiver_cpu: float
    """Of the receiver, for an event."""
    broker_cpu: float
    """Of RabbitMQ, for an event."""
    ratio: float
    """Of that to the first row's in the same round."""
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Taken:
    answers: Answers
    receiver_cpu: float
    broker_cpu: float
    errors: tuple[str, ...]


async def measure(
    place: Place,
    *,
    rounds: int,
    say: Say,
    seconds: int = SECONDS,
    subscribers: Sequence[int] = SUBSCRIBERS,
    contender: Contender = CONFIRMED,
) -> list[FanOutRow]:
    """Every number of subscribers once in each round.

    Raises:
        ContenderError: the receiver does not run.
        LoadError: an answer never came.
    """
    taken: dict[int, list[_Taken]] = {number: [] for number in subscribers}
    for turn in range(1, rounds + 1):
        for number, found in taken.items():
            async with _bound(place, number):
                found.append(await _taken(place, contender, seconds))
            one = found[-1]
            say(
                f"round {turn} of {rounds}: {number} subscribers: p99 {one.answers.p99 * 1e3:.2f} ms, "
                f"{one.broker_cpu * 1e6:.0f} us of the broker's CPU an event"
            )
    return [_row(number, found, taken[subscribers[0]]) for number, found in taken.items()]


@asynccontextmanager
async def _bound(place: Place, number: int) -> AsyncIterator[None]:
    """So many queues as `[[subscribers]]` makes them, which nobody consumes."""
    await place.clean()
    settings = load_settings()
    subscribers = [Subscriber(queue=f"bench.subscriber.{one}", events=("#",)) for one in range(number)]
    planned = topology_plan.plan(
        settings.rabbitmq, suppressing=settings.suppression.used_events, subscribers=subscribers
    )
    async with await aio_pika.connect(place.node.url) as connection:
        await declaring.declare(connection, planned)
        await place.rest()
        yield
        async with connection.channel() as channel:
            for queue in planned.queues:
                if queue.of_subscriber:
                    await channel.queue_delete(queue.name)


async def _taken(place: Place, contender: Contender, seconds: int) -> _Taken:
    async with contender.start(place) as running:
        await place.load.open(running.port, seconds=_WARM_UP_SECONDS, rate=RATE)
        await place.rest()
        used, before = place.broker.cpu, await running.answered()
        receiver = usage.of_tree(running.pid).cpu
        answers = await place.load.open(running.port, seconds=seconds, rate=RATE)
        await place.rest()
        used = place.broker.cpu - used
        receiver = usage.of_tree(running.pid).cpu - receiver
        errors = [f"{count:,} {what}" for what, count in answers.wrong.items()]
        errors += of_another_kind(before, await running.answered(), "confirmed")
    return _Taken(answers, receiver / answers.requests, used / answers.requests, tuple(errors))


def _row(number: int, taken: Sequence[_Taken], alone: Sequence[_Taken]) -> FanOutRow:
    return FanOutRow(
        subscribers=number,
        p50=median(one.answers.p50 for one in taken),
        p99=median(one.answers.p99 for one in taken),
        worst=max(one.answers.worst for one in taken),
        receiver_cpu=median(one.receiver_cpu for one in taken),
        broker_cpu=median(one.broker_cpu for one in taken),
        ratio=median(one.broker_cpu / first.broker_cpu for one, first in zip(taken, alone, strict=True)),
        errors=tuple(dict.fromkeys(error for one in taken for error in one.errors)),
    )
