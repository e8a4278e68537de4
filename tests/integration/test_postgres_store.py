"""What is PostgreSQL's own about the list: its refusals, its locks, and what becomes of work that is given up."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from sqlalchemy import event, text

from bridge.suppression.errors import RefusedValueError, StoreError, StoreUnavailableError
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from tests.support import postgres
from tests.support.eventually import eventually
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def store(postgresql_url: str) -> AsyncIterator[Store]:
    async with Store.open(postgresql_url) as opened:
        yield opened


@asynccontextmanager
async def beside(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Another client of the same database, in a transaction that comes to nothing."""
    connection = await asyncpg.connect(postgres.plain(url))
    try:
        await connection.execute("BEGIN")
        yield connection
    finally:
        await connection.close()


def suppressing_event(event_id: str, address: str = "jane@example.org") -> SuppressingEvent:
    return SuppressingEvent(address, Reason.HARD_BOUNCE, event_id, 1000, f"m-{event_id}", b"{}")


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (replace(suppressing_event("e1"), message_id="a\0b"), "invalid byte sequence"),
        (replace(suppressing_event("e\0"), message_id="b"), "invalid byte sequence"),
        (replace(suppressing_event("e1"), message_id="\ud800"), "surrogates not allowed"),
        (replace(suppressing_event("e1"), event_at=2**63), "out of range for type bigint"),
    ],
)
async def test_a_refusal_names_no_value_of_the_others(
    store: Store, refused: SuppressingEvent, why: str
) -> None:
    """Batches are handed over as arrays: what the driver says of one quotes its beginning, which we do not repeat."""
    others = [suppressing_event(f"o{number}", f"o{number}@example.org") for number in range(50)]
    with pytest.raises(RefusedValueError, match=why) as refusal:
        await store.record([*others, refused], actor="worker")
    assert "example.org" not in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert await store.entries(limit=1) == []


async def test_every_text_and_number_comes_back_as_it_was_written(store: Store) -> None:
    """Rows are written as PostgreSQL's array literals: nothing in a value may end it, or mean something else."""
    odd = [
        *(
            "",
            " ",
            "NULL",
            "null",
            "a,b",
            "{a}",
            '"',
            '""',
            "\\",
            "\\\\",
            '\\"',
            "\\n",
            "a\nb",
            "\t",
            "\x7f",
            "\u2028",
        ),
        *("ž@пример.example", "😀", "'; --", "$1", "\\x41", "\r\n", "\b", "\x1f", "a" * 5000),
    ]
    named = {f"m{number}": text for number, text in enumerate(odd)}
    plain = {f"p{number}": f"{number}@example.org" for number in range(3)}
    for given in (named, plain):  # of the second no text is written with a backslash
        await store.remember(given)
        assert await store.known_addresses(list(given)) == given
    numbers = (0, 1, 2**53 + 1, 2**63 - 1)
    events = [
        replace(suppressing_event(f"e{at}", f"at{at}@example.org"), event_at=at, message_id=text)
        for at, text in zip(numbers, odd, strict=False)
    ]
    await store.record(events, actor="worker")
    listed = {entry.first_event_at: entry.message_id for entry in await store.entries(limit=10)}
    assert listed == dict(zip(numbers, odd, strict=False))


async def test_a_key_that_is_too_long_for_an_index_is_refused(store: Store) -> None:
    """SQLite would take it; here the message is to blame, not the database."""
    # What can be compressed may be longer.
    long = "".join(chr(33 + number * number % 89) + chr(1000 + number) for number in range(5000))
    with pytest.raises(RefusedValueError, match="index row"):
        await store.remember({long: "jane@example.org"})


async def test_a_lock_that_is_not_to_be_had_is_waited_for_by_the_caller(
    store: Store, postgresql_url: str
) -> None:
    """PostgreSQL gives up after the lock's time-out; nothing is changed, and later it goes."""
    await store.record([suppressing_event("e1")], actor="worker")
    async with beside(postgresql_url) as other:
        await other.execute("SELECT * FROM suppressions FOR UPDATE")
        with pytest.raises(StoreUnavailableError, match="lock timeout"):
            await store.record([suppressing_event("e2")], actor="worker")
    assert [done.outcome for done in await store.record([suppressing_event("e2")], actor="worker")] == [
        "updated"
    ]


