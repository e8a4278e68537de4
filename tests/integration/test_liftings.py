"""What a person has taken off the list stays off, however late older events come; newer ones put it back."""

from __future__ import annotations

import asyncio
import time
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import hypothesis
import pytest
from hypothesis import strategies as st

from bridge.suppression import current_state, writing
from bridge.suppression.errors import ProtectedComplaintError
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from tests.support import postgres, stores
from tests.support.clock import Clock
from tests.support.ports import free_port
from tests.support.scraping import becoming
from tests.support.working import body_of, changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from random import Random
    from typing import Any

    from tests.support.processes import Processes
    from tests.support.working import Workplace

NOW = 1_700_000_000
JANE = "jane@example.org"


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
async def store(database_url: str, clock: Clock) -> AsyncIterator[Store]:
    async with Store.open(database_url, clock=clock) as opened:
        yield opened


def suppressing_event(
    event_id: str, at: int, reason: Reason = Reason.HARD_BOUNCE, address: str = JANE
) -> SuppressingEvent:
    return SuppressingEvent(address, reason, event_id, at, f"m-{event_id}", b"{}")


async def outcomes(store: Store, *suppressing_events: SuppressingEvent) -> list[str]:
    return [recorded.outcome for recorded in await store.record(suppressing_events, actor="worker")]


async def lift(store: Store, reason: Reason | None = None) -> None:
    await store.remove(JANE, reason=reason, actor="ann", note="asked by phone", override=True)


async def test_an_older_event_does_not_put_back_what_a_person_has_lifted(store: Store, clock: Clock) -> None:
    """Nor one of the same second; a newer one does, and then older ones do not count to it."""
    await outcomes(store, suppressing_event("e1", NOW - 10))
    await lift(store, Reason.HARD_BOUNCE)
    late = [
        suppressing_event("e2", NOW - 3600),
        suppressing_event("e3", NOW),
        suppressing_event("e2", NOW - 3600),
    ]
    assert await outcomes(store, *late) == ["outdated", "outdated", "repeated"]
    assert await store.check(JANE) == []
    assert [change.action for change in await store.history(JANE)] == ["added", "removed"]
    clock.now += 60
    newer = suppressing_event("e5", NOW + 1)
    assert await outcomes(store, suppressing_event("e4", NOW - 1), newer) == ["outdated", "added"]
    assert await outcomes(store, suppressing_event("e6", NOW - 2), *late) == ["outdated", *["repeated"] * 3]
    (entry,) = await store.check(JANE)
    assert (entry.count, entry.first_event_at, entry.message_id) == (1, NOW + 1, "m-e5")


async def test_one_reason_lifts_that_reason_of_that_address(store: Store) -> None:
    """What was not lifted is put there by an event of any time."""
    await outcomes(store, suppressing_event("e1", NOW - 10))
    await lift(store, Reason.HARD_BOUNCE)
    old = NOW - 3600
    assert await outcomes(
        store,
        suppressing_event("e2", old),
        suppressing_event("e3", old, Reason.COMPLAINT),
        suppressing_event("e4", old, address="joe@example.org"),
    ) == ["outdated", "added", "added"]


async def test_all_reasons_lift_also_what_has_not_come_yet(store: Store) -> None:
    """But a complaint only where it could have been lifted: with the override, a name and a note."""
    await outcomes(store, suppressing_event("e1", NOW - 10))
    await store.remove(JANE, reason=None, actor="ann", note="new mailbox")
    complaint, unsubscribing = (
        suppressing_event("e2", NOW - 9, Reason.COMPLAINT),
        suppressing_event("e3", NOW - 9, Reason.UNSUBSCRIBE),
    )
    assert await outcomes(store, complaint, unsubscribing) == ["added", "outdated"]
    with pytest.raises(ProtectedComplaintError):
        await store.remove(JANE, reason=None, actor="ann", note="new mailbox")
    await lift(store)
    assert await outcomes(store, suppressing_event("e4", NOW - 8, Reason.COMPLAINT)) == ["outdated"]
    assert await store.check(JANE) == []


async def test_a_person_puts_it_back_whenever_they_want_to(store: Store) -> None:
    """Also within the second of the lifting, and for a reason that events give; older events count no more to that."""
    await store.add(JANE, actor="ann", note="")
    await lift(store)
    await store.add(JANE, actor="bob", note="not yet")
    await store.add(JANE, reason=Reason.HARD_BOUNCE, actor="bob", note="not yet")
    assert await outcomes(store, suppressing_event("e1", NOW - 1)) == ["outdated"]
    assert [(entry.reason, entry.count) for entry in await store.check(JANE)] == [
        (Reason.HARD_BOUNCE, 1),
        (Reason.MANUAL, 1),
    ]


