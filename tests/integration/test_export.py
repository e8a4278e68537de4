"""The list as a file, from either database."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import pytest

from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from bridge.suppression.transfer import exporting
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.suppression.transfer.exporting import Format

NOW = 1_700_000_000


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with Store.open(database_url, clock=Clock(NOW)) as opened:
        yield opened


async def exported(store: Store, form: Format, *, evidence: bool = False) -> bytes:
    return b"".join([chunk async for chunk in store.exports.chunks(form, evidence=evidence)])


async def test_an_export_has_all_of_each_entry_in_force(store: Store) -> None:
    """As CSV and as JSON lines; the evidence only where it is asked for; what has ended is not on the list any more."""
    event = SuppressingEvent("Jane@Example.org", Reason.HARD_BOUNCE, "e1", 1_539_062_173, "41", b'{"a":1}')
    await store.record([event], actor="worker")
    await store.add("joe@example.org", actor="me", note="", expires_at=NOW + 60)
    await store.add("gone@example.org", actor="me", note="", expires_at=NOW)
    assert (await exported(store, "csv")).decode() == (
        "address,reason,original,first_event_at,last_event_at,count,message_id,created_at,updated_at,expires_at\r\n"
        "jane@example.org,hard_bounce,Jane@Example.org,2018-10-09T05:16:13Z,2018-10-09T05:16:13Z,1,41,"
        "2023-11-14T22:13:20Z,2023-11-14T22:13:20Z,\r\n"
        "joe@example.org,manual,joe@example.org,2023-11-14T22:13:20Z,2023-11-14T22:13:20Z,1,,"
        "2023-11-14T22:13:20Z,2023-11-14T22:13:20Z,2023-11-14T22:14:20Z\r\n"
    )
    jane, joe = map(json.loads, (await exported(store, "ndjson", evidence=True)).splitlines())
    assert (jane["address"], jane["expires_at"], jane["evidence"]) == (
        "jane@example.org",
        None,
        "eyJhIjoxfQ==",
    )
    assert (joe["message_id"], joe["expires_at"], joe["evidence"]) == (None, "2023-11-14T22:14:20Z", None)


async def test_a_long_list_is_written_page_by_page(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each entry once, in order; an address with two reasons may stand on two pages."""
    monkeypatch.setattr(exporting, "_PAGE", 2)
    for number in range(5):
        for reason in (Reason.MANUAL, Reason.COMPLAINT):
            await store.add(f"{number}@example.org", reason=reason, actor="me", note="")
    pages = [chunk async for chunk in store.exports.chunks("csv")]
    assert len(pages) == 6
    rows = list(csv.DictReader(io.StringIO(b"".join(pages).decode(), newline="")))
    keys = [(row["address"], row["reason"]) for row in rows]
    assert keys == [
        (f"{number}@example.org", reason) for number in range(5) for reason in ("complaint", "manual")
    ]


async def test_a_cell_that_looks_like_a_formula_is_escaped(store: Store) -> None:
    """In CSV, which spreadsheets open; JSON has the address as it is."""
    await store.add("=cmd|' /C calc'!A0@example.org".replace(" ", ""), actor="me", note="")
    (row,) = csv.reader((await exported(store, "csv")).decode().splitlines()[1:])
    assert row[0] == row[2].lower() == "'=cmd|'/c calc'!a0@example.org".replace(" ", "")
    assert json.loads(await exported(store, "ndjson"))["address"].startswith("=cmd")
