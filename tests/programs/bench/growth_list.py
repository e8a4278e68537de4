"""A list of more and more entries, each with its change and its handled event: what is done with it, and what that costs."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bridge.settings.list_sections import Retention
from bridge.suppression.policy import Reason
from bridge.suppression.retention import limits_of
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from tests.programs.bench import lists, usage
from tests.programs.bench.checking import shared_buffers
from tests.programs.bench.growth_curves import Curve, curve
from tests.programs.bench.working import POSTGRESQL, SQLITE
from tests.support import postgres, stores
from tests.support.postgres import Databases, Server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tests.programs.bench.throughput import Say

SIZES: Final = (10_000, 100_000, 1_000_000)
FULL: Final = (*SIZES, 10_000_000)
_PART: Final = "list, entries"
_EVENTS, _BATCHES = 100, 40
"""Events in a transaction, as a worker records them, and transactions."""
_ADDRESSES, _CHECKS = 1_000, 100
_PAGE, _PAGES = 1_000, 20
_CHANGES, _ROUNDS = 200, 20
"""In a batch of the relay, and batches."""
_PRUNED, _PRUNINGS = 500, 8
_AT: Final = 1_700_000_000

_CHANGES_OF_ALL: Final = (
    "INSERT INTO changes (at, action, address, reason, actor, note, event_id, message_id, evidence, reasons) "
    "SELECT created_at, 'added', address, reason, 'worker', '', {id}, message_id, evidence, reason FROM suppressions"
)
_HANDLED_OF_ALL: Final = "INSERT INTO handled_events SELECT event_id, at FROM changes"
_EVENT_ID: Final = {
    "sqlite": "printf('%016x%016x', (rowid * 2654435761) % 4294967296, rowid)",
    "postgresql": "md5(address)",
}


@dataclass(frozen=True, slots=True)
class _Place:
    """A list of some size, and who works for it."""

    store: Store
    size: int
    chance: random.Random
    server_cpu: Callable[[], float]
    """Seconds of PostgreSQL; of SQLite, which works in this process, always 0."""

    async def us(self, units: int, work: Callable[[], Awaitable[None]]) -> float:
        """CPU of this process and of the server, microseconds a unit."""
        await work()  # what is done for the first time is not what is measured
        before, server = time.process_time(), self.server_cpu()
        await work()
        return (time.process_time() - before + self.server_cpu() - server) / units * 1e6


async def measure(*, sizes: Sequence[int], say: Say) -> list[Curve]:
    """Fill lists of these sizes on both stores, and work with each.

    Raises:
        RuntimeError: an answer is wrong.
    """
    taken: dict[tuple[str, str, str], list[tuple[int, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="bridge-bench-") as name:
        async with Server.running(settings=f"shared_buffers = {shared_buffers()}\n") as server:
            databases = Databases(server.url())
            for size in sizes:
                file = Path(name) / f"{size}.sqlite3"
                places = (
                    (SQLITE, f"sqlite+aiosqlite:///{file}", lambda: 0.0),
                    (POSTGRESQL, await databases.fresh(), lambda: usage.of_tree(server.pid).cpu),
                )
                for store, url, server_cpu in places:
                    began = time.perf_counter()
                    await lists.fill(url, size)
                    await _fill_log(url)
                    say(f"{store}: list of {size:,} made in {time.perf_counter() - began:.0f} s")
                    for (what, unit), cost in (await _of_list(url, size, server_cpu)).items():
                        taken[store, what, unit].append((size, cost))
                        say(f"{store}, {size:,}: {what}: {cost:,.1f} {unit}")
                    taken[store, "disk, for each entry", "bytes"].append(
                        (size, await _bytes(url, file) / size)
                    )
                file.unlink()
                await databases.drop(places[1][1])
    return [curve(f"{_PART}, {store}", what, unit, found) for (store, what, unit), found in taken.items()]


async def _of_list(url: str, size: int, server_cpu: Callable[[], float]) -> dict[tuple[str, str], float]:
    chance = random.Random(size)  # noqa: S311 -- the same addresses in each run
    async with Store.open(url, clock=lambda: _AT) as store:
        place = _Place(store, size, chance, server_cpu)
        written = await _written_ahead(url)
        recording = await place.us(_EVENTS * _BATCHES, lambda: _record(place))
        written = await _written_ahead(url) - written
        ahead = {("write ahead, for each event recorded", "bytes"): written / (2 * _EVENTS * _BATCHES)}
        return (ahead if written else {}) | {
            ("record an event", "us"): recording,
            ("check an address, 1,000 at once", "us"): await place.us(
                _ADDRESSES * _CHECKS, lambda: _check(place)
            ),
            ("list an entry, 1,000 on a page", "us"): await place.us(_PAGE * _PAGES, lambda: _list(place)),
            ("read and mark a change to publish", "us"): await place.us(
                _CHANGES * _ROUNDS, lambda: _relay(place)
            ),
            ("delete an old handled event", "us"): await place.us(_PRUNED * _PRUNINGS, lambda: _prune(place)),
        }


async def _record(place: _Place) -> None:
    for _ in range(_BATCHES):
        numbers = place.chance.sample(range(place.size), _EVENTS)
        events = [
            SuppressingEvent(
                lists.address(2 * number + 1), Reason.HARD_BOUNCE, f"{place.chance.getrandbits(128):032x}", _AT,
                str(number), b'{"message":{"id":1},"event":{"name":"hard_bounced","timestamp":1700000000}}',
            )
            for number in numbers
        ]  # fmt: skip
        await place.store.record(events, actor="worker")


async def _check(place: _Place) -> None:
    for _ in range(_CHECKS):
        asked = lists.addresses(_ADDRESSES, place.size, share=0.1, chance=place.chance)
        answers = await place.store.check_many(asked)
        if sum(not answer.allowed for answer in answers) < _ADDRESSES // 10:
            raise RuntimeError("a check did not find all that are on the list")


async def _list(place: _Place) -> None:
    for _ in range(_PAGES):
        behind = lists.address(2 * place.chance.randrange(max(1, place.size - _PAGE)))
        if len(await place.store.entries(limit=_PAGE, after=(behind, "hard_bounce"))) != _PAGE:
            raise RuntimeError("a page has not as many entries as it should have")


async def _relay(place: _Place) -> None:
    outbox = place.store.outbox
    for _ in range(_ROUNDS):
        changes = await outbox.pending(_CHANGES)
        if len(changes) != _CHANGES:
            raise RuntimeError("the outbox has not as many changes as it should have")
        await outbox.mark_published([change.id for change in changes])


async def _prune(place: _Place) -> None:
    limit = next(
        one for one in limits_of(Retention(), soft_bounce_seconds=None) if one.name == "handled_events"
    )
    for _ in range(_PRUNINGS):
        if (step := await place.store.retention.delete_some(limit, _PRUNED)).rows != _PRUNED:
            raise RuntimeError(f"{step.rows} rows were deleted, and not {_PRUNED}")


async def _fill_log(url: str) -> None:
    """As if each entry had come by an event of its own, none of which is published yet."""
    kind = "postgresql" if postgres.is_postgresql(url) else "sqlite"
    await stores.execute(url, _CHANGES_OF_ALL.format(id=_EVENT_ID[kind]), _HANDLED_OF_ALL)
    if kind == "postgresql":
        await stores.execute(url, "VACUUM ANALYZE changes", "VACUUM ANALYZE handled_events", "CHECKPOINT")


async def _written_ahead(url: str) -> int:
    """Bytes that PostgreSQL has written ahead since it was made; of SQLite 0, whose log is not counted."""
    if not postgres.is_postgresql(url):
        return 0
    rows = await stores.query(url, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")
    return int(rows[0][0])


async def _bytes(url: str, file: Path) -> int:
    if not postgres.is_postgresql(url):
        return await asyncio.to_thread(
            lambda: sum(path.stat().st_size for path in file.parent.glob(f"{file.name}*"))
        )
    rows = await stores.query(url, "SELECT pg_database_size(current_database())")
    return int(rows[0][0])
