"""Events a second, and what they cost: every contender once in each round, and the medians of the rounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Final

from tests.programs.bench import usage
from tests.programs.bench.entrants import NOOP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tests.programs.bench.entrants import Contender
    from tests.programs.bench.place import Place

    Say = Callable[[str], None]

WARM_UP_SECONDS: Final = 2
MOST_OF_ANOTHER_KIND: Final = 0.01
"""The share of answers that may be of another durability than is measured: more, and it is another measurement."""
FAILURES: Final = (AssertionError, OSError, RuntimeError)
"""How a measurement can fail to be made at all; the others still have something to say."""
_LONGEST_SAID: Final = 400


@dataclass(frozen=True, slots=True)
class Measurement:
    """One contender in one round; or the medians of several."""

    events_per_second: float
    p50: float
    """Seconds, as `p99`."""
    p99: float
    cpu: float
    """Seconds of the receiving process, and of those it has started, for an event."""
    broker_cpu: float
    peak: int
    """Bytes."""
    cpu_ratio: float | None = None
    """To that of the no-op in the same round, where it was measured; so is the next."""
    rate_ratio: float | None = None
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    median: Measurement | None
    rounds: tuple[Measurement, ...]
    errors: tuple[str, ...] = ()


async def run(
    place: Place, contenders: Sequence[Contender], *, rounds: int, seconds: int, say: Say
) -> list[Row]:
    """The contenders alternate within a round, so that noise hits them all.

    Args:
        place: where.
        contenders: who; ratios are to the no-op, where it is among them.
        rounds: how often.
        seconds: of each measurement.
        say: told each result.
    """
    measured: dict[str, list[Measurement]] = {contender.name: [] for contender in contenders}
    failed: dict[str, list[str]] = {}
    for number in range(1, rounds + 1):
        yardstick: Measurement | None = None
        for contender in contenders:
            told = f"round {number} of {rounds}: {contender.name}"
            try:
                one = await _measure(place, contender, seconds=seconds)
            except FAILURES as failure:
                failed.setdefault(contender.name, []).append(said(failure))
                say(f"{told}: {said(failure)}")
                continue
            if contender is NOOP:
                yardstick = one
            one = _compared(one, yardstick)
            measured[contender.name].append(one)
            say(f"{told}: {_in_short(one)}")
    return [_row(name, tuple(found), failed.get(name, [])) for name, found in measured.items()]


def said(failure: BaseException) -> str:
    """One line; of a whole log how it began and how it ended."""
    line = " ".join(f"{type(failure).__name__}: {failure}".split())
    half = _LONGEST_SAID // 2
    return line if len(line) <= _LONGEST_SAID else f"{line[:half]} ... {line[-half:]}"


def of_another_kind(before: Mapping[str, int], after: Mapping[str, int], durability: str) -> Iterable[str]:
    """What is wrong where more than a few of the answers in between were not of this durability."""
    every = sum(after.values()) - sum(before.values())
    others = every - after.get(durability, 0) + before.get(durability, 0)
    if others > every * MOST_OF_ANOTHER_KIND:
        yield f"{others:,} of {every:,} answers were not `{durability}`"


async def _measure(place: Place, contender: Contender, *, seconds: int) -> Measurement:
    await place.clean()
    async with contender.start(place) as running:
        warm = await place.load.closed(running.port, seconds=WARM_UP_SECONDS)
        await place.rest()
        before, broker_before = usage.of_tree(running.pid), place.broker
        answered_before = await running.answered()
        load = await place.load.closed(running.port, seconds=seconds)
        await place.rest()
        after, broker_after = usage.of_tree(running.pid), place.broker
        answered = await running.answered()
    errors = [f"{count:,} {what}" for what, count in (warm.wrong | load.wrong).items()]
    if contender.durability is not None:
        errors += of_another_kind(answered_before, answered, contender.durability)
    if contender.durability == "confirmed":
        expected = warm.requests + load.requests
        errors += _not_arrived(expected, await place.archived(expected))
    return Measurement(
        events_per_second=load.per_second,
        p50=load.p50,
        p99=load.p99,
        cpu=(after.cpu - before.cpu) / load.requests,
        broker_cpu=(broker_after.cpu - broker_before.cpu) / load.requests,
        peak=after.peak,
        errors=tuple(errors),
    )


def _not_arrived(answered: int, archived: int) -> Iterable[str]:
    if archived < answered:
        yield f"{answered:,} events were answered, and {archived:,} are in the archive"


def _compared(one: Measurement, yardstick: Measurement | None) -> Measurement:
    if yardstick is None:
        return one
    return replace(
        one,
        cpu_ratio=one.cpu / yardstick.cpu,
        rate_ratio=one.events_per_second / yardstick.events_per_second,
    )


def _row(name: str, rounds: tuple[Measurement, ...], failed: list[str]) -> Row:
    """Medians, each of its own column."""
    errors = tuple(dict.fromkeys([*failed, *(error for one in rounds for error in one.errors)]))
    if not rounds:
        return Row(name, None, rounds, errors)
    middle = Measurement(
        events_per_second=median(one.events_per_second for one in rounds),
        p50=median(one.p50 for one in rounds),
        p99=median(one.p99 for one in rounds),
        cpu=median(one.cpu for one in rounds),
        broker_cpu=median(one.broker_cpu for one in rounds),
        peak=round(median(one.peak for one in rounds)),
        cpu_ratio=_median(one.cpu_ratio for one in rounds),
        rate_ratio=_median(one.rate_ratio for one in rounds),
    )
    return Row(name, middle, rounds, errors)


def _median(ratios: Iterable[float | None]) -> float | None:
    known = [ratio for ratio in ratios if ratio is not None]
    return median(known) if known else None


def _in_short(one: Measurement) -> str:
    said = f"{one.events_per_second:,.0f} events/s, {one.cpu * 1e6:.1f} us of CPU an event"
    return "; ".join([said, *one.errors])
