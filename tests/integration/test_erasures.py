"""A person who was erased: of the address nothing is left in the database's files, and the person stays suppressed."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from bridge.settings.list_sections import Suppression
from bridge.suppression import opening, postgresql_vacuum
from bridge.suppression.address_keys import is_hash, keys_of
from bridge.suppression.errors import NoPrivacyKeyError, StoreError
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from tests.support import postgres, stores
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.suppression.erasing import Erased

NOW = 1_700_000_000
JANE = "jane.erased@example.org"
WRITTEN = "Jane.Erased@Example.ORG"
KEYS = keys_of(Suppression.model_validate({"privacy_keys": ["k2:" + "2" * 32, "k1:" + "1" * 32]}))
HASH = KEYS.looked_up(JANE)[1]


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
async def store(database_url: str, clock: Clock) -> AsyncIterator[Store]:
    async with Store.open(database_url, clock=clock, keys=KEYS) as opened:
        yield opened


def event(event_id: str, address: str, reason: Reason = Reason.HARD_BOUNCE) -> SuppressingEvent:
    return SuppressingEvent(
        address, reason, event_id, NOW - 100, f"m-{event_id}", f"raw event of {address}".encode()
    )


async def filled(store: Store, database_url: str) -> None:
    """Jane is everywhere where an address can be, and in what others have written; so is Bob, who must not suffer."""
    for number, address in enumerate([WRITTEN, "bob@example.org"]):
        await store.record(
            [
                event(f"bounce-{number}", address),
                event(f"complaint-{number}", address, Reason.COMPLAINT),
                event(f"left-{number}", address, Reason.UNSUBSCRIBE),
            ],
            actor="worker",
        )
        await store.remember({f"announced-{number}": address, f"again-{number}": f"Somebody <{address}>"})
        await store.remove(
            address, reason=Reason.UNSUBSCRIBE, actor=f"helper of {address}", note=f"by {address}"
        )
        await store.allow_list.put(address, actor="ann", note=f"{address} asked")
    await store.allow_list.put("example.com", actor="ann", note=f"as {WRITTEN} wished")
    await store.add("bob@example.org", actor="ann", note=f"brother of {JANE}, not of x{JANE}")
    answer = b'\'{"address": "' + JANE.encode() + b"\"}'"
    await stores.execute(
        database_url,
        "INSERT INTO idempotent_requests (key, fingerprint, answer, made_at) VALUES "  # noqa: S608 -- a test's own
        f"('one', 'f', {_blob(database_url, answer)}, {NOW})",
        "INSERT INTO soft_bounces (address, event_id, message_id, at) VALUES "  # noqa: S608 -- a test's own
        f"('{JANE}', 's1', 'm1', {NOW}), ('{JANE}', 's2', 'm2', {NOW}), "
        f"('{JANE}', 's3', 'm2', {NOW})",
        f"INSERT INTO deliveries (address, delivered_at) VALUES ('{JANE}', {NOW - 5})",  # noqa: S608 -- a test's own
    )


def _blob(database_url: str, quoted: bytes) -> str:
    plain = quoted.decode()
    return f"{plain}::bytea" if postgres.is_postgresql(database_url) else f"CAST({plain} AS BLOB)"


async def erased(store: Store) -> Erased:
    return await store.erasures.erase(WRITTEN, actor="ann", note=f"{WRITTEN} asked by letter")


async def rows_with(database_url: str, text: str) -> dict[str, int]:
    """Table -> in how many of its rows the text is, in any case."""
    found = {}
    tables: list[str] = [
        "suppressions", "changes", "liftings", "handled_events", "known_messages", "leases", "soft_bounces",
        "deliveries", "allow_rules", "erasures", "imports", "idempotent_requests", "freshness", "marks",
    ]  # fmt: skip
    for table in tables:
        rows = await stores.query(database_url, f"SELECT * FROM {table}")  # noqa: S608 -- a test's own
        naming = [row for row in rows if text.encode() in b"|".join(map(_bytes, row)).lower()]
        if naming:
            found[table] = len(naming)
    return found


def contents_of(folder: Path) -> bytes:
    """Of all its files, in lower case. PostgreSQL, which cleans up by itself, may have removed one meanwhile."""
    contents = []
    for file in folder.iterdir():
        with suppress(FileNotFoundError):
            contents.append(file.read_bytes())
    return b"".join(contents).lower()


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


async def test_the_address_is_in_no_table_and_the_person_stays_suppressed(
    store: Store, database_url: str
) -> None:
    """The hash stands where the address stood; of whom the list knows otherwise, nothing is touched."""
    await filled(store, database_url)
    entries_of_bob, history_of_bob = (
        await store.check("bob@example.org"),
        await store.history("bob@example.org"),
    )
    done = await erased(store)
    assert done.key == HASH
    assert done.reasons == ("complaint", "hard_bounce")
    assert (await rows_with(database_url, JANE)).keys() <= {"changes"}, (
        "but for the one that is called xjane…"
    )
    entries = await store.check(HASH)
    assert [
        (entry.address, entry.reason, entry.original, entry.message_id, entry.evidence) for entry in entries
    ] == [(HASH, Reason.COMPLAINT, "", None, None), (HASH, Reason.HARD_BOUNCE, "", None, None)]
    history = await store.history(HASH)
    assert [change.action for change in history] == [
        "added",
        "added",
        "added",
        "removed",
        "allowed",
        "erased",
    ]
    assert all(change.evidence is None and change.message_id is None for change in history)
    assert (history[-1].note, history[-1].actor) == (f"{HASH} asked by letter", "ann")
    assert history[3].note == f"by {HASH}"
    assert await store.allow_list.get(HASH) is None, (
        "a rule that lets mail through does not outlive the person"
    )
    entries, history = await store.check("bob@example.org"), await store.history("bob@example.org")
    assert entries == entries_of_bob
    assert [change for change in history if "brother" not in change.note] == [
        change for change in history_of_bob if "brother" not in change.note
    ]
    assert history[-1].note == f"brother of {HASH}, not of x{JANE}"


async def test_what_is_erased_is_said(store: Store, database_url: str) -> None:
    """By the preview before, which changes nothing, and by the erasure itself."""
    await filled(store, database_url)
    before = await rows_with(database_url, JANE)
    expected: dict[str, int] = {
        "entries": 2, "changes": 5, "liftings": 1, "soft bounces": 3, "deliveries": 1, "allow rules": 1,
        "known messages": 2,
    }  # fmt: skip
    preview = await store.erasures.preview(JANE)
    assert (preview.key, preview.found, preview.repeated) == (HASH, expected, False)
    assert await rows_with(database_url, JANE) == before
    done = await erased(store)
    assert done.found == expected | {"notes": 4, "notes of rules": 1, "notes of erasures": 0, "answers": 1}
    assert await store.known_addresses(["announced-0", "again-0", "announced-1"]) == {
        "announced-1": "bob@example.org"
    }


async def test_an_erasure_that_is_made_again_finds_nothing_and_logs_nothing(
    store: Store, database_url: str
) -> None:
    """So one that was interrupted is simply repeated."""
    await filled(store, database_url)
    await erased(store)
    length = len(await store.history(HASH))
    again = await erased(store)
    assert again.repeated
    assert again.reasons == ("complaint", "hard_bounce")
    assert await store.erasures.message_ids(JANE) == set()
    assert len(await store.history(HASH)) == length


async def test_the_messages_of_a_person_are_known_until_the_erasure(store: Store, database_url: str) -> None:
    """From the list, its log, the soft bounces and the messages that are known: the raw events in other places name them."""
    await filled(store, database_url)
    assert await store.erasures.message_ids(JANE) == {
        "m-bounce-0", "m-complaint-0", "m-left-0", "m1", "m2", "announced-0", "again-0",
    }  # fmt: skip


async def test_without_a_key_nobody_can_be_erased(database_url: str) -> None:
    """It says how to make one."""
    async with Store.open(database_url) as store:
        with pytest.raises(NoPrivacyKeyError, match="openssl rand -hex 32"):
            await store.erasures.erase(JANE, actor="ann")


async def test_soft_bounces_count_on_under_the_hash(store: Store, database_url: str) -> None:
    """As many messages as before, none of which leads to the person."""
    await filled(store, database_url)
    await erased(store)
    bounces = await stores.query(database_url, "SELECT address, message_id, evidence FROM soft_bounces")
    assert [(address, evidence) for address, _, evidence in bounces] == [(HASH, None)] * 3
    assert len({message for _, message, _ in bounces}) == 2
    assert all(is_hash(message) for _, message, _ in bounces)
    assert await stores.query(database_url, "SELECT address, delivered_at FROM deliveries") == [
        (HASH, NOW - 5)
    ]


async def test_the_files_of_sqlite_have_the_address_nowhere(tmp_path: Path) -> None:
    """Neither the database nor its log, once it was vacuumed, while it is open as in a worker."""
    url = f"sqlite+aiosqlite:///{tmp_path}/list.sqlite3"
    async with Store.open(url, clock=Clock(NOW), keys=KEYS) as store:
        await filled(store, url)
        await stores.execute(url, f"UPDATE suppressions SET original = 'x' WHERE original = '{WRITTEN}'")  # noqa: S608 -- a test's own
        await erased(store)
        await vacuumed(url)
        contents = contents_of(tmp_path)
    assert b"bob@example.org" in contents
    assert JANE.encode() not in contents.replace(b"x" + JANE.encode(), b"")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests write in other databases of the same server, and hold their transactions open."""
    monkeypatch.setattr(postgresql_vacuum, "OLDER_SECONDS", 60.0)


