"""The shortest schedule that still fails: delta debugging (Zeller and Hildebrandt, 2002), which runs it again and again."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tests.programs.chaos.schedule import Fault

    Fails = Callable[[Sequence[Fault]], Awaitable[bool]]


async def shrink(schedule: Sequence[Fault], fails: Fails) -> list[Fault]:
    """As few of these faults as still fail, in their order: without any one of them it does not fail.

    Args:
        schedule: one that has failed.
        fails: runs a schedule; whether it fails. One that fails only now and then has to be run several times.
    """
    left, parts = list(schedule), 2
    while len(left) > 1:
        chunks = _chunks(left, parts)
        for candidate in _candidates(chunks):
            if await fails(candidate):
                # Of a half the next halves are tried; of the rest without one chunk the other chunks.
                parts = 2 if candidate in chunks else max(parts - 1, 2)
                left = candidate
                break
        else:
            if parts == len(left):
                return left
            parts = min(len(left), parts * 2)
    return [] if left and await fails([]) else left


def _candidates(chunks: list[list[Fault]]) -> list[list[Fault]]:
    """Each chunk alone; then all but one. Of two chunks, one alone is all but the other."""
    rests = [[fault for other in chunks if other is not chunk for fault in other] for chunk in chunks]
    return [*chunks, *rests] if len(chunks) > 2 else chunks


def _chunks(faults: list[Fault], count: int) -> list[list[Fault]]:
    """So many parts, in order, whose lengths differ by one at the most."""
    ends = [len(faults) * number // count for number in range(count + 1)]
    return [faults[begin:end] for begin, end in itertools.pairwise(ends)]
