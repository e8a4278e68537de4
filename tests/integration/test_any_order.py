"""One list, whatever the order in which its events come, how often, in which batches, before or after a removal."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import hypothesis
from hypothesis import strategies as st

from bridge import events
from bridge.suppression.policy import REASONS, Policy, Reason, SoftBounceRule
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import Delivered, SuppressingEvent
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from pathlib import Path
    from random import Random

    from bridge.suppression.entries import Entry
    from bridge.suppression.suppressing_events import ListEvent

NOW = 1_700_000_000
REMOVED_AT, END = 40, 80
"""When persons take addresses off the list, and when the last event comes; the first one happens at 0."""
ENDING = {Reason.UNSUBSCRIBE: 30, Reason.SKIPPED: 20}
POLICY = Policy(
    REASONS,
    expiry=ENDING,
    soft_bounces=SoftBounceRule(threshold=2, window=25, expiry=10, factor=2.0, expiry_max=30),
)
NAMES = [*REASONS, events.DELIVERED]


class Happening(NamedTuple):
    """An event. It may come before the removals, if it happened by then; each comes at least once after them."""

    name: str
    address: int
    message: int
    at: int


class Removal(NamedTuple):
    address: int
    reason: Reason | None


HAPPENINGS = st.builds(
    Happening,
    st.sampled_from([*NAMES, events.SOFT_BOUNCED, events.SOFT_BOUNCED]),
    st.integers(0, 1),
    st.integers(0, 5),
    st.integers(0, END),
)
REMOVALS = st.builds(Removal, st.integers(0, 1), st.none() | st.sampled_from([*REASONS.values()]))


def event_of(happening: Happening, number: int, run: str) -> ListEvent:
    """Each run has addresses of its own, and so the events of it have ids of their own, which sort the same."""
    address = f"{run}-{happening.address}@example.org"
    key = f"{number:03}-{run}"
    at, message, evidence = NOW + happening.at, f"m{happening.message}", f"event {number}".encode()
    if happening.name == events.DELIVERED:
        return Delivered(address, key, at, message, evidence)
    return SuppressingEvent(address, REASONS[happening.name], key, at, message, evidence)


def batches(chance: Random, happened: Sequence[ListEvent]) -> Iterable[list[ListEvent]]:
    """Shuffled, some of them several times, and cut anywhere."""
    shuffled = [one for one in happened for _ in range(chance.choice([1, 1, 2, 3]))]
    chance.shuffle(shuffled)
    while shuffled:
        size = chance.randint(1, len(shuffled))
        yield shuffled[:size]
        del shuffled[:size]


async def run(
    stores: Sequence[Store],
    clock: Clock,
    chance: Random,
    name: str,
    happenings: Sequence[Happening],
    removals: Sequence[Removal],
) -> dict[tuple[str, str], Any]:
    """Let it happen, and return the list of this run."""
    happened = [event_of(one, number, name) for number, one in enumerate(happenings)]
    clock.now = NOW + REMOVED_AT
    early = [
        event
        for event, one in zip(happened, happenings, strict=True)
        if one.at <= REMOVED_AT and chance.choice([True, True, False])
    ]
    for batch in batches(chance, early):
        await chance.choice(stores).record(batch, actor="worker")
    for removal in removals:
        address = f"{name}-{removal.address}@example.org"
        # So that there is something to take off.
        await stores[0].add(address, reason=removal.reason or Reason.MANUAL, actor="ann", note="")
        await stores[0].remove(address, reason=removal.reason, actor="ann", note="sorry", override=True)
    clock.now = NOW + END
    if chance.choice([True, False]):
        await stores[0].expiry.end_some()
    planned = [(chance.choice(stores), some) for some in batches(chance, happened)]
    await asyncio.gather(*(store.record(some, actor="worker") for store, some in planned))
    return await listed(stores[0], name)


async def listed(store: Store, name: str) -> dict[tuple[str, str], Any]:
    """(Address, reason) -> what is on the list. Of what ends by itself, only until when: it counts what was in force."""
    return {
        (entry.address.removeprefix(name), entry.reason.value): described(entry)
        for number in range(2)
        for entry in await store.check(f"{name}-{number}@example.org")
    }


def described(entry: Entry) -> Any:
    if entry.reason in ENDING:
        return entry.last_event_at, entry.expires_at
    return (
        entry.count,
        entry.first_event_at,
        entry.last_event_at,
        entry.message_id,
        entry.evidence,
        entry.expires_at,
    )


@asynccontextmanager
async def workers(url: str, clock: Clock) -> AsyncIterator[list[Store]]:
    async with (
        Store.open(url, clock=clock, policy=POLICY) as one,
        Store.open(url, clock=clock, policy=POLICY) as two,
    ):
        yield [one, two]


def test_a_stream_of_events_that_is_shuffled_and_repeated_ends_with_one_list(tmp_path: Path) -> None:
    """Of all five names, and deliveries; with late ones, and removals between: two workers, two runs, one list."""
    clock = Clock(NOW)
    numbers = count()
    with asyncio.Runner() as runner:
        context = workers(f"sqlite+aiosqlite:///{tmp_path}/list.sqlite3", clock)
        stores = runner.run(context.__aenter__())

        @hypothesis.settings(max_examples=25)
        @hypothesis.given(
            st.lists(HAPPENINGS, max_size=14),
            st.lists(REMOVALS, max_size=2),
            st.randoms(use_true_random=False),
        )
        def holds(happenings: list[Happening], removals: list[Removal], chance: Random) -> None:
            number = next(numbers)
            lists = [
                runner.run(run(stores, clock, chance, f"{number}{letter}", happenings, removals))
                for letter in "ab"
            ]
            assert lists[0] == lists[1]

        holds()
        runner.run(context.__aexit__(None, None, None))


async def test_postgresql_comes_to_the_same_list_with_two_workers_at_once(
    postgresql_url: str, tmp_path: Path
) -> None:
    """They wait for each other where both have events of one address; SQLite, with one writer, says what is right."""
    chance = random.Random(14)  # noqa: S311 -- a stream that is always the same
    names = [*REASONS, events.SOFT_BOUNCED, events.SOFT_BOUNCED]
    happenings = [
        Happening(chance.choice(names), chance.randrange(2), chance.randrange(9), chance.randrange(END))
        for _ in range(60)
    ]
    happenings += [Happening(events.DELIVERED, address, 1, END // 2) for address in range(2)]
    removals = [Removal(0, Reason.SOFT_BOUNCE), Removal(1, None)]
    clock = Clock(NOW)
    async with workers(f"sqlite+aiosqlite:///{tmp_path}/list.sqlite3", clock) as stores:
        expected = await run(stores, clock, chance, "x", happenings, removals)
    assert {reason for _, reason in expected} >= {"hard_bounce", "soft_bounce", "unsubscribe"}
    async with workers(postgresql_url, clock) as stores:
        for number in range(4):
            assert await run(stores, clock, chance, f"{number}", happenings, removals) == expected