async def test_the_last_lifting_counts(store: Store, clock: Clock) -> None:
    """Also where the clock was set back meanwhile, or another machine's is slow."""
    for now in (NOW, NOW + 100, NOW + 50):
        clock.now = now
        await store.add(JANE, reason=Reason.HARD_BOUNCE, actor="ann", note="")
        await lift(store)
    assert await outcomes(store, suppressing_event("e1", NOW + 100), suppressing_event("e2", NOW + 101)) == [
        "outdated",
        "added",
    ]


async def test_what_was_lifted_before_the_update_stays_lifted(
    database_url: str, store: Store, clock: Clock
) -> None:
    """The log of changes has it, from which the newer revision takes it, once for each reason."""
    await outcomes(
        store, suppressing_event("e1", NOW - 10), suppressing_event("e2", NOW - 10, Reason.COMPLAINT)
    )
    await lift(store, Reason.COMPLAINT)
    clock.now += 100
    await store.add(JANE, reason=Reason.COMPLAINT, actor="ann", note="")
    await lift(store, Reason.COMPLAINT)
    await stores.downgrade(database_url, "0002")
    async with Store.open(database_url, clock=clock) as updated:
        assert await outcomes(
            updated,
            suppressing_event("e3", NOW + 100, Reason.COMPLAINT),
            suppressing_event("e4", NOW + 101, Reason.COMPLAINT),
            suppressing_event("e5", NOW - 20),
        ) == ["outdated", "added", "updated"]


async def test_a_lifting_that_is_kept_outlives_the_log(store: Store, database_url: str) -> None:
    """Whoever thins out the log of changes does not put anybody back on the list by that."""
    await store.add(JANE, actor="ann", note="")
    await lift(store)
    await stores.execute(database_url, "DELETE FROM changes")
    assert await outcomes(store, suppressing_event("e1", NOW - 1)) == ["outdated"]


class Happening(NamedTuple):
    """An event, and when it is delivered: not before it happens, and perhaps more than once."""

    at: int
    reason: Reason
    delivered_at: Sequence[int]


class Lifting(NamedTuple):
    at: int
    reason: Reason | None


class Step(NamedTuple):
    at: int
    order: int
    """Of those at the same time."""
    what: SuppressingEvent | Lifting


REASONS = st.sampled_from([Reason.HARD_BOUNCE, Reason.COMPLAINT])
HAPPENINGS = st.builds(
    lambda at, reason, delays: Happening(at, reason, [at + delay for delay in delays]),
    st.integers(0, 9),
    REASONS,
    st.lists(st.integers(0, 9), min_size=1, max_size=3),
)
LIFTINGS = st.builds(Lifting, st.integers(0, 9), st.none() | REASONS)


def test_whatever_comes_when_and_how_often_leaves_the_same_list(database_url: str) -> None:
    """Events in any order, repeated, in batches, by two workers, before and after liftings: their times decide."""
    clock = Clock(NOW)
    with asyncio.Runner() as runner:
        workers = [Store.open(database_url, clock=clock) for _ in range(2)]
        opened = [runner.run(worker.__aenter__()) for worker in workers]
        numbers = count()

        @hypothesis.settings(max_examples=40)
        @hypothesis.given(
            happenings=st.lists(HAPPENINGS, max_size=8),
            liftings=st.lists(LIFTINGS, max_size=3),
            chance=st.randoms(use_true_random=False),
        )
        def holds(happenings: list[Happening], liftings: list[Lifting], chance: Random) -> None:
            address = f"jane{next(numbers)}@example.org"
            events = [
                suppressing_event(f"{address} {number}", NOW + happening.at, happening.reason, address)
                for number, happening in enumerate(happenings)
            ]
            steps = [Step(lifting.at, chance.randrange(99), lifting) for lifting in liftings]
            for event, happening in zip(events, happenings, strict=True):
                steps += [Step(at, chance.randrange(99), event) for at in happening.delivered_at]
            steps.sort(key=lambda step: step[:2])
            runner.run(_follow(opened, clock, address, steps, chance))
            assert runner.run(_listed(opened[0], address)) == _expected(events, liftings)

        holds()
        for worker in workers:
            runner.run(worker.__aexit__(None, None, None))


