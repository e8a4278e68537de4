"""`bridge dev`, as somebody runs it in a terminal."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import stat
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import pytest

from bridge.development.dev_settings import API_TOKEN
from bridge.settings.loading import load_settings
from bridge.settings.subscribers import Subscriber
from tests.support.bodies import every_body
from tests.support.commands import bridge
from tests.support.leftovers import end_processes_of, processes_of
from tests.support.ports import free_port
from tests.support.private import open_to_others

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.processes import Process, Processes
    from tests.support.rabbit import Rabbit

NODE_PATIENCE = 60
"""Seconds for a RabbitMQ node to start, beside other tests."""
OF_THE_MACHINE = {"file descriptors", "spool disk", "spool space"}
"""Checks that depend on the machine of the tests."""


@pytest.fixture(autouse=True)
def _nothing_outlives_a_test(tmp_path: Path) -> Iterator[None]:
    yield
    end_processes_of(tmp_path / "dev")


async def test_the_tour_from_the_printed_curl_line_to_the_printed_list(
    processes: Processes, prefix: str, amqp_url: str, tmp_path: Path
) -> None:
    """What it prints can be used as it is: the event is confirmed, seen on the screen, and on the list; the pages are there."""
    dev = await _dev(processes, prefix, tmp_path, "--rabbitmq-url", amqp_url)
    await _tour(dev)
    await _pages(dev)
    dev.send(signal.SIGINT)
    assert await dev.ended() == 0
    assert dev.printed[-1] == "stopping …"
    assert dev.lines == []
    assert processes_of(tmp_path / "dev") == []


async def test_what_is_quarantined_is_seen_and_ends_nothing(
    processes: Processes, prefix: str, amqp_url: str, tmp_path: Path
) -> None:
    """Whoever looks on need not understand what comes by."""
    dev = await _dev(processes, prefix, tmp_path, "--rabbitmq-url", amqp_url)
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
    assert await dev.ended() == 0


async def test_it_survives_every_body_of_the_tests(
    processes: Processes, prefix: str, amqp_url: str, tmp_path: Path
) -> None:
    """Each is answered; afterwards an event is confirmed and seen as before."""
    dev = await _dev(processes, prefix, tmp_path, "--rabbitmq-url", amqp_url)
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
    assert await dev.ended() == 0
    assert not [line for line in dev.lines if "Traceback" in line]


@pytest.mark.timeout(240)  # RabbitMQ is started twice, and on a busy machine each takes half a minute
async def test_with_a_node_of_its_own_it_leaves_no_process_behind(
    processes: Processes, prefix: str, tmp_path: Path
) -> None:
    """RabbitMQ and its port mapper run in its folder, and end with it; what they write is private under any umask.

    `bridge status` and `bridge doctor` find nothing wrong, from the start and after RabbitMQ was killed.
    """
    before = os.umask(0)
    try:
        dev = await _dev(processes, prefix, tmp_path)
    finally:
        os.umask(before)
    await dev.prints("Ctrl-C", patience=NODE_PATIENCE)
    seen = await _all_is_well(dev, tmp_path)
    assert all(queue["unacknowledged"] is not None for queue in seen["broker"]["queues"])
    await _tour(dev)
    await _nobody_else_starts_there(processes, prefix, tmp_path)
    await _its_rabbitmq_comes_back(dev, tmp_path)
    await _all_is_well(dev, tmp_path)
    assert open_to_others(tmp_path / "dev") == [tmp_path / "dev/rabbitmq/.erlang.cookie"]
    assert stat.S_IMODE((tmp_path / "dev/rabbitmq/.erlang.cookie").stat().st_mode) == 0o400
    with _watched(processes_of(tmp_path / "dev")) as theirs:
        assert any("epmd" in name for name in theirs)
        assert any("beam" in name for name in theirs)
        dev.send(signal.SIGINT)
        assert await dev.ended() == 0
        async with asyncio.timeout(10):
            await asyncio.gather(*(ended.wait() for ended in theirs.values()))
    assert processes_of(tmp_path / "dev") == []


async def test_ctrl_c_while_rabbitmq_starts_leaves_no_process_behind(
    processes: Processes, prefix: str, tmp_path: Path
) -> None:
    """It need not wait until everything stands to be stopped."""
    dev = await _dev(processes, prefix, tmp_path)
    await dev.prints("starting")
    dev.send(signal.SIGINT)
    assert await dev.ended() == 0
    assert processes_of(tmp_path / "dev") == []


async def test_ctrl_c_ends_the_wait_for_a_broker_that_is_not_there(
    processes: Processes, prefix: str, tmp_path: Path
) -> None:
    """With a wrong --rabbitmq-url it says what it waits for, and can be stopped."""
    dev = await _dev(processes, prefix, tmp_path, "--rabbitmq-url", "amqp://127.0.0.1:1/")
    await dev.says("broker.retry")
    dev.send(signal.SIGINT)
    assert await dev.ended() == 0


async def test_a_port_in_use_is_one_clear_line(
    processes: Processes, prefix: str, amqp_url: str, tmp_path: Path
) -> None:
    """Exit code 1; the line names the address and the option. RabbitMQ was not started for nothing."""
    with socket.socket() as taken:
        port = free_port()
        taken.bind(("127.0.0.1", port))
        taken.listen()
        dev = await _dev(processes, prefix, tmp_path, "--rabbitmq-url", amqp_url, port=str(port))
        assert await dev.ended() == 1
    assert len(dev.lines) == 1
    assert dev.lines[0].startswith("bridge: ")
    assert f"127.0.0.1:{port}: Address already in use; choose another port with --port" in dev.lines[0]
    assert not (tmp_path / "dev").exists()


async def test_the_settings_file_it_writes_is_what_is_in_force(
    processes: Processes, rabbit: Rabbit, prefix: str, amqp_url: str, tmp_path: Path
) -> None:
    """Also what came from --config: another command on the same file speaks of the same queues."""
    subscriber = {"[subscribers]": {"queue": "crm", "events": ["opened"]}}
    dev = await _dev(processes, prefix, tmp_path, "--rabbitmq-url", amqp_url, further=subscriber)
    line = await dev.prints("settings  ")
    settings = load_settings(Path(line.split(maxsplit=1)[1]))
    assert settings.rabbitmq.prefix == prefix
    assert settings.rabbitmq.urls[0].get_secret_value() == amqp_url
    assert len(settings.health.roles) == 3
    assert settings.subscribers == (Subscriber(queue="crm", events=("opened",)),)
    dev.send(signal.SIGTERM)
    assert await dev.ended() == 0
    async with rabbit.channel() as channel:
        await channel.queue_delete(f"{prefix}crm")


async def _dev(
    processes: Processes,
    prefix: str,
    tmp_path: Path,
    *arguments: str,
    port: str = "0",
    further: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Process:
    """`bridge dev` in a folder of its own; its settings keep it apart from others on the same broker."""
    return await processes.start(
        "dev", "--directory", str(tmp_path / "dev"), "--port", port, "--api-port", "0", *arguments,
        overrides={"rabbitmq": {"prefix": prefix}, "receiver": {"confirm_wait": 10}, **further},
        fresh=True,  # its command line names the folder: that is how its processes are found
    )  # fmt: skip


async def _tour(dev: Process) -> None:
    *_, url, option, body = shlex.split(await dev.prints("curl", patience=NODE_PATIENCE))
    assert option == "-d"
    async with aiohttp.ClientSession() as http, http.post(url, data=body) as answer:
        assert answer.status == 200
        assert orjson.loads(await answer.read())["durability"] == "confirmed"
    assert "message 1" in await dev.prints("event: hard_bounced")
    assert "recipient1@example.org (hard_bounce)" in await dev.prints("list: added")
    _, url, _, header, _, body = shlex.split(await dev.prints("/v1/suppressions/check"))
    headers = dict([header.split(": ")]) | {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as http, http.post(url, data=body) as answer:
        results = (await answer.json())["results"]
    assert [(one["address"], one["allowed"]) for one in results] == [
        ("recipient1@example.org", False),
        ("recipient2@example.org", True),
    ]
    _, *command = shlex.split(await dev.prints("suppressions list"))
    _, listed = await _told(command, Path.cwd())
    assert [entry["address"] for entry in listed["items"]] == ["recipient1@example.org"]


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


async def _all_is_well(dev: Process, tmp_path: Path) -> Any:
    """`bridge status`, as it is printed, finds all roles and RabbitMQ's management API, and `bridge doctor` has no complaint."""
    _, *command = shlex.split(await dev.prints(" status"))
    assert len(command) == 3, "it takes no more than the settings file to find all of it"
    async with asyncio.timeout(NODE_PATIENCE):
        code, seen = await _told(command, tmp_path)
        while code:  # the roles are on their way back to a RabbitMQ that was started again
            code, seen = await _told(command, tmp_path)
    assert seen["wrong"] == []
    assert [(role["kind"], role["ready"]) for role in seen["roles"]] == [
        ("receiver", True),
        ("worker", True),
        ("api", True),
    ]
    assert seen["broker"]["blind"] == ""
    assert seen["broker"]["unbound"] == []
    code, examined = await _told([*command[:-1], "doctor"], tmp_path)
    judged = {one["check"]: one["status"] for one in examined["items"]}
    assert code == 0
    assert {check for check, status in judged.items() if status != "ok"} <= OF_THE_MACHINE
    return seen


