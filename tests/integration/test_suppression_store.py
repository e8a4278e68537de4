"""The list, on a real SQLite file and on a real PostgreSQL: what holds on one holds on the other."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from bridge.suppression import model
from bridge.suppression.addresses import InvalidAddressError
from bridge.suppression.errors import (
    NotSuppressedError,
    ProtectedComplaintError,
    RefusedValueError,
    StoreError,
    StoreUnavailableError,
)
from bridge.suppression.list_filter import ListFilter
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from tests.support import stores
from tests.support.clock import Clock
from tests.support.warm_starts import start_program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy import Connection
    from sqlalchemy.schema import SchemaItem
    from sqlalchemy.types import TypeEngine

NOW = 1_700_000_000


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
async def store(database_url: str, clock: Clock) -> AsyncIterator[Store]:
    async with Store.open(database_url, clock=clock) as opened:
        yield opened


def suppressing_event(
    event_id: str,
    address: str = "jane@example.org",
    reason: Reason = Reason.HARD_BOUNCE,
    at: int = 1000,
) -> SuppressingEvent:
    return SuppressingEvent(
        address, reason, event_id, at, f"m-{event_id}", f"evidence of {event_id}".encode()
    )


def compared_with_collation(
    context: MigrationContext, _: Any, __: Any, stands: TypeEngine[Any], wanted: TypeEngine[Any]
) -> bool | None:
    """Whether they differ: the order of text counts, too, which Alembic does not look at. None leaves it to Alembic."""
    wanted = wanted.dialect_impl(context.dialect)
    there, here = (getattr(kind, "collation", None) for kind in (stands, wanted))
    return True if there != here else None


def patient(url: str) -> str:
    """SQLite gives nobody his turn who writes to the same file: on a slow disk one may wait for all the others."""
    return f"{url}?timeout=60" if url.startswith("sqlite") else url


async def outcomes(store: Store, *suppressing_events: SuppressingEvent) -> list[str]:
    return [recorded.outcome for recorded in await store.record(suppressing_events, actor="worker")]


async def test_an_incident_becomes_an_entry_with_its_cause(store: Store) -> None:
    """Every column says what happened; the address is found in any spelling."""
    assert await outcomes(store, suppressing_event("e1", "Jane@Example.ORG")) == ["added"]
    (entry,) = await store.check(" JANE@example.org")
    assert entry.address == "jane@example.org"
    assert entry.original == "Jane@Example.ORG"
    assert entry.reason is Reason.HARD_BOUNCE
    assert (entry.first_event_at, entry.last_event_at, entry.count) == (1000, 1000, 1)
    assert (entry.message_id, entry.evidence) == ("m-e1", b"evidence of e1")
    assert (entry.created_at, entry.updated_at, entry.expires_at) == (NOW, NOW, None)
    assert await store.check("joe@example.org") == []


async def test_the_same_event_twice_is_one_entry_with_the_same_count(store: Store) -> None:
    """Within a batch and across batches; the log has one line for it, too."""
    assert await outcomes(
        store, suppressing_event("e1"), suppressing_event("e1"), suppressing_event("e2")
    ) == [
        "added",
        "repeated",
        "updated",
    ]
    before = await store.check("jane@example.org")
    assert await outcomes(store, suppressing_event("e2"), suppressing_event("e1")) == ["repeated", "repeated"]
    assert await store.check("jane@example.org") == before
    assert before[0].count == 2
    assert [change.event_id for change in await store.history("jane@example.org")] == ["e1", "e2"]


async def test_nothing_to_record_is_nothing_done(store: Store) -> None:
    """An empty batch is answered without the database."""
    assert await store.record([], actor="worker") == []


async def test_counts_and_times_hold_in_any_order(store: Store, clock: Clock) -> None:
    """First and last event time are the smallest and the greatest; the cause is the earliest, whenever it comes."""
    assert await outcomes(
        store,
        suppressing_event("e1", at=500),
        suppressing_event("e2", at=900),
        suppressing_event("e3", at=100),
    ) == [
        "added",
        "updated",
        "updated",
    ]
    clock.now += 60
    assert await outcomes(
        store, suppressing_event("e4", "JANE@example.org", at=50), suppressing_event("e5", at=700)
    ) == [
        "updated",
        "updated",
    ]
    (entry,) = await store.check("jane@example.org")
    assert (entry.first_event_at, entry.last_event_at, entry.count) == (50, 900, 5)
    assert (entry.message_id, entry.evidence, entry.original) == (
        "m-e4",
        b"evidence of e4",
        "JANE@example.org",
    )
    assert (entry.created_at, entry.updated_at) == (NOW, NOW + 60)


async def test_each_reason_is_an_entry_of_its_own(store: Store) -> None:
    """A complaint does not hide a hard bounce of the same address."""
    assert await outcomes(
        store, suppressing_event("e1"), suppressing_event("e2", reason=Reason.COMPLAINT)
    ) == [
        "added",
        "added",
    ]
    assert [(entry.reason, entry.count) for entry in await store.check("jane@example.org")] == [
        (Reason.COMPLAINT, 1),
        (Reason.HARD_BOUNCE, 1),
    ]
    counts = await store.count_by_reason()
    assert counts == dict.fromkeys(Reason, 0) | {Reason.COMPLAINT: 1, Reason.HARD_BOUNCE: 1}


async def test_every_cause_is_in_the_log_with_its_own_evidence(store: Store) -> None:
    """What the entry does not keep, the log does."""
    await outcomes(store, suppressing_event("e1"), suppressing_event("e2"))
    assert [
        (change.action, change.actor, change.event_id, change.message_id, change.evidence, change.at)
        for change in await store.history("Jane@example.org")
    ] == [
        ("added", "worker", "e1", "m-e1", b"evidence of e1", NOW),
        ("updated", "worker", "e2", "m-e2", b"evidence of e2", NOW),
    ]


async def test_a_bad_incident_in_the_middle_leaves_nothing(store: Store) -> None:
    """The address that is none takes the whole batch with it, before anything is written."""
    with pytest.raises(InvalidAddressError):
        await outcomes(
            store, suppressing_event("e1"), suppressing_event("e2", "no address"), suppressing_event("e3")
        )
    assert await store.entries(limit=10) == []
    assert await outcomes(store, suppressing_event("e1")) == ["added"]


async def test_a_database_that_fails_half_way_keeps_nothing_of_the_batch(
    store: Store, database_url: str
) -> None:
    """List, log and handled events are one transaction: the last statement undoes the first."""
    await stores.refuse(database_url, "e2", "no room for e2")
    with pytest.raises(StoreError, match="no room for e2"):
        await outcomes(
            store,
            suppressing_event("e1"),
            suppressing_event("e2"),
            suppressing_event("e3", "joe@example.org"),
        )
    assert await store.entries(limit=10) == []
    assert await store.history("jane@example.org") == []
    assert await outcomes(store, suppressing_event("e1"), suppressing_event("e3", "joe@example.org")) == [
        "added",
        "added",
    ]


async def test_a_record_that_is_cancelled_is_done_or_not_done(store: Store) -> None:
    """Stopped at whatever point: no half batch, no lock that stays, and each event counts once in the end."""
    batch = [suppressing_event(f"e{number}") for number in range(40)]
    for patience, event in enumerate(batch):
        task = asyncio.create_task(store.record([event], actor="worker"))
        await asyncio.wait({task}, timeout=patience / 10_000)
        task.cancel()
        await asyncio.wait({task})
        counted = sum(entry.count for entry in await store.check("jane@example.org"))
        assert counted == len(await store.history("jane@example.org"))
    await store.record(batch, actor="worker")
    assert [entry.count for entry in await store.check("jane@example.org")] == [40]
    assert len(await store.history("jane@example.org")) == 40


async def test_a_large_batch_is_exact(store: Store) -> None:
    """More rows than SQLite takes parameters in one statement, with addresses that come again and again."""
    batch = [
        suppressing_event(f"e{number}", f"jane{number % 700}@example.org", at=number)
        for number in range(7000)
    ]
    answers = await outcomes(store, *batch)
    assert (answers.count("added"), answers.count("updated")) == (700, 6300)
    assert {entry.count for entry in await store.entries(limit=1000)} == {10}


RECORDER = """
import asyncio, sys
from bridge.suppression.policy import Reason
from bridge.settings.sections import Logs
from bridge.suppression.suppressing_events import SuppressingEvent
from bridge.suppression.store import Store
from bridge.telemetry import logs

