"""The bridge as queues, event by event (SimPy): bursts, workers that take batches, a RabbitMQ that is away for a while.

Its clock is in seconds. The same seed gives the same run.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Literal

import simpy

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    Steps = Generator[simpy.Event, object, None]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Bursts at random, of so many events each."""

    rate: float
    """Events a second."""
    burst: int = 1


@dataclass(frozen=True, slots=True)
class Workers:
    """Processes at one queue. A batch takes `seconds` for each event in it, and `batch_seconds` besides."""

    seconds: float
    processes: int = 1
    batch: int = 1
    """Events that one takes at once, at the most: as many as wait, it does not wait for more."""
    batch_seconds: float = 0.0
    spread: Literal["none", "exponential"] = "none"
    """Whether each batch takes its mean time, or a random one."""

    @property
    def rate(self) -> float:
        """Events a second that all of them handle, when batches are full."""
        return self.processes * self.batch / (self.batch_seconds + self.batch * self.seconds)


@dataclass(slots=True)
class Queue:
    """What waits, and what has been handled."""

    environment: simpy.Environment
    waiting: deque[float] = field(default_factory=deque)
    """When each event has arrived."""
    waits: list[float] = field(default_factory=list)
    """Seconds from its arrival until it was taken, of each event that was handled."""
    batches: int = 0
    busy_seconds: float = 0.0
    area: float = 0.0
    """Events that waited, times seconds: its mean over the time is what Little's law is about."""
    longest: int = 0
    _changed_at: float = 0.0
    _idle: deque[simpy.Event] = field(default_factory=deque)

    def put(self, number: int = 1) -> None:
        """So many events arrive now."""
        self._count()
        self.waiting.extend([self.environment.now] * number)
        self.longest = max(self.longest, len(self.waiting))
        for _ in range(min(number, len(self._idle))):
            self._idle.popleft().succeed()

    def take(self, most: int) -> list[float]:
        """The oldest ones."""
        self._count()
        return [self.waiting.popleft() for _ in range(min(most, len(self.waiting)))]

    def filled(self) -> simpy.Event:
        """Happens when something arrives."""
        event = self.environment.event()
        self._idle.append(event)
        return event

    def mean_length(self) -> float:
        """Events that waited, as a mean over the time."""
        self._count()
        return self.area / self.environment.now

    def _count(self) -> None:
        self.area += len(self.waiting) * (self.environment.now - self._changed_at)
        self._changed_at = self.environment.now


def run_queue(arrivals: Arrivals, workers: Workers, *, seconds: float, seed: int) -> Queue:
    """A queue, and workers that empty it, for so long."""
    environment, random = simpy.Environment(), Random(seed)  # noqa: S311 -- the same run each time
    queue = Queue(environment)
    environment.process(_arriving(environment, arrivals, random, queue.put))
    for _ in range(workers.processes):
        environment.process(_working(queue, workers, random))
    environment.run(until=seconds)
    return queue


def _arriving(
    environment: simpy.Environment, arrivals: Arrivals, random: Random, put: Callable[[int], None]
) -> Steps:
    while True:
        yield environment.timeout(random.expovariate(arrivals.rate / arrivals.burst))
        put(arrivals.burst)


def _working(queue: Queue, workers: Workers, random: Random) -> Steps:
    environment = queue.environment
    while True:
        while not queue.waiting:
            yield queue.filled()
        began, taken = environment.now, queue.take(workers.batch)
        seconds = workers.batch_seconds + len(taken) * workers.seconds
        if workers.spread == "exponential":
            seconds = random.expovariate(1 / seconds)
        yield environment.timeout(seconds)
        queue.waits.extend(began - arrived for arrived in taken)
        queue.batches += 1
        queue.busy_seconds += seconds


@dataclass(frozen=True, slots=True)
class Outage:
    """What became of the spool while RabbitMQ was away, and after."""

    spooled: int
    """Events that had to go there."""
    most: int
    """That were in it at once."""
    drain_seconds: float
    """From when RabbitMQ came back until the spool was empty."""
    published: int
    """Events that RabbitMQ has: those that went there at once, and those out of the spool."""
    arrived: int


def run_outage(
    arrivals: Arrivals, *, broker_rate: float, drain_rate: float, away_seconds: float, seed: int
) -> Outage:
    """RabbitMQ is away from the start on, for so long; receivers spool, and then drain beside the live traffic.

    Live events go to RabbitMQ at once as soon as it is back, and the drain has what they leave, at the most `drain_rate`.

    Args:
        arrivals: what is posted.
        broker_rate: events a second that RabbitMQ takes in all.
        drain_rate: events a second that the drain publishes at the most.
        away_seconds: how long RabbitMQ is away.
        seed: of the random arrivals.

    Raises:
        ValueError: RabbitMQ takes no more than comes, so the spool would never be empty.
    """
    if arrivals.rate >= broker_rate:
        raise ValueError(f"{arrivals.rate:g} a second come, and RabbitMQ takes {broker_rate:g}")
    environment, random = simpy.Environment(), Random(seed)  # noqa: S311 -- the same run each time
    broker = simpy.PriorityResource(environment, capacity=1)
    counts = {"spool": 0, "spooled": 0, "most": 0, "published": 0, "arrived": 0}

    def publish(priority: int) -> Steps:
        with broker.request(priority=priority) as turn:
            yield turn
            yield environment.timeout(1 / broker_rate)
        counts["published"] += 1

    def put(number: int) -> None:
        counts["arrived"] += number
        if environment.now < away_seconds:
            counts["spool"] += number
            counts["spooled"] += number
            counts["most"] = max(counts["most"], counts["spool"])
            return
        for _ in range(number):
            environment.process(publish(0))

    def drain() -> Steps:
        yield environment.timeout(away_seconds)
        while counts["spool"]:
            began = environment.now
            yield environment.process(publish(1))
            counts["spool"] -= 1
            yield environment.timeout(max(0.0, 1 / drain_rate - (environment.now - began)))

    environment.process(_arriving(environment, arrivals, random, put))
    drained = environment.process(drain())
    environment.run(until=drained)
    return Outage(
        spooled=counts["spooled"],
        most=counts["most"],
        drain_seconds=environment.now - away_seconds,
        published=counts["published"],
        arrived=counts["arrived"],
    )
