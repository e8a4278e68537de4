"""PostgreSQL fails in all its ways under a worker: it pauses and goes on, nothing is lost, nothing is counted twice."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from bridge.suppression import model
from tests.support import postgres
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.postgres import Databases, Server
from tests.support.proxy import Proxy
from tests.support.working import bounced, bounces, changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from tests.support.processes import Process, Processes
    from tests.support.working import Workplace

    Fault = Callable[[Server, str], Awaitable[None]]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """One of this test's own, to be broken."""
    async with Server.running() as running:
        yield running


@pytest.fixture
async def url(server: Server) -> str:
    return await Databases(server.url()).fresh()


@pytest.fixture
def overrides(overrides: dict[str, dict[str, Any]], url: str) -> dict[str, dict[str, Any]]:
    """With small batches, so that a fault falls between two of them, or into one."""
    return changed(
        overrides,
        suppression={"database_url": url},
        worker={"batch_size": 5, "prefetch": 20, "linger": 0.005},
    )


async def _restart_fast(server: Server, _: str) -> None:
    await server.stop(signal.SIGINT)
    await server.start()


async def _restart_immediate(server: Server, _: str) -> None:
    await server.stop(signal.SIGQUIT)
    await server.start()


async def _terminate(_: Server, url: str) -> None:
    for _number in range(5):
        await postgres.query(
            url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'bridge' AND datname = current_database()",
        )


@pytest.mark.parametrize("fault", [_restart_fast, _restart_immediate, _terminate])
async def test_a_fault_in_the_middle_of_the_work_costs_nothing(
    fault: Fault,
    server: Server,
    url: str,
    processes: Processes,
    overrides: dict[str, Any],
    workplace: Workplace,
) -> None:
    """Three times in the middle of 300 events: each is on the list once, told of, acknowledged, and none is dead."""
    workers = [await _started(processes, overrides) for _ in range(2)]
    async with asyncio.TaskGroup() as both:
        both.create_task(workplace.send(*bounces(range(1, 301))))
        for number in (30, 100, 170):
            await workplace.changes(number)
            await fault(server, url)
        await workplace.changes(300)
    await _all_is_there(workers, workplace, 300)


async def test_a_server_that_is_stopped_for_a_while_is_waited_for(
    server: Server, processes: Processes, overrides: dict[str, Any], workplace: Workplace
) -> None:
    """SIGSTOP: nobody answers, nothing is closed; when it runs again, so does the work."""
    worker = await _started(processes, overrides)
    await workplace.send(*bounces(range(1, 11)))
    await workplace.changes(10)
    server.pause()
    await workplace.send(*bounces(range(11, 31)))
    await worker.says("worker.pause", dependency="database")
    server.resume()
    await workplace.changes(30)
    await _all_is_there([worker], workplace, 30)


async def test_a_server_behind_a_black_hole_is_waited_for_and_holds_up_no_stop(
    url: str, processes: Processes, overrides: dict[str, Any], workplace: Workplace
) -> None:
    """Packets vanish: the worker says that it waits, and on SIGTERM requeues what is unacknowledged."""
    async with Proxy.serve(url) as proxy:
        through = changed(
            overrides, suppression={"database_url": proxy.url(url)}, worker={"drain_timeout": 0.5}
        )
        worker = await _started(processes, through)
        await workplace.send(*bounces(range(1, 11)))
        await workplace.changes(10)
        proxy.pause()
        await workplace.send(*bounces(range(11, 31)))
        said = await worker.says("worker.pause", dependency="database")
        assert "it does not answer" in said["error"]
        worker.send(signal.SIGTERM)
        assert await worker.ended() == 0
    another = await _started(processes, overrides)
    await workplace.changes(30)
    await _all_is_there([another], workplace, 30)


