"""In which orders, and with which repeats, messages are played; and which part of a sequence is enough for a failure."""

from __future__ import annotations

from itertools import combinations, islice
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

_MOST_TRIES: Final = 500
"""How many parts of a sequence are played to find the shortest."""


class Step(NamedTuple):
    """A delivery of a sequence."""

    number: int
    """Which of the messages, from 0."""
    redelivered: bool = False


def sequences(messages: int, *, repeats: int, reorder: bool, count: int, seed: int) -> Iterator[list[Step]]:
    """Sequences in which each message comes `repeats` times more than once. The same seed gives the same ones.

    Args:
        messages: how many there are.
        repeats: of each.
        reorder: whether their order may change. If not, only repeats come later.
        count: how many sequences.
        seed: of the random ones. The first few are the same for all seeds: at once, all again, and backwards.
    """
    once = list(map(Step, range(messages)))
    again = [step._replace(redelivered=turn % 2 == 0) for turn in range(repeats) for step in once]
    at_once = [step for one in once for step in (one, *(again[one.number :: messages] if messages else ()))]
    fixed = [at_once, once + again]
    if reorder:
        fixed.append([*reversed(once), *again])
    yield from fixed[:count]
    random = Random(seed)  # noqa: S311 -- a reproducible order, not a secret
    for _ in range(count - len(fixed)):
        yield _shuffled(once, repeats, random) if reorder else _interspersed(once, repeats, random)


def _shuffled(once: list[Step], repeats: int, random: Random) -> list[Step]:
    steps = once * (repeats + 1)
    random.shuffle(steps)
    return _flagged(steps, random)


def _interspersed(once: list[Step], repeats: int, random: Random) -> list[Step]:
    """The messages in their order, and repeats somewhere behind the first of each."""
    steps = list(once)
    for step in once * repeats:
        steps.insert(random.randint(steps.index(step) + 1, len(steps)), step)
    return _flagged(steps, random)


def _flagged(steps: list[Step], random: Random) -> list[Step]:
    """Of what came before, some are redelivered by RabbitMQ; the others are published again."""
    seen: set[int] = set()
    flagged = []
    for step in steps:
        flagged.append(step._replace(redelivered=step.number in seen and random.random() < 0.5))  # noqa: PLR2004 -- even odds
        seen.add(step.number)
    return flagged


async def shortest(steps: Sequence[Step], fails: Callable[[Sequence[Step]], Awaitable[bool]]) -> list[Step]:
    """The shortest part of a failing sequence that fails, too, in the same order.

    First one delivery after the other is left out; then all shorter parts are tried, within a bound.
    """
    kept = list(steps)
    tries = 0
    at = 0
    while at < len(kept) and tries < _MOST_TRIES:
        without = kept[:at] + kept[at + 1 :]
        tries += 1
        if without and await fails(without):
            kept = without
        else:
            at += 1
    shorter = (part for length in range(1, len(kept)) for part in combinations(steps, length))
    for part in islice(shorter, _MOST_TRIES - tries):
        if await fails(part):
            return list(part)
    return kept