async def main(url, name):
    logs.configure(Logs(level="error"))
    outcomes = []
    async with Store.open(url) as store:
        print("open", flush=True)
        sys.stdin.readline()
        for batch in range(20):
            mine = [SuppressingEvent("jane@example.org", Reason.HARD_BOUNCE, f"{name}-{batch}-{n}", batch, "1", b"")
                    for n in range(5)]
            shared = [SuppressingEvent("joe@example.org", Reason.COMPLAINT, f"shared-{batch}-{n}", batch, "1", b"")
                      for n in range(5)]
            outcomes += [recorded.outcome for recorded in await store.record(mine + shared, actor=name)]
    print(*(outcomes.count(outcome) for outcome in ("added", "updated", "repeated")))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.no_list
async def test_two_processes_record_at_once_and_every_event_counts_once(
    database_url: str, tmp_path: Path
) -> None:
    """Both open the same new database, and share half of their events; nobody meets a locked one."""
    database_url = patient(database_url)
    recorders = []
    starting = []
    for name in ("one", "two"):
        reading, writing = os.pipe()
        recorders.append(await start_program(RECORDER, database_url, name, cwd=tmp_path, stdin=reading))
        os.close(reading)
        starting.append(writing)
    for recorder in recorders:
        assert recorder.stdout is not None
        assert await recorder.stdout.readline() == b"open\n"
    for writing in starting:
        os.write(writing, b"go\n")
        os.close(writing)
    answers = await asyncio.gather(*(recorder.communicate() for recorder in recorders))
    assert [errors for _, errors in answers] == [b"", b""]
    added, updated, repeated = (
        sum(numbers) for numbers in zip(*(map(int, output.split()) for output, _ in answers), strict=True)
    )
    assert (added, updated, repeated) == (2, 298, 100)
    async with Store.open(database_url) as store:
        assert [(entry.address, entry.count) for entry in await store.entries(limit=10)] == [
            ("jane@example.org", 200),
            ("joe@example.org", 100),
        ]


