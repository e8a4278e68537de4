"""Files that are put on the list, in either database: what an import does, and what it leaves alone."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bridge.operations import transfer
from bridge.suppression.address_keys import KeyedAddresses, PrivacyKey
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from bridge.suppression.transfer.importing import ImportInProgressError, Imports, ImportState, Manner
from bridge.suppression.transfer.rows import ImportedRow
from tests.support import stores
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.suppression.transfer.exporting import Format

NOW = 1_700_000_000
AT = 1_539_062_173
MANNER = Manner("me", "import of list.csv")


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
async def store(database_url: str, clock: Clock) -> AsyncIterator[Store]:
    async with Store.open(database_url, clock=clock) as opened:
        yield opened


@pytest.fixture
def order(tmp_path: Path) -> transfer.ImportOrder:
    return transfer.ImportOrder(str(tmp_path / "list.csv"), MANNER)


async def imported(store: Store, order: transfer.ImportOrder) -> transfer.ImportResult:
    return await transfer.import_into(store, order, lambda *_: None)


def counts(result: transfer.ImportResult) -> tuple[int, ...]:
    """Added, updated, unchanged, outdated, rejected."""
    return result.state[1:6]


def write(order: transfer.ImportOrder, *rows: str, header: str = "address,reason,created_at") -> None:
    with open(order.path, "w", encoding="utf-8") as file:  # noqa: PTH123 -- a small file
        file.write("\n".join((header, *rows, "")))


async def exported(store: Store, form: Format = "csv") -> bytes:
    return b"".join([chunk async for chunk in store.exports.chunks(form, evidence=True)])


async def test_rows_become_entries_and_the_same_file_again_nothing(
    store: Store, order: transfer.ImportOrder, tmp_path: Path
) -> None:
    """A repeated import says so; one that is asked for raises no count; rejected rows are in a file, for their owner only."""
    file = tmp_path / "rejected.csv"
    order = replace(order, rejected=file)
    write(
        order,
        f"Jane@Example.org,bounce,{AT}",
        f"nobody,bounce,{AT}",
        f"jane@example.org,bounce,{AT + 9}",
        f"joe@example.org,complaint,{AT}",
        f"=1+1@example.org,odd,{AT}",
    )
    result = await imported(store, order)
    assert (counts(result), result.repeated) == ((2, 1, 0, 0, 2), False)
    (entry,) = await store.check("jane@example.org")
    assert (entry.reason, entry.original, entry.count) == (Reason.HARD_BOUNCE, "Jane@Example.org", 1)
    assert (entry.first_event_at, entry.last_event_at, entry.message_id) == (AT, AT + 9, None)
    lines = list(csv.reader(file.read_text().splitlines()))
    assert lines[0] == ["line", "rejected_because", "address", "reason", "created_at"]
    assert [line[0] for line in lines[1:]] == ["3", "6"]
    assert lines[2][2] == "'=1+1@example.org"
    assert file.stat().st_mode & 0o777 == 0o600
    before = await exported(store)
    result = await imported(store, order)
    assert (counts(result), result.repeated) == ((2, 1, 0, 0, 2), True)
    result = await imported(store, replace(order, again=True))
    assert (counts(result), result.repeated) == ((0, 0, 3, 0, 2), False)
    assert await exported(store) == before


async def test_an_import_is_no_event(store: Store, order: transfer.ImportOrder) -> None:
    """What is on the list keeps its count and its cause; it becomes as old, as new and as lasting as the file says."""
    event = SuppressingEvent("jane@example.org", Reason.HARD_BOUNCE, "e1", AT, "41", b"{}")
    await store.record([event, replace(event, event_id="e2", event_at=AT + 5)], actor="worker")
    await store.add("joe@example.org", actor="me", note="", expires_at=NOW + 60)
    write(order, f"JANE@example.org,bounce,{AT + 9}", f"joe@example.org,manual,{AT}")
    assert counts(await imported(store, order)) == (0, 2, 0, 0, 0)
    (entry,) = await store.check("jane@example.org")
    assert (entry.count, entry.first_event_at, entry.last_event_at) == (2, AT, AT + 9)
    assert (entry.original, entry.message_id, entry.evidence) == ("jane@example.org", "41", b"{}")
    (entry,) = await store.check("joe@example.org")
    assert (entry.first_event_at, entry.expires_at) == (AT, None)


async def test_an_export_makes_the_same_list_again(
    store: Store, database_url: str, order: transfer.ImportOrder, tmp_path: Path
) -> None:
    """Export, import into an empty list, export: the same bytes, as CSV and as JSON lines."""
    for number, address in enumerate(
        ('"a, b"@example.org', "=2*3@example.org", "J <Ää@exämple.org>", "'+x@x.org")
    ):
        event = SuppressingEvent(address, Reason.HARD_BOUNCE, f"e{number}", AT + number, "=41", b'+"\n\xff')
        await store.record([event, replace(event, event_id=f"f{number}")], actor="worker")
        await store.add(address, actor="me", note="", expires_at=NOW + 60 * number if number else None)
    whole: tuple[tuple[Format, bytes], ...] = (
        ("csv", await exported(store)),
        ("ndjson", await exported(store, "ndjson")),
    )
    for form, before in whole:
        await stores.execute(database_url, "DELETE FROM suppressions", "DELETE FROM changes")
        file = tmp_path / f"list.{form}"
        file.write_bytes(before)
        result = await imported(store, replace(order, path=str(file)))
        assert (result.source, counts(result)) == ("bridge", (8, 0, 0, 0, 0))
        assert await exported(store, form) == before


async def test_an_interrupted_import_goes_on_where_it_was(
    store: Store, database_url: str, order: transfer.ImportOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is repeated, each row counts once, and rejected rows are all named: as after one clean import."""
    monkeypatch.setattr(Imports, "batch_size", 4)
    write(
        order, *(f"{number % 7}@x{number}.org,bounce,{AT + number}" for number in range(15)), "nobody,bounce,"
    )

    def broken(done: int, _: int) -> None:
        if done > 4:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            await transfer.import_into(store, order, broken)
    result = await imported(store, order)
    assert (result.resumed_at, counts(result)) == (12, (15, 0, 0, 0, 1))
    assert [one.line for one in result.rejections] == [17]
    assert len(await stores.query(database_url, "SELECT 1 FROM changes")) == 15
    interrupted = await exported(store)
    await stores.execute(database_url, "DELETE FROM suppressions", "DELETE FROM imports")
    await imported(store, order)
    strip = [line.rsplit(b",", 4)[0] for line in interrupted.splitlines()]
    assert [line.rsplit(b",", 4)[0] for line in (await exported(store)).splitlines()] == strip


