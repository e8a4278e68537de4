"""`bridge dev`, as somebody runs it in a terminal. With a RabbitMQ of its own that is killed: tests/faults/test_dev_node.py."""

from __future__ import annotations

import shlex
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import orjson
import pytest

from bridge.development.dev_settings import API_TOKEN
from bridge.settings.loading import load_settings
from bridge.settings.subscribers import Subscriber
from tests.support.bodies import every_body
from tests.support.developing import NODE_PATIENCE, start_dev, tour
from tests.support.eventually import eventually
from tests.support.leftovers import end_processes_of, processes_of
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.processes import Process, Processes
    from tests.support.rabbit import Rabbit


OF_A_SLOW_MACHINE = ("spool.stalled", "process.threads_left")
"""Actions in the log of a machine that stands still for a second."""


@pytest.fixture(autouse=True)
def _nothing_outlives_a_test(tmp_path: Path) -> Iterator[None]:
    yield
    end_processes_of(tmp_path / "dev")


async def test_the_tour_from_the_printed_curl_line_to_the_printed_list(
    processes: Processes, prefix: str, amqp_url: str, tmp_path: Path
) -> None:
    """What it prints can be used as it is: the event is confirmed, seen on the screen, and on the list; the pages are there."""
    dev = await start_dev(processes, prefix, tmp_path, "--rabbitmq-url", amqp_url)
    await tour(dev)
    await _pages(dev)
    dev.send(signal.SIGINT)
    assert await dev.ended(patience=NODE_PATIENCE) == 0
    assert dev.printed[-1] == "stopping …"
    assert [line for line in dev.lines if not any(action in line for action in OF_A_SLOW_MACHINE)] == []
    assert processes_of(tmp_path / "dev") == []


async def test_what_is_quarantined_is_seen_and_ends_nothing(
    processes: Processes, prefix: str, amqp_url: str, tmp_path: Path
) -> None:
    """Whoever looks on need not understand what comes by."""
    dev = await start_dev(processes, prefix, tmp_path, "--rabbitmq-url", amqp_url)
    *_, url, _, bounce = shlex.split(await dev.prints("curl", patience=NODE_PATIENCE))
    async with aiohttp.ClientSession() as http:
        for body in (b'{"a":"\\ud800"}', b"[]", b'"x"', b'{"message":{"id":1}}', b"[" * 5000 + b"]" * 5000):
            async with http.post(url, data=body) as answer:
                assert orjson.loads(await answer.read())["status"] == "quarantined"
            assert "not an event" in await dev.prints("event: malformed")
        async with http.post(url, data=bounce) as answer:
            assert answer.status == 200
        assert "message 1" in await dev.prints("event: hard_bounced")
    dev.send(signal.SIGINT)
    assert await dev.ended(patience=NODE_PATIENCE) == 0


async def test_it_survives_every_body_of_the_tests(
    processes: Processes, prefix: str, amqp_url: str, tmp_path: Path
) -> None:
    """Each is answered; afterwards an event is confirmed and seen as before."""
    dev = await start_dev(processes, prefix, tmp_path, "--rabbitmq-url", amqp_url)
    *_, url, _, _ = shlex.split(await dev.prints("curl", patience=NODE_PATIENCE))
    bodies = every_body()
    assert {b'{"a":"\\ud800"}', b"[" * 30_000 + b"]" * 30_000} <= set(bodies)
    async with aiohttp.ClientSession() as http:
        for body in bodies:
            async with http.post(url, data=body) as answer:
                assert answer.status in {200, 400}, body
        last = orjson.dumps({"message": {"id": 424_242}, "event": {"name": "opened", "timestamp": 1}})
        async with http.post(url, data=last) as answer:
            assert orjson.loads(await answer.read())["status"] == "accepted"
    await dev.prints("message 424242")
    dev.send(signal.SIGINT)
    assert await dev.ended(patience=NODE_PATIENCE) == 0
    assert not [line for line in dev.lines if "Traceback" in line]


