"""What has grown old is deleted, in small transactions; what is younger stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bridge.diagnostics import database_checks
from bridge.settings.list_sections import Retention
from bridge.settings.loading import load_settings
from bridge.suppression.errors import LogTooShortError
from bridge.suppression.policy import Reason
from bridge.suppression.retention import DAY, TABLES, limits_of, repeats_count_again
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from bridge.tasks import background_task
from bridge.telemetry.metrics import Metrics
from bridge.worker.dependencies import Dependency
from bridge.worker.pruner import Pruner
from tests.support import stores
from tests.support.clock import Clock
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.suppression.retention import Limit, Step

NOW = 1_700_000_000
EACH = 7
"""How many old rows there are of each kind: more than one transaction deletes."""
AT_ONCE = 3


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
async def store(database_url: str, clock: Clock) -> AsyncIterator[Store]:
    async with Store.open(database_url, clock=clock) as opened:
        yield opened


def event(event_id: str, reason: Reason = Reason.HARD_BOUNCE) -> SuppressingEvent:
    return SuppressingEvent(f"{event_id}@example.org", reason, event_id, NOW, f"m-{event_id}", b"raw event")


async def prune(store: Store, **days: float | None) -> dict[str, list[int]]:
    """Delete all that is older than so many days, and nothing else. Returns the sizes of the transactions for each kind."""
    settings = Retention(
        **{f"{name}_days": None for name in ("handled_events", "known_messages", "evidence", "changes")}
        | {f"{name}_days": value for name, value in days.items()}
    )
    sizes: dict[str, list[int]] = {}
    for limit in limits_of(settings, soft_bounce_seconds=30 * DAY):
        for step in await steps_of(store, limit):
            if step.rows:
                sizes.setdefault(limit.name, []).append(step.rows)
    return sizes


async def steps_of(store: Store, limit: Limit) -> list[Step]:
    """What the transactions have done, until there is nothing more to delete."""
    steps = [await store.retention.delete_some(limit, AT_ONCE)]
    while steps[-1].more:
        steps.append(await store.retention.delete_some(limit, AT_ONCE, steps[-1].behind))
    return steps


async def publish_all(store: Store) -> None:
    """As the relay does."""
    changes = await store.outbox.pending(1000)
    await store.outbox.mark_published([change.id for change in changes])


async def test_events_and_messages_are_forgotten_when_they_are_old(
    store: Store, database_url: str, clock: Clock
) -> None:
    """The old ones, a few in each transaction; the entries stay, and a repeat within the time counts once."""
    clock.now = NOW - 100 * DAY
    await store.record([event(f"old{number}") for number in range(EACH)], actor="worker")
    await store.remember({f"old{number}": "jane@example.org" for number in range(EACH)})
    clock.now = NOW - 80 * DAY
    await store.record([event("young")], actor="worker")
    await store.remember({"young": "jane@example.org", "old0": "jane@example.org"})
    clock.now = NOW
    assert await prune(store, handled_events=90, known_messages=90) == {
        "handled_events": [3, 3, 1],
        "known_messages": [3, 3],
    }
    assert await stores.query(database_url, "SELECT event_id FROM handled_events") == [("young",)]
    assert (await store.known_addresses(["old0", "old1", "young"])).keys() == {"old0", "young"}
    assert len(await store.entries(limit=100)) == EACH + 1
    (repeated,) = await store.record([event("young")], actor="worker")
    assert repeated.outcome == "repeated"


async def test_evidence_goes_and_what_it_proves_stays(store: Store, clock: Clock) -> None:
    """Of old changes, and of the entries that they have made; not of an old entry's younger change."""
    clock.now = NOW - 500 * DAY
    await store.record([event(f"old{number}") for number in range(EACH)], actor="worker")
    clock.now = NOW - 300 * DAY
    later = SuppressingEvent("old0@example.org", Reason.HARD_BOUNCE, "e2", NOW, "m-2", b"another event")
    await store.record([later, event("young")], actor="worker")
    clock.now = NOW
    assert await prune(store, evidence=400) == {"evidence": [3, 3, 1]}
    assert {entry.address: entry.evidence for entry in await store.entries(limit=100)} == {
        "young@example.org": b"raw event"
    } | {f"old{number}@example.org": None for number in range(EACH)}
    history = await store.history("old0@example.org")
    assert [(change.event_id, change.evidence) for change in history] == [
        ("old0", None),
        ("e2", b"another event"),
    ]
    assert await prune(store, evidence=400) == {}
    clock.now = NOW + 200 * DAY
    assert await prune(store, evidence=400) == {"evidence": [2]}
    assert [change.evidence for change in await store.history("young@example.org")] == [None]