async def test_a_stopped_server_is_not_waited_for_by_each_part_of_a_worker_that_stops(
    server: Server, processes: Processes, overrides: dict[str, Any], workplace: Workplace
) -> None:
    """Docker kills after 10 s: what is in flight has its time, and all that must be closed has a moment together."""
    worker = await _started(processes, changed(overrides, worker={"drain_timeout": 0.5}))
    await workplace.send(*bounces(range(1, 11)))
    await workplace.changes(10)
    server.pause()
    await workplace.send(*bounces(range(11, 31)))
    worker.send(signal.SIGTERM)
    try:
        assert await worker.ended() == 0
    finally:
        server.resume()
    queue = workplace.names.suppression
    finished, stopped = [
        datetime.fromisoformat(said["timestamp"])
        for said in (
            await worker.says("worker.stopped_consuming", queue=queue),
            await worker.says("worker.stopped"),
        )
    ]
    assert (stopped - finished).total_seconds() < 5, "of the ten, the drain has five"
    assert await workplace.left(at_least=20) == bounces(range(11, 31))


async def test_a_server_that_has_become_read_only_is_waited_for(
    server: Server, url: str, processes: Processes, overrides: dict[str, Any], workplace: Workplace
) -> None:
    """As a primary is that has lost its place to another: what comes waits until it may be written."""
    worker = await _started(processes, overrides)
    await workplace.send(*bounces(range(1, 11)))
    await workplace.changes(10)
    await _read_only(server, url, "on")
    await workplace.send(*bounces(range(11, 31)))
    await _pauses_as(worker, "read-only")
    await _read_only(server, url, "off")
    await workplace.changes(30)
    await _all_is_there([worker], workplace, 30)


async def test_settings_of_a_session_do_not_outlive_their_cause(
    server: Server, url: str, processes: Processes, overrides: dict[str, Any], workplace: Workplace
) -> None:
    """What ALTER DATABASE sets holds for sessions that are opened later, and for their whole life: they are replaced."""
    worker = await _started(processes, overrides)
    await workplace.send(*bounces(range(1, 11)))
    await workplace.changes(10)
    database = url.rpartition("/")[2]
    sent = 10
    for setting, value, refusal in (
        ("default_transaction_read_only", "on", "read-only"),
        ("search_path", "nowhere", "does not exist"),
        ("role", "pg_monitor", "permission denied"),
    ):
        await postgres.execute(server.url(), f"ALTER DATABASE {database} SET {setting} = {value}")
        # From outside: a session of this database would have the setting itself.
        await postgres.query(
            server.url(),
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
            database,
        )
        await workplace.send(*bounces(range(sent + 1, sent + 11)))
        sent += 10
        await _logs(worker, refusal)
        await postgres.execute(server.url(), f"ALTER DATABASE {database} RESET {setting}")
        await workplace.changes(sent)
    await _all_is_there([worker], workplace, sent)


async def _pauses_as(worker: Process, part: str) -> None:
    """Wait until it waits for the database with this in the error: connections in use are lost with other ones before."""
    times = 1
    while part not in (await worker.says("worker.pause", times=times, dependency="database"))["error"]:
        times += 1


async def _logs(worker: Process, part: str) -> None:
    await eventually(lambda: any(part in line for line in worker.lines))


async def test_tables_that_are_dropped_and_restored_are_waited_for(
    url: str, processes: Processes, overrides: dict[str, Any], workplace: Workplace
) -> None:
    """As by `pg_restore --clean`: what comes meanwhile is on the list that stands there afterwards."""
    worker = await _started(processes, overrides)
    await workplace.send(*bounces(range(1, 11)))
    await workplace.changes(10)
    tables = [*model.metadata.tables, "alembic_version"]
    await postgres.execute(
        url,
        "CREATE SCHEMA kept",
        "BEGIN; " + "; ".join(f"ALTER TABLE {table} SET SCHEMA kept" for table in tables) + "; COMMIT",
    )
    await workplace.send(*bounces(range(11, 21)))
    await _pauses_as(worker, "does not exist")
    await postgres.execute(
        url,
        "BEGIN; " + "; ".join(f"ALTER TABLE kept.{table} SET SCHEMA public" for table in tables) + "; COMMIT",
    )
    await workplace.changes(20)
    await _all_is_there([worker], workplace, 20)