async def test_an_old_row_does_not_put_back_what_a_person_took_off(
    store: Store, database_url: str, order: transfer.ImportOrder
) -> None:
    """Whoever had added it; a newer row does. One that has ended is not put on the list either."""
    for name in ("old", "new", "manual"):
        await store.add(f"{name}@x.org", actor="me", note="")
        await store.remove(f"{name}@x.org", reason=None, actor="me", note="")
    write(
        order,
        f"old@x.org,bounce,{NOW},",
        f"new@x.org,bounce,{NOW + 1},",
        f"manual@x.org,manual,{AT},",
        f"ended@x.org,bounce,{AT},{NOW}",
        f"ends@x.org,bounce,{AT},{NOW + 1}",
        header="address,reason,created_at,expires_at",
    )
    result = await imported(store, order)
    assert counts(result) == (2, 0, 0, 3, 0)
    on_list = await stores.query(database_url, "SELECT address FROM suppressions ORDER BY address")
    assert [row[0] for row in on_list] == ["ends@x.org", "new@x.org"]


async def test_what_has_ended_makes_room_for_a_new_entry(
    store: Store, order: transfer.ImportOrder, clock: Clock
) -> None:
    """The log says both; a row without an end ends as the policy has it."""
    await store.add("a@x.org", actor="me", note="", expires_at=NOW + 1)
    await store.add("b@x.org", reason=Reason.SOFT_BOUNCE, actor="me", note="", expires_at=NOW + 99)
    clock.now += 9
    write(order, f"a@x.org,manual,{NOW + 5}", f"b@x.org,soft_bounce,{NOW + 5}")

    def end_of(reason: Reason, at: int) -> int | None:
        return at + 120 if reason is Reason.SOFT_BOUNCE else None

    order = replace(order, end_of=end_of)
    planned = await imported(store, replace(order, dry_run=True))
    assert counts(planned) == counts(await imported(store, order)) == (1, 1, 0, 0, 0)
    (entry,) = await store.check("a@x.org")
    assert (entry.first_event_at, entry.count, entry.expires_at) == (NOW + 5, 1, None)
    assert [change.action for change in await store.history("a@x.org")] == ["added", "expired", "added"]
    (entry,) = await store.check("b@x.org")
    assert entry.expires_at == NOW + 125