async def test_many_tasks_and_two_stores_record_at_once(database_url: str) -> None:
    """Two engines, ten tasks each, the same ten events from all: each counts once."""
    batch = [suppressing_event(f"e{number}", at=number) for number in range(10)]
    async with Store.open(patient(database_url)) as one, Store.open(patient(database_url)) as two:
        answers = await asyncio.gather(*(outcomes(store, *batch) for store in [one, two] * 10))
        (entry,) = await one.check("jane@example.org")
    assert sorted(sum(answers, [])).count("repeated") == 190  # noqa: RUF017 -- twenty short lists
    assert (entry.count, entry.first_event_at, entry.last_event_at) == (10, 0, 9)


async def test_a_new_database_is_opened_by_several_at_once(database_url: str) -> None:
    """One of them makes the tables, the others wait for it."""

    async def opened() -> dict[Reason, int]:
        async with Store.open(database_url) as store:
            return await store.count_by_reason()

    assert await asyncio.gather(*(opened() for _ in range(8))) == [dict.fromkeys(Reason, 0)] * 8


async def test_the_migrations_make_what_the_model_says(store: Store) -> None:
    """Tables, columns, types, collations and indexes: Alembic finds no difference."""

    def differences(connection: Connection) -> list[Any]:
        dialect = connection.dialect.name

        def is_ours(item: SchemaItem, *_: object) -> bool:
            return bool(item.info.get("dialect", dialect) == dialect)

        context = MigrationContext.configure(
            connection, opts={"compare_type": compared_with_collation, "include_object": is_ours}
        )
        return list(compare_metadata(context, model.metadata))

    async with store._database.read() as connection:
        assert await connection.run_sync(differences) == []


async def test_a_newer_database_is_left_alone(store: Store, database_url: str) -> None:
    """An older bridge that meets a newer database says so."""
    assert await store.entries(limit=1) == []
    await stores.execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="was it written by a newer bridge"):
        async with Store.open(database_url):
            pass


