"""The worker as a real process: killed, stopped and cut off at the worst moments, it loses and repeats nothing."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.proxy import Proxy
from tests.support.working import bounced, bounces, changed, database_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.development.simulator import Simulator
    from bridge.settings.sections import Settings
    from tests.support.processes import Process, Processes
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace


@pytest.fixture
def overrides(overrides: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A database that counts as locked after 0.1 s, not after 5."""
    url = overrides["suppression"]["database_url"]
    return changed(overrides, suppression={"database_url": f"{url}?timeout=0.1"})


async def test_a_locked_database_pauses_the_worker(
    processes: Processes, overrides: dict[str, Any], settings: Settings, workplace: Workplace
) -> None:
    """While another process writes, events wait; afterwards they are on the list, and none is dead."""
    worker = await _started(processes, overrides)
    with _locked(settings):
        await workplace.send(*bounces(range(1, 21)))
        await worker.says("worker.pause", times=3, dependency="database")
        assert await workplace.listed() == {}
    await workplace.changes(20)
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    assert await workplace.listed() == bounced(range(1, 21))
    assert await workplace.left() == []
    assert await workplace.dead() == []


async def test_a_kill_between_delivery_and_commit_leaves_one_entry(
    processes: Processes, overrides: dict[str, Any], settings: Settings, workplace: Workplace
) -> None:
    """The event was delivered and could not be written when the worker was killed; the next one writes it once."""
    killed = await _started(processes, overrides)
    with _locked(settings):
        await workplace.send(*bounces([1]))
        await killed.says("worker.pause", dependency="database")
        killed.send(signal.SIGKILL)
        assert await killed.ended() == -signal.SIGKILL
    await _started(processes, overrides)
    await workplace.changes(1)
    assert await workplace.listed() == bounced([1])


async def test_a_kill_between_commit_and_acknowledgement_leaves_one_entry(
    processes: Processes, overrides: dict[str, Any], amqp_url: str, workplace: Workplace
) -> None:
    """The acknowledgement never reached RabbitMQ: the event comes again, and changes nothing."""
    async with Proxy.serve(amqp_url) as proxy:
        through = changed(overrides, rabbitmq={"urls": [proxy.url(amqp_url)]})
        killed = await _started(processes, through)
        proxy.to_server.pause()
        await workplace.send(*bounces([1]))
        await killed.says("suppression.added")
        killed.send(signal.SIGKILL)
        await killed.ended()
        proxy.cut()
    next_one = await _started(processes, overrides)
    await next_one.says("suppression.repeated")
    await workplace.changes(1)
    assert await workplace.listed() == bounced([1])


async def test_a_lost_connection_between_commit_and_acknowledgement_leaves_one_entry(
    processes: Processes, overrides: dict[str, Any], amqp_url: str, workplace: Workplace
) -> None:
    """The same without a kill: the worker connects again, gets the event again, and acknowledges it."""
    async with Proxy.serve(amqp_url) as proxy:
        worker = await _started(processes, changed(overrides, rabbitmq={"urls": [proxy.url(amqp_url)]}))
        proxy.to_server.pause()
        await workplace.send(*bounces([1]))
        await worker.says("suppression.added")
        proxy.cut()
        proxy.to_server.resume()
        await worker.says("suppression.repeated")
        await workplace.changes(1)
        worker.send(signal.SIGTERM)
        assert await worker.ended() == 0
    assert await workplace.listed() == bounced([1])
    assert await workplace.left() == []


async def test_kills_at_any_moment_leave_each_event_once(
    processes: Processes, overrides: dict[str, Any], workplace: Workplace
) -> None:
    """Two workers killed in the middle of 300 events: at the end each is on the list with count 1."""
    overrides = changed(overrides, worker={"batch_size": 10, "prefetch": 50})
    await workplace.send(*bounces(range(1, 301)))
    for killed_after in (1, 100):
        worker = await _started(processes, overrides)
        await workplace.changes(killed_after)
        worker.send(signal.SIGKILL)
        await worker.ended()
    last = await _started(processes, overrides)
    await workplace.changes(300)
    last.send(signal.SIGTERM)
    assert await last.ended() == 0
    assert await workplace.listed() == bounced(range(1, 301))
    assert await workplace.dead() == []


async def test_sigterm_finishes_what_is_in_flight_and_requeues_the_rest(
    processes: Processes, overrides: dict[str, Any], workplace: Workplace
) -> None:
    """In the middle of 600 events: each is on the list and acknowledged, or in the queue; exit code 0."""
    # Each of five batches may take a slow disk a second or two.
    patient = {"prefetch": 100, "batch_size": 20, "drain_timeout": 20}
    overrides = changed(overrides, worker=patient)
    bodies = bounces(range(1, 601))
    worker = await _started(processes, overrides)
    await workplace.send(*bodies)
    await workplace.changes(1)
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    assert (await worker.says("worker.stopped_consuming", queue=workplace.names.suppression))["requeued"] == 0
    listed, left = await workplace.listed(), await workplace.left()
    assert len(listed) + len(left) == 600
    written = [number for number, body in enumerate(bodies, start=1) if body not in left]
    assert listed == bounced(written)