async def vacuumed(url: str) -> None:
    async with opening.open_database(url, create=False) as database:
        await database.vacuum()


async def files_of_postgresql(url: str) -> bytes:
    """Of all that the database has, its catalogs too, in lower case."""
    await postgres.execute(url, "CHECKPOINT")
    ((folder,),) = await postgres.query(
        url,
        "SELECT current_setting('data_directory') || '/base/' || oid FROM pg_database WHERE datname = current_database()",
    )
    return contents_of(Path(folder))


@pytest.fixture
async def owner_url(postgresql_url: str) -> AsyncIterator[str]:
    """Of a list whose tables this user owns, and not the database."""
    name = f"owner_{postgresql_url.rpartition('/')[2]}"
    url = postgresql_url.replace(f"{postgres.OWNER}:", f"{name}:")
    await postgres.execute(
        postgresql_url,
        f"CREATE ROLE {name} LOGIN PASSWORD '{postgres.PASSWORD}'",
        f"GRANT CREATE ON SCHEMA public TO {name}",
    )
    yield url
    await postgres.execute(
        postgresql_url,
        f"ALTER DATABASE {postgresql_url.rpartition('/')[2]} OWNER TO {postgres.OWNER}",
        f"DROP OWNED BY {name}",
        f"DROP ROLE {name}",
    )