async def test_only_published_changes_are_deleted(store: Store, clock: Clock) -> None:
    """What is still due survives, however old it is; and it is known since when the log is complete."""
    assert await store.retention.changes_deleted_until() is None
    clock.now = NOW - 800 * DAY
    for number in range(EACH):
        await store.add(f"old{number}@example.org", actor="ann", note="")
        await store.remove(f"old{number}@example.org", reason=None, actor="ann", note="")
    await publish_all(store)
    clock.now = NOW - 790 * DAY
    await store.add("unpublished@example.org", actor="ann", note="")
    await store.remove("unpublished@example.org", reason=None, actor="ann", note="")
    clock.now = NOW
    assert (await prune(store, changes=730))["changes"] == [3, 3, 3, 3, 2]
    assert [len(await store.history(f"old{number}@example.org")) for number in range(EACH)] == [0] * EACH
    assert [change.action for change in await store.outbox.pending(10)] == ["added", "removed"]
    assert await store.retention.changes_deleted_until() == NOW - 800 * DAY
    await publish_all(store)
    assert (await prune(store, changes=730))["changes"] == [2]
    assert await store.history("unpublished@example.org") == []


async def test_the_log_tells_of_each_later_time_what_was_on_the_list(store: Store, clock: Clock) -> None:
    """The last change of an entry stays until there is another one that is old, too."""
    for days in (900, 850, 800):
        clock.now = NOW - days * DAY
        await store.add("jane@example.org", actor="ann", note=str(days))
    clock.now = NOW - 100 * DAY
    await store.remove("jane@example.org", reason=None, actor="ann", note="")
    clock.now = NOW
    await publish_all(store)
    assert sum((await prune(store, changes=730))["changes"]) == 3
    assert [change.note for change in await store.history("jane@example.org")] == ["800", ""]
    assert (await store.suppressed_at("jane@example.org", NOW - 200 * DAY)).reasons == (Reason.MANUAL,)
    assert (await store.suppressed_at("jane@example.org", NOW - 50 * DAY)).reasons == ()
    with pytest.raises(LogTooShortError, match=r"2021-09-05.*retention\.changes_days"):
        await store.suppressed_at("jane@example.org", NOW - 820 * DAY)
    clock.now = NOW + 700 * DAY
    assert sum((await prune(store, changes=730))["changes"]) == 1
    assert await store.history("jane@example.org") == []


async def test_evidence_goes_no_later_than_the_change_by_which_it_is_found(
    store: Store, clock: Clock
) -> None:
    """Where changes are kept for a shorter time, an entry's evidence is, too."""
    clock.now = NOW - 100 * DAY
    await store.record([event("old")], actor="worker")
    await publish_all(store)
    clock.now = NOW
    assert await prune(store, evidence=400, changes=50) == {"evidence": [1], "changes": [1]}
    assert [entry.evidence for entry in await store.check("old@example.org")] == [None]
    assert [change.evidence for change in await store.history("old@example.org")] == [None]


async def test_by_default_changes_and_entries_are_kept_for_good(store: Store, clock: Clock) -> None:
    """After ten years nothing but the helpers' tables and the evidence is gone."""
    clock.now = NOW - 3650 * DAY
    await store.record([event("old")], actor="worker")
    await publish_all(store)
    clock.now = NOW
    assert [limit.name for limit in limits_of(Retention(), soft_bounce_seconds=None)] == [
        "handled_events", "known_messages", "evidence", "evidence of soft bounces", "idempotent_requests", "imports",
    ]  # fmt: skip
    await prune(store, handled_events=90, known_messages=90, evidence=400)
    assert len(await store.history("old@example.org")) == 1
    assert len(await store.check("old@example.org")) == 1


async def test_what_follows_from_the_policy_is_deleted_when_it_has_no_effect(
    store: Store, database_url: str
) -> None:
    """Soft bounces of an address that has had none for so long, and the deliveries of which none is left."""
    old, young = NOW - 31 * DAY, NOW - 29 * DAY
    bounces = [("a", old), ("b", old), ("b", young), *(("c", old - number) for number in range(3))]
    values = ", ".join(f"('{who}', 'e{number}', 'm', {at})" for number, (who, at) in enumerate(bounces))
    await stores.execute(
        database_url,
        f"INSERT INTO soft_bounces (address, event_id, message_id, at) VALUES {values}",  # noqa: S608 -- a test's own
        f"INSERT INTO deliveries VALUES ('a', {old}), ('b', {old}), ('d', {old}), ('e', {young})",  # noqa: S608 -- a test's own
        "INSERT INTO idempotent_requests (key, fingerprint, answer, made_at) VALUES "  # noqa: S608 -- a test's own
        f"('old', 'f', '', {NOW - 3 * DAY}), ('young', 'f', '', {NOW - DAY})",
        "INSERT INTO imports VALUES "  # noqa: S608 -- a test's own
        f"('ended', 1, 1, 1, 0, 0, 0, 1, 1, {NOW - 40 * DAY}), ('lately', 1, 1, 1, 0, 0, 0, 1, 1, {NOW}), "
        "('never', 1, 1, 1, 0, 0, 0, 1, 1, NULL)",
    )
    assert await prune(store) == {
        "soft_bounces": [3, 1], "deliveries": [2], "idempotent_requests": [1], "imports": [1],
    }  # fmt: skip
    assert await stores.query(database_url, "SELECT DISTINCT address FROM soft_bounces") == [("b",)]
    assert await stores.query(database_url, "SELECT address FROM deliveries ORDER BY 1") == [("b",), ("e",)]
    assert await stores.query(database_url, "SELECT fingerprint FROM imports ORDER BY 1") == [
        ("lately",),
        ("never",),
    ]