async def _read_only(server: Server, url: str, state: str) -> None:
    """For transactions that begin from now on, in connections that are open, too."""
    await postgres.execute(
        server.url(),
        f"ALTER SYSTEM SET default_transaction_read_only = {state}",
        "SELECT pg_reload_conf()",
    )
    await _terminate(server, url)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 24 MiB, where PostgreSQL's user can get at it; and the end of it."""
    if os.getuid() != 0:
        pytest.skip("to make a small file system takes root")
    with tempfile.TemporaryDirectory(prefix="bridge-disk-") as folder:
        postgres.give(Path(folder))
        mount = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0777", "tmpfs", folder]
        made = subprocess.run(mount, check=False, capture_output=True)
        if made.returncode != 0:
            pytest.skip(f"this machine mounts nothing: {made.stderr.decode().strip()}")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


async def test_a_disk_that_is_full_is_waited_for(
    url: str, small_disk: Path, processes: Processes, overrides: dict[str, Any], workplace: Workplace
) -> None:
    """No room for the tables: what comes waits until somebody has made some."""
    worker = await _started(processes, overrides)
    await workplace.send(*bounces(range(1, 11)))
    await workplace.changes(10)
    folder = small_disk / "tables"
    folder.mkdir()
    postgres.give(folder)
    tables = ("suppressions", "changes", "handled_events", "known_messages")
    await postgres.execute(
        url,
        f"CREATE TABLESPACE small LOCATION '{folder}'",
        *(f"ALTER TABLE {table} SET TABLESPACE small" for table in tables),
        "ALTER INDEX pk_suppressions SET TABLESPACE small",
    )
    filling = small_disk / "filling"
    with filling.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError as full:
            assert full.strerror == "No space left on device"  # noqa: PT017 -- that is what the loop is for
    await workplace.send(*bounces(range(11, 1001)))
    await _pauses_as(worker, "No space left on device")
    filling.unlink()
    await workplace.changes(1000)
    await _all_is_there([worker], workplace, 1000)


async def test_too_many_connections_are_waited_for(
    url: str, processes: Processes, overrides: dict[str, Any], workplace: Workplace
) -> None:
    """A role that may have none says so until it may."""
    limited = await _user(url, "CONNECTION LIMIT 0")
    await postgres.execute(url, "GRANT CREATE ON SCHEMA public TO limited")
    worker = await processes.start(
        "worker", overrides=changed(overrides, suppression={"database_url": limited})
    )
    said = await worker.says("worker.pause", dependency="database")
    assert "too many connections" in said["error"]
    await postgres.execute(url, "ALTER ROLE limited CONNECTION LIMIT -1")
    await worker.says("worker.started")
    await workplace.send(*bounces([1]))
    await workplace.changes(1)
    await _all_is_there([worker], workplace, 1)


async def test_a_password_that_changes_meanwhile_is_waited_for(
    server: Server, url: str, processes: Processes, overrides: dict[str, Any], workplace: Workplace
) -> None:
    """Whoever changes it can change it back, or start the workers anew: the work waits, and the log has no password."""
    limited = await _user(url, "")
    await postgres.execute(url, "GRANT CREATE ON SCHEMA public TO limited")
    worker = await _started(processes, changed(overrides, suppression={"database_url": limited}))
    await postgres.execute(url, "ALTER ROLE limited PASSWORD 'another-password'")
    await _terminate(server, url)
    await workplace.send(*bounces(range(1, 11)))
    await _pauses_as(worker, 'password authentication failed for user "limited"')
    await postgres.execute(url, f"ALTER ROLE limited PASSWORD '{postgres.PASSWORD}'")
    await workplace.changes(10)
    await _all_is_there([worker], workplace, 10)
    assert not [line for line in worker.lines if postgres.PASSWORD in line or "Traceback" in line]