async def test_known_messages_give_their_address_as_the_provider_wrote_it(store: Store) -> None:
    """Only those that are known; the latest word counts; there may be many."""
    assert await store.known_addresses(["1"]) == {}
    await store.remember({})
    await store.remember({"1": "Jane@Example.org", "2": "joe@example.org"})
    await store.remember({"2": "jim@example.org"} | {f"n{number}": "n@example.org" for number in range(1200)})
    assert await store.known_addresses(["1", "2", "3"]) == {"1": "Jane@Example.org", "2": "jim@example.org"}
    assert len(await store.known_addresses([f"n{number}" for number in range(1200)])) == 1200


async def test_what_was_looked_up_is_kept_with_what_it_was_looked_up_for(store: Store) -> None:
    """One transaction has both; an address that is none keeps both out."""
    looked_up = {"m-e1": "Jane@example.org"}
    with pytest.raises(InvalidAddressError):
        await store.record(
            [suppressing_event("e1"), suppressing_event("e2", "joe")], actor="worker", addresses=looked_up
        )
    assert await store.known_addresses(["m-e1"]) == {}
    await store.record([suppressing_event("e1")], actor="worker", addresses=looked_up)
    assert await store.known_addresses(["m-e1"]) == looked_up


async def test_a_value_that_the_database_cannot_take_is_refused_and_nothing_is_changed(
    store: Store, database_url: str
) -> None:
    """Whether a rule of the database or its driver says so; it is no reason to wait, or to give up the list."""
    await stores.refuse(database_url, "e2", "not this one")
    looked_up = {"m-e1": "jane@example.org"}
    for refused, why in (
        (suppressing_event("e2"), "not this one"),
        (suppressing_event("e3", at=2**63), "too large|out of range"),
        (replace(suppressing_event("e4"), message_id="\ud800"), "surrogates not allowed"),
    ):
        with pytest.raises(RefusedValueError, match=why) as refusal:
            await store.record([suppressing_event("e1"), refused], actor="worker", addresses=looked_up)
        assert not isinstance(refusal.value, StoreUnavailableError)
    assert await store.entries(limit=1) == []
    assert await store.known_addresses(looked_up) == {}
    assert await outcomes(store, suppressing_event("e1")) == ["added"]


async def test_pages_follow_each_other_without_gap(store: Store) -> None:
    """Ordered by address and reason; the next page begins after the last entry of the page before."""
    await outcomes(
        store,
        *(suppressing_event(f"b{name}", f"{name}@example.org") for name in "cab"),
        suppressing_event("c", "b@example.org", Reason.COMPLAINT),
    )
    seen, after = [], None
    while page := await store.entries(limit=3, after=after):
        assert len(page) <= 3
        seen += [(entry.address[0], entry.reason.value) for entry in page]
        after = (page[-1].address, page[-1].reason)
    assert seen == [("a", "hard_bounce"), ("b", "complaint"), ("b", "hard_bounce"), ("c", "hard_bounce")]
    assert [
        entry.address[0] for entry in await store.entries(ListFilter(reason=Reason.COMPLAINT), limit=9)
    ] == ["b"]


async def test_a_person_can_add_an_address(store: Store, clock: Clock) -> None:
    """Once is an entry, twice is the same entry; the log has who and why."""
    entry = await store.add("Joe@example.org", actor="ann", note="asked by phone")
    assert (entry.address, entry.reason, entry.count, entry.evidence) == (
        "joe@example.org",
        Reason.MANUAL,
        1,
        None,
    )
    clock.now += 5
    again = await store.add("joe@example.org", actor="bob", note="again")
    assert (again.count, again.created_at, again.updated_at) == (2, NOW, NOW + 5)
    assert [
        (change.action, change.actor, change.note) for change in await store.history("joe@example.org")
    ] == [
        ("added", "ann", "asked by phone"),
        ("updated", "bob", "again"),
    ]
    with pytest.raises(InvalidAddressError):
        await store.add("joe", actor="ann", note="")