async def _follow(
    workers: Sequence[Store], clock: Clock, address: str, steps: Sequence[Step], chance: Random
) -> None:
    """Deliver and lift, each at its time; what is delivered in a row makes batches of one worker or the other."""
    batch: list[SuppressingEvent] = []
    for step in steps:
        if batch and (isinstance(step.what, Lifting) or chance.random() < 0.5):
            await outcomes(chance.choice(workers), *batch)
            batch.clear()
        clock.now = NOW + step.at
        if isinstance(step.what, SuppressingEvent):
            batch.append(step.what)
            continue
        # So that there is something to lift.
        await workers[0].add(address, reason=step.what.reason or Reason.MANUAL, actor="ann", note="")
        await workers[0].remove(address, reason=step.what.reason, actor="ann", note="sorry", override=True)
    await outcomes(chance.choice(workers), *batch)


async def _listed(store: Store, address: str) -> dict[Reason, tuple[int, int, int]]:
    return {
        entry.reason: (entry.count, entry.first_event_at, entry.last_event_at)
        for entry in await store.check(address)
    }


def _expected(
    events: Sequence[SuppressingEvent], liftings: Sequence[Lifting]
) -> dict[Reason, tuple[int, int, int]]:
    """Of each reason what has happened since it was lifted for the last time: how often, first and last."""
    listed = {}
    for reason in (Reason.COMPLAINT, Reason.HARD_BOUNCE):
        lifted = [NOW + lifting.at for lifting in liftings if lifting.reason in {None, reason}]
        times = [
            event.event_at
            for event in events
            if event.reason is reason and event.event_at > max(lifted, default=0)
        ]
        if times:
            listed[reason] = (len(times), min(times), max(times))
    return listed


async def test_who_lifts_waits_for_a_batch_that_is_being_written(postgresql_url: str, clock: Clock) -> None:
    """PostgreSQL writes several at once: what was not committed yet is removed, too."""
    async with Store.open(postgresql_url, clock=clock) as one, Store.open(postgresql_url, clock=clock) as two:
        await one.add(JANE, actor="ann", note="")
        async with one._database.write() as connection:
            await writing.upsert_entries(connection, [_cause(NOW - 9)], actor="worker", now=NOW)
            lifting = asyncio.create_task(lift(two))
            await _somebody_waits(postgresql_url)
        await lifting
        assert await one.check(JANE) == []


async def test_a_batch_waits_for_who_lifts(postgresql_url: str, clock: Clock) -> None:
    """It begins to write before the lifting is committed, and heeds it all the same."""
    async with Store.open(postgresql_url, clock=clock) as one, Store.open(postgresql_url, clock=clock) as two:
        entry = await one.add(JANE, reason=Reason.HARD_BOUNCE, actor="ann", note="")
        async with one._database.write() as connection:
            await current_state.exclude_writers(connection)
            await writing.delete_entries(
                connection, [entry], keys=[JANE], reasons=list(Reason), actor="ann", note="", now=NOW
            )
            recording = asyncio.create_task(
                outcomes(two, suppressing_event("e1", NOW - 9), suppressing_event("e2", NOW + 9))
            )
            await _somebody_waits(postgresql_url)
        assert await recording == ["outdated", "added"]


def _cause(at: int) -> writing.Cause:
    return writing.Cause(JANE, JANE, Reason.HARD_BOUNCE, at, event_id="e1")


async def _somebody_waits(url: str) -> None:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(90):
        while not await postgres.query(url, waiting):  # noqa: ASYNC110 -- only PostgreSQL knows
            await asyncio.sleep(0.01)


async def test_a_worker_ignores_an_older_event_and_says_so(
    overrides: dict[str, Any], workplace: Workplace, processes: Processes
) -> None:
    """It is acknowledged, counted as `outdated`, logged, and published to nobody; the newer one is on the list."""
    port = free_port()
    worker = await processes.start("worker", overrides=changed(overrides, health={"port": port}))
    await worker.says("worker.started")
    await workplace.send(body_of("hard_bounced", 1))
    await workplace.changes(1)
    address = "recipient1@example.org"
    remove = await processes.start("suppressions", "remove", address, overrides=overrides)
    assert await remove.ended() == 0, remove.lines
    now = int(time.time())
    await workplace.send(body_of("hard_bounced", 1, at=now - 3600))
    await worker.says("suppression.outdated")
    await becoming(port, lambda read: read['bridge_events_handled_total{outcome="outdated"}'] == 1)
    await workplace.send(body_of("hard_bounced", 1, at=now + 3600))
    changes = await workplace.changes(3)
    assert [change["action"] for change in changes] == ["added", "removed", "added"]