async def test_no_transaction_goes_through_all_that_stays(store: Store, database_url: str) -> None:
    """However much is old and must stay, each looks at a few rows, and finds what can go behind it. Several rows have one time."""
    old, young, kept = NOW - 450 * DAY, NOW - DAY, range(5 * AT_ONCE)
    bounces = ", ".join(
        f"('r{number}', '{at}', 'm', {at}, {evidence})"
        for number in kept
        for at, evidence in ((old + number // 2, "NULL"), (young, "'young'"))
    )
    deliveries = ", ".join(f"('r{number}', {old + number // 2})" for number in kept)
    await stores.execute(
        database_url,
        "INSERT INTO soft_bounces (address, event_id, message_id, at, evidence) VALUES "  # noqa: S608 -- a test's own
        f"{bounces}, ('r0', 'late', 'm', {NOW - 440 * DAY}, 'old'), ('gone', 'late', 'm', {NOW - 430 * DAY}, 'old')",
        f"INSERT INTO deliveries VALUES {deliveries}, ('gone', {NOW - 430 * DAY})",  # noqa: S608 -- a test's own
    )
    limits = {limit.name: limit for limit in limits_of(Retention(), soft_bounce_seconds=30 * DAY)}
    changed = {}
    for name in ("evidence of soft bounces", "soft_bounces", "deliveries"):
        steps = await steps_of(store, limits[name])
        assert max(step.seen for step in steps) == AT_ONCE
        changed[name] = sum(step.rows for step in steps)
    assert changed == {"evidence of soft bounces": 2, "soft_bounces": 1, "deliveries": 1}
    assert await stores.query(
        database_url, "SELECT count(*), count(evidence) FROM soft_bounces WHERE address <> 'gone'"
    ) == [(2 * len(kept) + 1, len(kept))]
    assert await stores.query(database_url, "SELECT count(*) FROM deliveries") == [(len(kept),)]


async def test_the_rows_of_the_tables_that_grow_are_counted(store: Store) -> None:
    """For the metrics."""
    await store.record([event("one"), event("two")], actor="worker")
    assert await store.retention.count_rows() == dict.fromkeys((table.name for table in TABLES), 0) | {
        "suppressions": 2, "changes": 2, "handled_events": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("days", "age", "again"),
    [(90, "7D", False), (6, "7D", True), (None, "1Y", False), (0.5, "12h", False), (30, "1M", True)],
)
def test_it_is_said_when_a_replay_would_count_events_again(
    days: float | None, age: str, *, again: bool
) -> None:
    """Where they are forgotten while the archive still has them."""
    problem = repeats_count_again(Retention(handled_events_days=days), age)
    assert (problem is not None) == again
    assert problem is None or "retention.handled_events_days" in problem


async def test_one_worker_at_a_time_deletes_and_shows_it(
    store: Store, database_url: str, clock: Clock
) -> None:
    """All that is old, in as many transactions as it takes; the metrics say how much, and how much is left."""
    clock.now = NOW - 100 * DAY
    await store.remember({f"old{number}": "jane@example.org" for number in range(250)})
    clock.now = NOW
    await store.remember({"young": "jane@example.org"})
    metrics = Metrics()
    database = Dependency("database", failure_limit=1, max_pause=1.0, metrics=metrics)
    limits = limits_of(Retention(), soft_bounce_seconds=30 * DAY)
    pruner = Pruner(store.retention, store.hashing, limits, database=database, metrics=metrics)
    async with background_task(pruner.run(), name="pruner"):
        await eventually(lambda: b'bridge_table_rows{table="known_messages"} 1.0' in metrics.exposition())
    assert b'bridge_pruned_rows_total{what="known_messages"} 250.0' in metrics.exposition()
    assert (await store.known_addresses(["old1", "young"])).keys() == {"young"}
    async with Store.open(database_url) as other:
        assert not await other.retention.lease.try_acquire()


async def test_doctor_says_when_a_replay_would_count_events_again(tmp_path: Path) -> None:
    """As a warning, with what to raise."""
    url = f"sqlite+aiosqlite:///{tmp_path}/list.sqlite3"
    async with Store.open(url):
        pass
    sections: dict[str, dict[str, Any]] = {
        "suppression": {"database_url": url},
        "retention": {"handled_events_days": 1},
    }
    found = await database_checks.database("database", load_settings(overrides=sections))
    assert (found.status, found.advice) == ("warning", "raise retention.handled_events_days")
    assert "rabbitmq.archive_max_age (7D)" in found.seen