async def test_ctrl_c_while_rabbitmq_starts_leaves_no_process_behind(
    processes: Processes, prefix: str, tmp_path: Path
) -> None:
    """It need not wait until everything stands to be stopped."""
    dev = await start_dev(processes, prefix, tmp_path)
    await dev.prints("starting", patience=NODE_PATIENCE)
    dev.send(signal.SIGINT)
    assert await dev.ended(patience=NODE_PATIENCE) == 0
    await eventually(lambda: processes_of(tmp_path / "dev") == [])  # who is killed is gone a moment later


async def test_ctrl_c_ends_the_wait_for_a_broker_that_is_not_there(
    processes: Processes, prefix: str, tmp_path: Path
) -> None:
    """With a wrong --rabbitmq-url it says what it waits for, and can be stopped."""
    dev = await start_dev(processes, prefix, tmp_path, "--rabbitmq-url", "amqp://127.0.0.1:1/")
    await dev.says("broker.retry", patience=NODE_PATIENCE)
    dev.send(signal.SIGINT)
    assert await dev.ended(patience=NODE_PATIENCE) == 0


async def test_a_port_in_use_is_one_clear_line(
    processes: Processes, prefix: str, amqp_url: str, tmp_path: Path
) -> None:
    """Exit code 1; the line names the address and the option. RabbitMQ was not started for nothing."""
    with socket.socket() as taken:
        port = free_port()
        taken.bind(("127.0.0.1", port))
        taken.listen()
        dev = await start_dev(processes, prefix, tmp_path, "--rabbitmq-url", amqp_url, port=str(port))
        assert await dev.ended(patience=NODE_PATIENCE) == 1
    assert len(dev.lines) == 1
    assert dev.lines[0].startswith("bridge: ")
    assert f"127.0.0.1:{port}: Address already in use; choose another port with --port" in dev.lines[0]
    assert not (tmp_path / "dev").exists()


async def test_the_settings_file_it_writes_is_what_is_in_force(
    processes: Processes, rabbit: Rabbit, prefix: str, amqp_url: str, tmp_path: Path
) -> None:
    """Also what came from --config: another command on the same file speaks of the same queues."""
    subscriber = {"[subscribers]": {"queue": "crm", "events": ["opened"]}}
    dev = await start_dev(processes, prefix, tmp_path, "--rabbitmq-url", amqp_url, further=subscriber)
    line = await dev.prints("settings  ", patience=NODE_PATIENCE)
    settings = load_settings(Path(line.split(maxsplit=1)[1]))
    assert settings.rabbitmq.prefix == prefix
    assert settings.rabbitmq.urls[0].get_secret_value() == amqp_url
    assert len(settings.health.roles) == 3
    assert settings.subscribers == (Subscriber(queue="crm", events=("opened",)),)
    dev.send(signal.SIGTERM)
    assert await dev.ended(patience=NODE_PATIENCE) == 0
    async with rabbit.channel() as channel:
        await channel.queue_delete(f"{prefix}crm")


async def _pages(dev: Process) -> None:
    """The console's is printed first, with a token for it; the simulator's sends an event that ends on the list; the API has two."""
    first, second = dev.printed[1:3]
    console, page = first.split()[1], second.split()[1]
    assert first == f"console               {console}  (sign in with the token {API_TOKEN})"
    assert second == f"simulator             {page}  (the provider: send its events, switch its faults)"
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        async with http.post(f"{console}sign-in", data={"token": API_TOKEN}) as answer:
            assert (answer.status, str(answer.url)) == (200, console)
            assert "Overview" in await answer.text()
        for name in ("  its description", "  the contract"):
            async with http.get((await dev.prints(name)).split()[-1]) as answer:
                assert (answer.status, answer.content_type) == (200, "text/html")
        form = {"name": "hard_bounced", "message_id": "7", "repeat": "1"}
        async with http.post(page, data=form) as answer:
            assert answer.status == 200
    await dev.prints("recipient7@example.org (hard_bounce)")