async def test_a_dry_run_says_what_then_happens(
    store: Store, database_url: str, order: transfer.ImportOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And changes nothing: the file counts as not imported."""
    monkeypatch.setattr(Imports, "batch_size", 2)
    await store.add("c@x.org", actor="me", note="", reason=Reason.HARD_BOUNCE)
    await store.add("d@x.org", actor="me", note="")
    await store.remove("d@x.org", reason=None, actor="me", note="")
    rows = [f"{name}@x.org,bounce,{at}" for name in "abcd" for at in (AT, AT + 1, AT)]
    write(order, *rows, "nobody,bounce,")
    before = await exported(store)
    planned = await imported(store, replace(order, dry_run=True))
    assert await exported(store) == before
    assert await stores.query(database_url, "SELECT * FROM imports") == []
    done = await imported(store, order)
    assert planned.state == done.state
    assert counts(done) == (2, 3, 4, 3, 1)


async def test_each_change_is_published_unless_that_is_not_wanted(
    store: Store, order: transfer.ImportOrder
) -> None:
    """With the reasons that are in force after it; in the log it is in either case."""
    await store.allow_list.put("allowed@x.org", actor="me", note="")
    write(order, f"a@x.org,bounce,{AT}", f"a@x.org,complaint,{AT}", f"allowed@x.org,bounce,{AT}")
    await imported(store, order)
    pending = [change for change in await store.outbox.pending(9) if change.action == "added"]
    assert [(one.address, one.reason, one.reasons) for one in pending] == [
        ("a@x.org", Reason.COMPLAINT, (Reason.COMPLAINT,)),
        ("a@x.org", Reason.HARD_BOUNCE, (Reason.COMPLAINT, Reason.HARD_BOUNCE)),
        ("allowed@x.org", Reason.HARD_BOUNCE, ()),
    ]
    assert {(one.actor, one.note, one.event_id) for one in pending} == {("me", "import of list.csv", None)}
    await store.outbox.mark_published([change.id for change in await store.outbox.pending(9)])
    write(order, f"b@x.org,bounce,{AT}")
    await imported(store, replace(order, manner=replace(MANNER, publish=False)))
    assert await store.outbox.pending(9) == []
    assert [one.action for one in await store.history("b@x.org")] == ["added"]


async def test_a_list_of_hashes_keeps_no_address_of_a_file(
    database_url: str, order: transfer.ImportOrder, tmp_path: Path
) -> None:
    """And its own export, with the hashes, makes the same list again."""
    keys = KeyedAddresses([PrivacyKey("k1", b"0123456789abcdef0123456789abcdef")], hashes=True)
    write(order, f"jane@example.org,bounce,{AT}")
    async with Store.open(database_url, clock=Clock(NOW), keys=keys) as store:
        assert counts(await imported(store, order)) == (1, 0, 0, 0, 0)
        (entry,) = await store.check("Jane@example.org")
        assert entry.address.startswith("hmac-sha256:k1:")
        before = await exported(store)
        assert b"jane" not in before
        await stores.execute(database_url, "DELETE FROM suppressions", "DELETE FROM changes")
        (tmp_path / "own.csv").write_bytes(before)
        own = replace(order, path=str(tmp_path / "own.csv"))
        assert counts(await imported(store, own)) == (1, 0, 0, 0, 0)
        assert await exported(store) == before


async def test_two_processes_do_not_import_a_file_at_once(store: Store) -> None:
    """The second one is told; what the first has done stays done once."""
    row = ImportedRow("a@x.org", "manual", "a@x.org", AT, AT)
    state = await store.imports.begin("f")
    assert (await store.imports.put("f", state, [row], MANNER)).added == 1
    with pytest.raises(ImportInProgressError, match="another process"):
        await store.imports.put("f", state, [row], MANNER)
    assert await store.imports.known("f") == ImportState(done=1, added=1)
    await store.imports.finish("f", rejected=2)
    assert await store.imports.begin("f") == ImportState(1, 1, 0, 0, 0, 2, finished=True)
    assert await store.imports.begin("f", again=True) == ImportState()