async def test_sigterm_gives_back_what_cannot_be_finished_in_time(
    processes: Processes, overrides: dict[str, Any], workplace: Workplace, simulator: Simulator
) -> None:
    """Look-ups that are still without an answer after `drain_timeout` go back to the queue, whole."""
    overrides = changed(overrides, worker={"drain_timeout": 0.3}, provider={"attempts": 1})
    simulator.faults.fail = -1
    worker = await _started(processes, overrides)
    await workplace.send(*bounces(range(1, 11)))
    await worker.says("worker.pause", dependency="provider")
    began = time.monotonic()
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    assert time.monotonic() - began < 10, "the drain, and what the process takes to end"
    stopped = await worker.says("worker.stopped_consuming", queue=workplace.names.suppression)
    assert 0 < stopped["requeued"] <= 10, "the last may not have come yet"
    assert await workplace.listed() == {}
    assert sorted(await workplace.left(at_least=10)) == sorted(bounces(range(1, 11)))


async def test_sigterm_ends_a_worker_that_waits_for_the_database(
    processes: Processes, overrides: dict[str, Any], settings: Settings, workplace: Workplace
) -> None:
    """The lock of another process holds up the end no longer than `drain_timeout`; nothing is half-written."""
    worker = await _started(processes, changed(overrides, worker={"drain_timeout": 0.3}))
    with _locked(settings):
        await workplace.send(*bounces(range(1, 11)))
        await worker.says("worker.pause", dependency="database")
        worker.send(signal.SIGTERM)
        assert await worker.ended() == 0
    assert await workplace.listed() == {}
    assert sorted(await workplace.left(at_least=10)) == sorted(bounces(range(1, 11)))


async def test_sigterm_ends_a_worker_that_has_lost_rabbitmq(
    processes: Processes, overrides: dict[str, Any], amqp_url: str, workplace: Workplace
) -> None:
    """Exit code 0 while the broker is away; what was unacknowledged is in the queue or on the list."""
    async with Proxy.serve(amqp_url) as proxy:
        worker = await _started(processes, changed(overrides, rabbitmq={"urls": [proxy.url(amqp_url)]}))
        await workplace.send(*bounces([1]))
        await workplace.changes(1)
        proxy.refuse()
        await worker.says("broker.retry", use="consume")
        await workplace.send(*bounces([2]))
        worker.send(signal.SIGTERM)
        assert await worker.ended() == 0
    assert await workplace.listed() == bounced([1])
    assert bounces([2])[0] in await workplace.left(at_least=1)


async def test_sigterm_ends_a_worker_that_hears_nothing_from_rabbitmq(
    processes: Processes, overrides: dict[str, Any], amqp_url: str, workplace: Workplace
) -> None:
    """In a black hole nothing can be acknowledged: it comes again later, and is not waited for without end."""
    async with Proxy.serve(amqp_url) as proxy:
        urls = [proxy.url(amqp_url)]
        worker = await _started(
            processes,
            changed(
                overrides,
                rabbitmq={"urls": urls},
                worker={"drain_timeout": 0.3},
                receiver={"drain_timeout": 0.3},
            ),
        )
        proxy.to_server.pause()
        await workplace.send(*bounces([1]))
        await worker.says("suppression.added")
        began = time.monotonic()
        worker.send(signal.SIGTERM)
        assert await worker.ended() == 0
        assert time.monotonic() - began < 15
    assert await workplace.listed() == bounced([1])


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_a_worker_that_has_never_reached_rabbitmq(
    signal_number: signal.Signals, processes: Processes, overrides: dict[str, Any]
) -> None:
    """A server that accepts and says nothing does not hold it up: exit code 0, no traceback."""
    connected = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        url = f"amqp://guest:guest@127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        worker = await processes.start(
            "worker", overrides=changed(overrides, rabbitmq={"urls": [url], "connect_timeout": 60})
        )
        async with asyncio.timeout(90):
            await connected.wait()
        worker.send(signal_number)
        assert await worker.ended() == 0
    assert not [line for line in worker.lines if "Traceback" in line]


async def test_a_worker_that_starts_before_rabbitmq_waits_for_it(
    processes: Processes, overrides: dict[str, Any], amqp_url: str, workplace: Workplace
) -> None:
    """It says that it cannot connect, goes on trying, and then does its work."""
    async with Proxy.serve(amqp_url) as proxy:
        proxy.refuse()
        worker = await processes.start(
            "worker", overrides=changed(overrides, rabbitmq={"urls": [proxy.url(amqp_url)]})
        )
        await worker.says("broker.retry", use="consume")
        await workplace.send(*bounces([1]))
        proxy.accept()
        await workplace.changes(1)
        worker.send(signal.SIGTERM)
        assert await worker.ended() == 0


async def test_a_queue_of_other_arguments_ends_the_worker_with_one_line(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """The line names the queue; there is no traceback."""
    async with rabbit.channel() as channel:
        await channel.declare_queue(rabbit.names.suppression, durable=True)
    worker = await processes.start("worker", overrides=overrides)
    assert await worker.ended() == 1
    [line] = worker.failures
    assert rabbit.names.suppression in line


async def _started(processes: Processes, overrides: dict[str, Any]) -> Process:
    worker = await processes.start("worker", overrides=overrides)
    await worker.says("worker.started")
    return worker


@contextmanager
def _locked(settings: Settings) -> Iterator[None]:
    """Another process writes: it holds SQLite's only write lock."""
    database = sqlite3.connect(database_file(settings), isolation_level=None)
    try:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")
    finally:
        database.close()