@pytest.mark.parametrize("stopping", [signal.SIGTERM, None])
async def test_a_worker_that_starts_before_its_database_waits_for_it(
    stopping: signal.Signals | None,
    server: Server,
    processes: Processes,
    overrides: dict[str, Any],
    workplace: Workplace,
) -> None:
    """It says so in the log and in `/readyz`; it works as soon as the database is there, and ends when told to."""
    await server.stop()
    port = free_port()
    worker = await processes.start("worker", overrides=changed(overrides, health={"port": port}))
    said = await worker.says("worker.pause", times=2, dependency="database")
    assert "cannot be used now" in said["error"]
    async with _health(port) as ask:
        status, body = await ask("/readyz")
        assert status == 503
        assert body["database"]["state"] in {"open", "half-open"}  # it may just be trying again
        assert "cannot be used now" in body["database"]["reason"]
        assert (await ask("/livez"))[0] == 200
        if stopping is None:
            await server.start()
            await worker.says("worker.resume", dependency="database")
            await worker.says("worker.started")
            await workplace.send(*bounces([1]))
            await workplace.changes(1)
            assert (await ask("/readyz"))[0] == 200
    await _stopped([worker])
    assert not [line for line in worker.lines if postgres.PASSWORD in line or "Traceback" in line]


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"password": "wrong"}, 'password authentication failed for user "postgres"'),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
        ({"user": "nobody"}, 'password authentication failed for user "nobody"'),
    ],
)
async def test_a_mistake_in_the_url_ends_the_start_with_one_line(
    wrong: dict[str, str], line: str, server: Server, processes: Processes, overrides: dict[str, Any]
) -> None:
    """It names host, port and database, and what PostgreSQL says; exit code 1, no password, no traceback."""
    url = server.url(**wrong)
    worker = await processes.start("worker", overrides=changed(overrides, suppression={"database_url": url}))
    assert await worker.ended() == 1
    (said,) = worker.failures
    assert line in said
    assert url.rpartition("@")[2] in said
    assert wrong.get("password", postgres.PASSWORD) not in "".join(worker.lines).replace("wrong ", "")


@pytest.mark.parametrize(
    ("grants", "line"),
    [
        ((), "run `bridge db upgrade` as its owner"),
        (
            ("GRANT SELECT ON ALL TABLES IN SCHEMA public TO limited",),
            "may not INSERT on suppressions, UPDATE on suppressions",
        ),
    ],
)
async def test_a_right_that_is_missing_ends_the_start_with_one_line(
    grants: tuple[str, ...],
    line: str,
    url: str,
    processes: Processes,
    overrides: dict[str, Any],
) -> None:
    """Known at the start, not at the first event: who may not migrate, and who may not write."""
    limited = await _user(url, "")
    if grants:
        upgrade = await processes.start("db", "upgrade", overrides=overrides)
        assert await upgrade.ended() == 0
        await postgres.execute(url, *grants)
    worker = await processes.start(
        "worker", overrides=changed(overrides, suppression={"database_url": limited})
    )
    assert await worker.ended() == 1
    (said,) = worker.failures
    assert line in said


async def _user(url: str, options: str) -> str:
    """The URL with a role that owns nothing, but may make tables where the test says so."""
    await postgres.execute(url, f"CREATE ROLE limited LOGIN PASSWORD '{postgres.PASSWORD}' {options}")
    return url.replace(f"{postgres.OWNER}:", "limited:")


async def _started(processes: Processes, overrides: dict[str, Any]) -> Process:
    worker = await processes.start("worker", overrides=overrides)
    await worker.says("worker.started")
    return worker


async def _stopped(workers: list[Process]) -> None:
    for worker in workers:
        worker.send(signal.SIGTERM)
    assert [await worker.ended() for worker in workers] == [0] * len(workers)


async def _all_is_there(workers: list[Process], workplace: Workplace, count: int) -> None:
    """Each of so many bounces is on the list once and acknowledged; there are no dead letters and no half entries."""
    await _stopped(workers)
    assert await workplace.listed() == bounced(range(1, count + 1))
    assert await workplace.left() == []
    assert await workplace.dead() == []


@asynccontextmanager
async def _health(port: int) -> AsyncIterator[Callable[[str], Awaitable[tuple[int, dict[str, Any]]]]]:
    async with aiohttp.ClientSession() as http:

        async def ask(path: str) -> tuple[int, dict[str, Any]]:
            async with asyncio.timeout(90), http.get(f"http://127.0.0.1:{port}{path}") as answer:
                return answer.status, await answer.json()

        yield ask
