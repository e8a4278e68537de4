"""`bridge dev` with a RabbitMQ of its own, which is killed."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import pytest

from tests.support.developing import NODE_PATIENCE, start_dev, told, tour
from tests.support.leftovers import end_processes_of, processes_of
from tests.support.private import open_to_others

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.processes import Process, Processes

OF_THE_MACHINE = {"file descriptors", "spool disk", "spool space"}
"""Checks that depend on the machine of the tests."""


@pytest.fixture(autouse=True)
def _nothing_outlives_a_test(tmp_path: Path) -> Iterator[None]:
    yield
    end_processes_of(tmp_path / "dev")


async def test_with_a_node_of_its_own_it_leaves_no_process_behind(
    processes: Processes, prefix: str, tmp_path: Path
) -> None:
    """RabbitMQ and its port mapper run in its folder, and end with it; what they write is private under any umask.

    `bridge status` and `bridge doctor` find nothing wrong, from the start and after RabbitMQ was killed.
    """
    before = os.umask(0)
    try:
        dev = await start_dev(processes, prefix, tmp_path)
    finally:
        os.umask(before)
    await dev.prints("Ctrl-C", patience=NODE_PATIENCE)
    seen = await _all_is_well(dev, tmp_path)
    # RabbitMQ counts the messages of a queue now and then, and first some time after it was made.
    async with asyncio.timeout(NODE_PATIENCE):
        while any(queue["unacknowledged"] is None for queue in seen["broker"]["queues"]):
            seen = await _all_is_well(dev, tmp_path)
    await tour(dev)
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


async def _all_is_well(dev: Process, tmp_path: Path) -> Any:
    """`bridge status`, as it is printed, finds all roles and RabbitMQ's management API, and `bridge doctor` has no complaint."""
    _, *command = shlex.split(await dev.prints(" status"))
    assert len(command) == 3, "it takes no more than the settings file to find all of it"
    async with asyncio.timeout(NODE_PATIENCE):
        code, seen = await told(command, tmp_path)
        while code:  # the roles are on their way back to a RabbitMQ that was started again
            code, seen = await told(command, tmp_path)
    assert seen["wrong"] == []
    assert [(role["kind"], role["ready"]) for role in seen["roles"]] == [
        ("receiver", True),
        ("worker", True),
        ("api", True),
    ]
    assert seen["broker"]["blind"] == ""
    assert seen["broker"]["unbound"] == []
    code, examined = await told([*command[:-1], "doctor"], tmp_path)
    judged = {one["check"]: one["status"] for one in examined["items"]}
    assert code == 0
    assert {check for check, status in judged.items() if status != "ok"} <= OF_THE_MACHINE
    return seen


async def _nobody_else_starts_there(processes: Processes, prefix: str, tmp_path: Path) -> None:
    """Two RabbitMQ nodes would write to the same files."""
    second = await start_dev(processes, prefix, tmp_path)
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
