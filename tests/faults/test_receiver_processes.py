"""Several receivers on one port, under one supervisor: shared, counted and looked at as one, replaced, ended together."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.supervised import alive, body, connected, folder_of, started
from tests.support.wire import Wire, post

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.processes import Process, Processes
    from tests.support.rabbit import Listener, Rabbit
    from tests.support.supervised import Overrides

BOTH = {"1", "2"}
MOST_POSTS = 200
"""With two processes, so many connections that go to one of them alone are no accident."""


@pytest.fixture
def two(overrides: Overrides) -> Overrides:
    """Settings of a receiver of two processes."""
    overrides["receiver"]["processes"] = 2
    overrides["health"]["port"] = free_port()
    return overrides


@pytest.fixture
async def proxy(two: Overrides, amqp_url: str) -> AsyncIterator[Proxy]:
    """Between the two and RabbitMQ."""
    async with Proxy.serve(amqp_url) as served:
        two["rabbitmq"] |= {"urls": [served.url(amqp_url)], "reconnect_max": 0.1}
        yield served


async def test_two_processes_take_requests_on_one_port_each_into_its_own_spool_file(
    processes: Processes, two: Overrides, proxy: Proxy, tmp_path: Path
) -> None:
    """Each has a part of what was answered, in the spool and in `/readyz`; together it is all of it."""
    proxy.refuse()
    async with started(processes, two) as receivers:
        await receivers.supervisor.says("broker.retry", process=1)
        await receivers.supervisor.says("broker.retry", process=2)
        accepted: set[str] = set()
        for number in range(1, MOST_POSTS):
            accepted |= await receivers.accepts(number)
            said = await receivers.becomes(200)
            if all(part["spool"]["entries"] for part in said.values()):
                break
        assert set(said) == BOTH
        assert sum(part["spool"]["entries"] for part in said.values()) == len(accepted)
        await receivers.shows("bridge_spool_entries", len(accepted))
        assert len(list((tmp_path / "spool").glob("*.sqlite3"))) == 2
        await ends(receivers.supervisor)


async def test_a_killed_process_is_replaced_and_nothing_that_was_answered_200_is_lost(
    processes: Processes, two: Overrides, proxy: Proxy, rabbit: Rabbit
) -> None:
    """The other one answers in the meantime; what the dead one had spooled is in RabbitMQ in the end."""
    async with connected(processes, two) as receivers, rabbit.listening(rabbit.names.events, "#") as events:
        [victim, _] = await receivers.pids()
        proxy.refuse()
        await receivers.becomes(200, broker_is_down)
        accepted = await receivers.accepts(*range(40))
        os.kill(victim, signal.SIGKILL)
        died = await receivers.supervisor.says("receiver.child_died")
        assert (died["pid"], died["exit_code"]) == (victim, -signal.SIGKILL)
        accepted |= await receivers.accepts(*range(40, 80))
        await receivers.supervisor.says("receiver.started", times=3)
        proxy.accept()
        await arrive(events, accepted)
        assert victim not in await receivers.pids()
        await ends(receivers.supervisor)


async def test_a_process_that_dies_again_and_again_is_replaced_each_time(
    processes: Processes, two: Overrides, rabbit: Rabbit
) -> None:
    """Also where it dies at its start; the other one goes on, and in the end both are ready."""
    async with connected(processes, two) as receivers:
        async with rabbit.listening(rabbit.names.events, "#") as events:
            for time in (1, 2, 3):
                started_first = await receivers.supervisor.says(
                    "receiver.child_started", process=1, times=time
                )
                victim = started_first["pid"]
                os.kill(victim, signal.SIGKILL)
                await receivers.supervisor.says("receiver.child_died", pid=victim)
                await receivers.accepts(time)
            await events.take(3)
        assert len(await receivers.pids()) == 2
        assert await receivers.reading("bridge_receiver_restarts_total") == 3
        await ends(receivers.supervisor)


async def test_what_is_counted_adds_up_and_does_not_go_down_when_a_process_dies(
    processes: Processes, two: Overrides, rabbit: Rabbit
) -> None:
    """Answers, their times and events by name are those of both processes, and of the one that is gone."""
    assert rabbit
    async with connected(processes, two) as receivers:
        await receivers.accepts(*range(30))
        assert await receivers.reading('bridge_answers_total{answer="confirmed"}') == 30
        assert await receivers.reading("bridge_answer_seconds_count") == 30
        assert await receivers.reading("bridge_receiver_restarts_total") == 0
        [victim, _] = await receivers.pids()
        os.kill(victim, signal.SIGKILL)
        await receivers.supervisor.says("receiver.child_died")
        assert await receivers.reading('bridge_answers_total{answer="confirmed"}') == 30
        await receivers.supervisor.says("broker.connected", times=3)
        await receivers.accepts(*range(30, 50))
        assert await receivers.reading('bridge_answers_total{answer="confirmed"}') == 50
        assert await receivers.reading('bridge_events_received_total{name="opened"}') == 50
        assert await receivers.reading("bridge_answer_seconds_count") == 50
        assert await receivers.reading("bridge_receiver_restarts_total") == 1
        await ends(receivers.supervisor)


async def test_the_broker_counts_as_up_while_every_process_has_it(
    processes: Processes, two: Overrides, proxy: Proxy
) -> None:
    """One gauge for all, and it is the worst of them."""
    async with connected(processes, two) as receivers:
        assert await receivers.reading('bridge_broker_up{use="publish"}') == 1
        proxy.refuse()
        await receivers.becomes(200, broker_is_down)
        assert await receivers.reading('bridge_broker_up{use="publish"}') == 0
        await ends(receivers.supervisor)


@pytest.mark.parametrize("word", [signal.SIGTERM, signal.SIGINT])
async def test_a_word_to_stop_ends_all_of_them_in_order(
    processes: Processes, two: Overrides, proxy: Proxy, rabbit: Rabbit, word: signal.Signals
) -> None:
    """What is in flight gets its confirm and its answer; the exit code is 0; no process and no folder is left."""
    async with connected(processes, two) as receivers:
        pids, folder = await receivers.pids(), folder_of(await receivers.pids())
        async with rabbit.listening(rabbit.names.events, "#") as events, Wire.to(receivers.port) as wire:
            proxy.to_client.pause()
            wire.send(post(body(1)))
            await events.next()
            receivers.supervisor.send(word)
            await receivers.supervisor.says("receiver.stopping", in_flight=1)
            proxy.resume()
            assert (await wire.answer()).json["durability"] == "confirmed"
        assert await receivers.supervisor.ended() == 0
    assert not [pid for pid in pids if alive(pid)]
    assert not folder.exists()
    assert not receivers.supervisor.failures


async def test_a_word_to_stop_that_reaches_every_process_more_than_once_harms_nobody(
    processes: Processes, two: Overrides, rabbit: Rabbit
) -> None:
    """As where a service manager tells all of them, or somebody is impatient."""
    assert rabbit
    async with connected(processes, two) as receivers:
        pids = await receivers.pids()
        receivers.supervisor.send(signal.SIGTERM)
        await receivers.supervisor.says("receiver.supervisor_stopping")
        for pid in [*pids, *pids]:
            with suppress(ProcessLookupError):  # it may have ended by now
                os.kill(pid, signal.SIGTERM)
                os.kill(pid, signal.SIGINT)
        assert await receivers.supervisor.ended() == 0
    assert not [pid for pid in pids if alive(pid)]
    assert not [line for line in receivers.supervisor.lines if "child_died" in line]


async def test_a_supervisor_that_is_killed_takes_its_processes_with_it(
    processes: Processes, two: Overrides, proxy: Proxy, rabbit: Rabbit
) -> None:
    """They notice, finish what is in flight, free the port and leave nothing."""
    two["receiver"]["port"] = free_port()
    async with connected(processes, two) as receivers:
        pids, folder = await receivers.pids(), folder_of(await receivers.pids())
        async with rabbit.listening(rabbit.names.events, "#") as events, Wire.to(receivers.port) as wire:
            proxy.to_client.pause()
            wire.send(post(body(1)))
            await events.next()
            receivers.supervisor.send(signal.SIGKILL)
            await receivers.supervisor.says("receiver.stopping", in_flight=1)
            proxy.resume()
            assert (await wire.answer()).json["durability"] == "confirmed"
        assert await receivers.supervisor.ended() == -signal.SIGKILL
    await eventually(lambda: not any(alive(pid) for pid in pids))
    assert not folder.exists()
    with socket.socket() as successor:
        successor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        successor.bind(("127.0.0.1", receivers.port))


async def test_a_process_that_does_not_answer_makes_the_receiver_unready_and_is_named(
    processes: Processes, two: Overrides, rabbit: Rabbit
) -> None:
    """The supervisor is alive all the same, and the other process is told as it is."""
    assert rabbit
    async with connected(processes, two) as receivers:
        [stuck, other] = await receivers.pids()
        os.kill(stuck, signal.SIGSTOP)
        said = await receivers.becomes(503, lambda said: said["2"]["status"] == "ready")
        assert said["1"] == {"status": "not ready", "pid": stuck, "reason": "the process does not answer"}
        assert said["2"]["pid"] == other
        assert await receivers.get("/livez") == (200, {"status": "alive"})
        os.kill(stuck, signal.SIGCONT)
        await receivers.becomes(200)
        await ends(receivers.supervisor)


async def test_a_process_that_does_not_end_is_killed_and_the_exit_code_says_so(
    processes: Processes, two: Overrides, rabbit: Rabbit
) -> None:
    """One line names it; nothing is left."""
    assert rabbit
    two["receiver"]["drain_timeout"] = 2  # with it grows the time in which the other one ends
    async with connected(processes, two) as receivers:
        pids = await receivers.pids()
        os.kill(pids[0], signal.SIGSTOP)
        receivers.supervisor.send(signal.SIGTERM)
        assert await receivers.supervisor.ended() == 1
    assert not [pid for pid in pids if alive(pid)]
    [line] = receivers.supervisor.failures
    assert line == "receiver processes that did not end in time: 1"


async def test_a_port_that_another_receiver_has_is_one_line(
    processes: Processes, two: Overrides, rabbit: Rabbit
) -> None:
    """Also where that one has several processes, with which a port could be shared without a word."""
    assert rabbit
    async with connected(processes, two) as receivers:
        two["receiver"]["port"] = receivers.port
        two["health"]["port"] = 0
        second = await processes.start("receiver", overrides=two)
        assert await second.ended() == 1
        await ends(receivers.supervisor)
    [line] = second.failures
    assert line.startswith(f"the receiver cannot listen on 127.0.0.1:{receivers.port}: ")
    assert "BRIDGE_RECEIVER__PORT" in line


async def test_settings_that_no_process_can_use_end_all_of_them_with_one_line(
    processes: Processes, two: Overrides, rabbit: Rabbit
) -> None:
    """The exit code is that of wrong settings, as with one process."""
    assert rabbit
    two["receiver"]["tokens"] = []
    receiver = await processes.start("receiver", overrides=two)
    assert await receiver.ended() == 2
    [line] = receiver.failures
    assert line.startswith("receiver.tokens: ")


async def ends(supervisor: Process) -> None:
    """In order, once it is told to."""
    supervisor.send(signal.SIGTERM)
    assert await supervisor.ended() == 0, supervisor.lines


async def arrive(events: Listener, ids: set[str]) -> None:
    """Messages with all of these ids, and with no others."""
    missing = set(ids)
    while missing:
        arrived = (await events.next()).message_id
        assert arrived in ids
        missing.discard(arrived)


def broker_is_down(said: dict[str, Any]) -> bool:
    return all(part["broker"]["state"] == "down" for part in said.values())