async def test_an_entry_suppresses_until_it_expires_and_never_ends_sooner(store: Store, clock: Clock) -> None:
    """Adding again may only lengthen; an event, or no end given, is for good."""
    await store.add("joe@example.org", actor="ann", note="", expires_at=NOW + 100)
    await store.add("joe@example.org", actor="ann", note="", expires_at=NOW + 50)
    clock.now = NOW + 99
    assert [entry.expires_at for entry in await store.check("joe@example.org")] == [NOW + 100]
    clock.now = NOW + 100
    assert await store.check("joe@example.org") == []
    assert len(await store.entries(limit=9)) == 1
    await store.add("joe@example.org", actor="ann", note="")
    await store.add("joe@example.org", actor="ann", note="", expires_at=NOW + 200)
    assert [entry.expires_at for entry in await store.check("joe@example.org")] == [None]


async def test_removing_takes_one_reason_or_all(store: Store) -> None:
    """What was removed is answered and logged; an event that was handled does not bring it back."""
    await outcomes(store, suppressing_event("e1"), suppressing_event("e2", reason=Reason.UNSUBSCRIBE))
    await store.add("jane@example.org", actor="ann", note="")
    (removed,) = await store.remove(
        "JANE@example.org", reason=Reason.HARD_BOUNCE, actor="ann", note="new mailbox"
    )
    assert removed.reason is Reason.HARD_BOUNCE
    assert await outcomes(store, suppressing_event("e1")) == ["repeated"]
    others = await store.remove("jane@example.org", reason=None, actor="ann", note="")
    assert [entry.reason for entry in others] == [Reason.MANUAL, Reason.UNSUBSCRIBE]
    assert await store.check("jane@example.org") == []
    first = next(change for change in await store.history("jane@example.org") if change.action == "removed")
    assert (first.reason, first.actor, first.note, first.message_id, first.evidence) == (
        Reason.HARD_BOUNCE,
        "ann",
        "new mailbox",
        "m-e1",
        b"evidence of e1",
    )
    assert await outcomes(store, suppressing_event("e9", at=NOW + 1)) == ["added"]


@pytest.mark.parametrize("reason", [None, Reason.HARD_BOUNCE])
async def test_removing_what_is_not_there_is_an_error(store: Store, reason: Reason | None) -> None:
    """Nobody at all, or only for another reason."""
    await store.add("jane@example.org", actor="ann", note="")
    with pytest.raises(NotSuppressedError, match=r"joe@example\.org is not on the list"):
        await store.remove("joe@example.org", reason=reason, actor="ann", note="")
    with pytest.raises(NotSuppressedError, match="for the reason hard_bounce"):
        await store.remove("jane@example.org", reason=Reason.HARD_BOUNCE, actor="ann", note="")


@pytest.mark.parametrize(
    ("override", "actor", "note"),
    [
        (False, "ann", "sorry"),
        (True, "", "sorry"),
        (True, "ann", ""),
        (True, " ", "sorry"),
        (True, "ann", " "),
    ],
)
async def test_a_complaint_is_not_lifted_by_accident(
    store: Store, *, override: bool, actor: str, note: str
) -> None:
    """Without an override, a name and a note nothing is removed, not even the other entries."""
    await outcomes(store, suppressing_event("e1"), suppressing_event("e2", reason=Reason.COMPLAINT))
    for reason in (None, Reason.COMPLAINT):
        with pytest.raises(ProtectedComplaintError, match="has complained"):
            await store.remove("jane@example.org", reason=reason, actor=actor, note=note, override=override)
    assert len(await store.check("jane@example.org")) == 2
    assert [change.action for change in await store.history("jane@example.org")] == ["added", "added"]


async def test_a_complaint_is_lifted_on_purpose(store: Store) -> None:
    """With an override, a name and a note; the log keeps both."""
    await outcomes(store, suppressing_event("e1", reason=Reason.COMPLAINT))
    await store.remove("jane@example.org", reason=None, actor="ann", note="subscribed anew", override=True)
    assert await store.check("jane@example.org") == []
    last = (await store.history("jane@example.org"))[-1]
    assert (last.action, last.actor, last.note) == ("removed", "ann", "subscribed anew")