async def test_of_two_that_deadlock_one_is_asked_to_try_again(store: Store, postgresql_url: str) -> None:
    """A deadlock with somebody who takes locks in an order of their own; no update is lost."""
    await store.record(
        [suppressing_event("a1", "a@example.org"), suppressing_event("b1", "b@example.org")], actor="worker"
    )
    lock = "SELECT * FROM suppressions WHERE address = $1 FOR UPDATE"
    async with beside(postgresql_url) as other:
        await other.execute("SET LOCAL deadlock_timeout = '10s'")
        await other.fetch(lock, "b@example.org")
        recording = asyncio.create_task(
            store.record(
                [suppressing_event("a2", "a@example.org"), suppressing_event("b2", "b@example.org")],
                actor="worker",
            )
        )
        waiting = (
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        while not await postgres.query(postgresql_url, waiting):  # noqa: ASYNC110 -- only PostgreSQL knows
            await asyncio.sleep(0.01)
        await other.fetch(lock, "a@example.org")
        # PostgreSQL looks for it once, after a second. If the other lock came later than that, the time-out says so.
        with pytest.raises(StoreUnavailableError, match=r"deadlock detected|lock timeout"):
            await recording
    await store.record(
        [suppressing_event("a2", "a@example.org"), suppressing_event("b2", "b@example.org")], actor="worker"
    )
    assert [entry.count for entry in await store.entries(limit=9)] == [2, 2]


async def test_a_write_that_is_given_up_in_a_black_hole_is_undone(postgresql_url: str) -> None:
    """Who is cancelled does not wait for a server that is gone; its connection is never used again."""
    async with Proxy.serve(postgresql_url) as proxy, Store.open(proxy.url(postgresql_url)) as store:
        await store.record([suppressing_event("e1")], actor="worker")
        proxy.to_client.pause()
        recording = asyncio.create_task(store.record([suppressing_event("e2")], actor="worker"))
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            recording.cancel()
            with pytest.raises(asyncio.CancelledError):
                await recording
        proxy.cut()
        proxy.resume()
        outcomes = [done.outcome for done in await store.record([suppressing_event("e2")], actor="worker")]
        assert outcomes == ["updated"]
        assert [entry.count for entry in await store.check("jane@example.org")] == [2]


async def test_connections_that_were_closed_meanwhile_are_replaced_without_a_word(
    store: Store, postgresql_url: str
) -> None:
    """Nobody is told that the list is not available because it was not asked for a while."""
    used: list[Any] = []
    event.listen(
        store._database._engine.sync_engine,
        "checkout",
        lambda _, record, __: used.append(record.driver_connection),
    )
    await asyncio.gather(*(store.check("jane@example.org") for _ in range(8)))
    await postgres.query(
        postgresql_url,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'bridge' "
        "AND datname = current_database()",
    )
    await eventually(lambda: all(connection.is_closed() for connection in used))
    await store.record([suppressing_event("e1")], actor="worker")
    assert len(await store.check("jane@example.org")) == 1


async def test_a_reader_may_ask_a_list_that_it_may_not_change(store: Store, postgresql_url: str) -> None:
    """For `bridge suppressions check`, a role with SELECT is enough; to open it for writing is refused."""
    await store.record([suppressing_event("e1")], actor="worker")
    name = f"reader_{postgresql_url.rpartition('/')[2]}"
    await postgres.execute(
        postgresql_url,
        f"CREATE ROLE {name} LOGIN PASSWORD '{postgres.PASSWORD}'",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}",
    )
    try:
        url = postgresql_url.replace(f"{postgres.OWNER}:", f"{name}:")
        async with Store.open(url, create=False) as reading:
            assert len(await reading.check("jane@example.org")) == 1
        with pytest.raises(StoreError, match="may not INSERT on suppressions"):
            async with Store.open(url):
                pass
    finally:
        await postgres.execute(postgresql_url, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


async def test_each_question_is_planned_for_the_list_as_it_is(store: Store) -> None:
    """A plan that is kept from when the list was empty reads all of it for every batch, once it is long."""
    for number in range(10):
        await store.record([suppressing_event(f"e{number}")], actor="worker")
    async with store._database.read() as connection:
        kept = (
            "SELECT sum(generic_plans), sum(custom_plans) > 20 FROM pg_prepared_statements "
            "WHERE parameter_types <> '{}'"
        )
        assert (await connection.execute(text(kept))).one() == (0, True)