async def test_the_files_of_postgresql_have_the_address_nowhere(postgresql_url: str) -> None:
    """Neither tables and indexes nor the statistics of them, once it was vacuumed; its log of writes is reused at some time."""
    async with Store.open(postgresql_url, clock=Clock(NOW), keys=KEYS) as store:
        await filled(store, postgresql_url)
        await postgres.execute(postgresql_url, "ANALYZE")  # as PostgreSQL does by itself at some time
        await erased(store)
        await vacuumed(postgresql_url)
    contents = await files_of_postgresql(postgresql_url)
    assert b"bob@example.org" in contents
    assert JANE.encode() not in contents.replace(b"x" + JANE.encode(), b"")


async def test_a_table_that_an_erasure_has_emptied_has_no_statistics_of_the_address(
    postgresql_url: str,
) -> None:
    """ANALYZE leaves those of an empty table as they were. Extended ones, which somebody may have made, are no other."""
    async with Store.open(postgresql_url, clock=Clock(NOW), keys=KEYS) as store:
        await store.remember({"1": JANE, "2": JANE, "3": JANE})
        await postgres.execute(
            postgresql_url,
            "CREATE STATISTICS of_somebody (mcv) ON address, known_at FROM known_messages",
            "ANALYZE",
        )
        assert JANE.encode() in await files_of_postgresql(postgresql_url)
        await erased(store)
        await vacuumed(postgresql_url)
        assert await store.known_addresses(["1", ""]) == {}
    assert JANE.encode() not in await files_of_postgresql(postgresql_url)


@pytest.mark.parametrize(
    ("database", "reads"),
    [(None, "SELECT 1"), ("postgres", "SELECT txid_current()")],
    ids=["a backup", "a write in another database"],
)
async def test_what_an_older_transaction_may_still_read_is_said_to_be_left(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch, database: str | None, reads: str
) -> None:
    """When it has ended, another vacuum does it. A snapshot begins with the oldest that writes anywhere on the server."""
    monkeypatch.setattr(postgresql_vacuum, "OLDER_SECONDS", 0)
    async with Store.open(postgresql_url, clock=Clock(NOW), keys=KEYS) as store:
        await store.remember({"1": JANE})
        older = await asyncpg.connect(postgres.plain(postgresql_url), database=database)
        await older.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await older.execute(reads)
        await erased(store)
        with pytest.raises(
            StoreError, match=rf"process {older.get_server_pid()} of {postgres.OWNER}\b.*; run"
        ):
            await vacuumed(postgresql_url)
        assert JANE.encode() in await files_of_postgresql(postgresql_url)
        await older.close()
        monkeypatch.setattr(postgresql_vacuum, "OLDER_SECONDS", 60.0)
        await vacuumed(postgresql_url)
    assert JANE.encode() not in await files_of_postgresql(postgresql_url)


async def test_a_vacuum_that_is_not_allowed_is_said(postgresql_url: str, owner_url: str) -> None:
    """PostgreSQL only warns of it. To the owner of the tables it says how to get to the statistics, too."""
    async with Store.open(owner_url):
        pass
    with pytest.raises(StoreError, match=r"statistics.* may not: .*pg_statistic.* ALTER DATABASE") as refused:
        await vacuumed(owner_url)
    said = re.search("ALTER DATABASE .* OWNER TO [^,]*", str(refused.value))
    assert said is not None
    await postgres.execute(postgresql_url, said[0])
    await vacuumed(owner_url)
    await postgres.execute(
        postgresql_url,
        f"ALTER DATABASE {postgresql_url.rpartition('/')[2]} OWNER TO {postgres.OWNER}",
        f"ALTER TABLE allow_rules OWNER TO {postgres.OWNER}",
    )
    with pytest.raises(StoreError, match=r"was not written anew, since its user may not: .*allow_rules"):
        await vacuumed(owner_url)