async def _told(command: list[str], tmp_path: Path) -> tuple[int, Any]:
    """Exit code and output of a command of the bridge."""
    outcome = await bridge(*command, "--json", directory=tmp_path)
    return outcome.code, orjson.loads(outcome.stdout)


async def _nobody_else_starts_there(processes: Processes, prefix: str, tmp_path: Path) -> None:
    """Two RabbitMQ nodes would write to the same files."""
    second = await _dev(processes, prefix, tmp_path)
    assert await second.ended() == 1
    [line] = second.lines
    assert f"another `bridge dev` uses {tmp_path / 'dev'}" in line
    assert f"kill {_rabbitmq(tmp_path)}" in line


async def _its_rabbitmq_comes_back(dev: Process, tmp_path: Path) -> None:
    """Whoever kills it sees events go to the spool, and from there to the list."""
    os.kill(_rabbitmq(tmp_path), signal.SIGKILL)
    await dev.prints("RabbitMQ has ended")
    _, url = (await dev.prints("webhook")).split()
    event = {"message": {"id": 2}, "event": {"name": "hard_bounced", "timestamp": 1539062173}}
    async with aiohttp.ClientSession() as http, http.post(url, data=orjson.dumps(event)) as answer:
        assert answer.status == 200
    await dev.prints("RabbitMQ runs again", patience=NODE_PATIENCE)


def _rabbitmq(tmp_path: Path) -> int:
    [path] = (tmp_path / "dev/rabbitmq/data").glob("*.pid")
    return int(path.read_text())


@contextmanager
def _watched(pids: list[int]) -> Iterator[dict[str, asyncio.Event]]:
    """Name and number of each process -> set when it has ended."""
    loop = asyncio.get_running_loop()
    ends: dict[str, asyncio.Event] = {}
    handles = []
    try:
        for pid in pids:
            handles.append(os.pidfd_open(pid))
            ended = ends[f"{Path(f'/proc/{pid}/comm').read_text().strip()} {pid}"] = asyncio.Event()
            loop.add_reader(handles[-1], ended.set)
        yield ends
    finally:
        for handle in handles:
            loop.remove_reader(handle)
            os.close(handle)
