"""What takes longer than a round: answer times at a constant rate, and memory over a million events."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from tests.programs.bench import usage
from tests.programs.bench.entrants import CONFIRMED
from tests.programs.bench.throughput import WARM_UP_SECONDS, of_another_kind

if TYPE_CHECKING:
    from tests.programs.bench.load import Answers
    from tests.programs.bench.place import Place
    from tests.programs.bench.throughput import Say

RATE: Final = 2_000
"""Events a second."""
RATE_SECONDS: Final = 20
EVENTS: Final = 1_000_000
_AT_ONCE_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class AnswerTimes:
    """At `RATE` events a second, open loop: from when an event was due. Medians of the rounds."""

    p50: float
    """Seconds, as the others."""
    p99: float
    worst: float
    worst_of_all: float
    """Of all rounds."""
    rounds: tuple[Answers, ...]
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that are resident in the receiver (VmRSS)."""

    start: int
    """It is ready, and has taken no event yet."""
    warm: int
    """After a warm-up of `warm_up` events."""
    warm_up: int
    end: int
    """After `events` more, when it has come to rest."""
    events: int
    errors: tuple[str, ...]


async def answer_times(place: Place, *, rounds: int, seconds: int = RATE_SECONDS, say: Say) -> AnswerTimes:
    """The broker is up.

    Raises:
        ContenderError: the receiver does not run.
        LoadError: an answer never came.
    """
    found: list[Answers] = []
    errors: list[str] = []
    for number in range(1, rounds + 1):
        await place.clean()
        async with CONFIRMED.start(place) as running:
            await place.load.closed(running.port, seconds=WARM_UP_SECONDS)
            await place.rest()
            before = await running.answered()
            one = await place.load.open(running.port, seconds=seconds, rate=RATE)
            errors += of_another_kind(before, await running.answered(), "confirmed")
        errors += [f"{count:,} {what}" for what, count in one.wrong.items()]
        found.append(one)
        say(
            f"round {number} of {rounds}: {RATE:,} events/s, open loop: p50 {one.p50 * 1e3:.2f} ms, "
            f"p99 {one.p99 * 1e3:.2f} ms, worst {one.worst * 1e3:.1f} ms"
        )
    return AnswerTimes(
        p50=median(one.p50 for one in found),
        p99=median(one.p99 for one in found),
        worst=median(one.worst for one in found),
        worst_of_all=max(one.worst for one in found),
        rounds=tuple(found),
        errors=tuple(errors),
    )


async def memory(place: Place, *, events: int = EVENTS, say: Say) -> Memory:
    """As many events as it takes, as fast as they are answered.

    Raises:
        ContenderError: the receiver does not run.
        LoadError: the load could not be run.
    """
    await place.clean()
    async with CONFIRMED.start(place) as running:

        def resident() -> int:
            return usage.of_tree(running.pid).resident

        start = resident()
        warm_up = await place.load.closed(running.port, seconds=WARM_UP_SECONDS)
        await place.rest()
        warm, done, wrong = resident(), 0, dict(warm_up.wrong)
        while done < events:
            one = await place.load.closed(running.port, seconds=_AT_ONCE_SECONDS)
            done += one.requests
            wrong |= one.wrong
            say(f"memory: {done:,} of {events:,} events, {resident() / 1e6:.1f} MB")
        await place.rest()
        return Memory(
            start=start,
            warm=warm,
            warm_up=warm_up.requests,
            end=resident(),
            events=done,
            errors=tuple(f"{count:,} {what}" for what, count in wrong.items()),
        )
