"""Real processes with unknown versions of the libraries, which lack what the fast path uses."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import pytest

from bridge import fast_path
from tests.conftest import TOKEN
from tests.support import other_versions
from tests.support.commands import bridge
from tests.support.working import bounced, bounces

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.processes import Process, Processes
    from tests.support.working import Workplace

FOUND = {"aiohttp": "3.99.0", "aio-pika": "10.99.1", "aiormq": "7.99.2"}


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    folder = tmp_path / "libraries"
    folder.mkdir()
    return other_versions.environment(folder)


def logged(process: Process) -> list[tuple[str, str, str]]:
    lines = [orjson.loads(line) for line in process.lines if line.startswith("{")]
    return [
        (line["library"], line["version"], line["known"])
        for line in lines
        if line["action"] == "fast_path.off"
    ]


def expected(*libraries: str) -> list[tuple[str, str, str]]:
    return [(name, FOUND[name], "~= " + ".".join(map(str, fast_path.KNOWN[name]))) for name in libraries]


async def test_both_roles_log_it_once_and_work(
    overrides: dict[str, Any], workplace: Workplace, processes: Processes, environment: Mapping[str, str]
) -> None:
    """A hard bounce gets from the webhook to the list; neither role has imported the fast path."""
    overrides["receiver"] |= {"port": 0}
    receiver = await processes.start("receiver", overrides=overrides, environment=environment)
    worker = await processes.start("worker", overrides=overrides, environment=environment)
    port = (await receiver.says("receiver.started"))["port"]
    await receiver.says("broker.connected")
    await worker.says("worker.started")
    url = f"http://127.0.0.1:{port}/webhooks/msndr/{TOKEN}"
    async with aiohttp.ClientSession() as http, http.post(url, data=bounces([1])[0]) as answer:
        assert (answer.status, (await answer.json())["durability"]) == (200, "confirmed")
    await workplace.changes(1)
    assert await workplace.listed() == bounced([1])
    assert sorted(logged(receiver)) == sorted(expected("aiohttp", "aio-pika", "aiormq"))
    assert sorted(logged(worker)) == sorted(expected("aio-pika", "aiormq"))


async def test_each_of_several_processes_logs_it(
    overrides: dict[str, Any], processes: Processes, environment: Mapping[str, str]
) -> None:
    """The children of a supervisor have the same libraries."""
    overrides["receiver"] |= {"port": 0, "processes": 2}
    receiver = await processes.start("receiver", overrides=overrides, environment=environment)
    await receiver.says("broker.connected", times=2)
    for library in FOUND:
        await receiver.says("fast_path.off", library=library, times=2)


async def test_a_command_works(
    overrides: dict[str, Any], workplace: Workplace, tmp_path: Path, environment: Mapping[str, str]
) -> None:
    """Commands take the same path, and log it."""
    assert workplace
    rabbitmq = overrides["rabbitmq"]
    said = await bridge(
        "dead", "list", "--json",
        directory=tmp_path,
        BRIDGE_RABBITMQ__URLS=rabbitmq["urls"][0],
        BRIDGE_RABBITMQ__PREFIX=rabbitmq["prefix"],
        **environment,
    )  # fmt: skip
    assert (said.code, orjson.loads(said.stdout)["items"]) == (0, []), said
    assert said.stderr.count("fast_path.off") == 2, "for aio-pika and aiormq"


@pytest.mark.parametrize("module", ["bridge.receiver.connection", "bridge.amqp.aiormq_internals"])
async def test_the_fast_path_cannot_be_imported_there(module: str, environment: Mapping[str, str]) -> None:
    """So a process that imports it all the same would end: the other tests would fail."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"import {module}", stderr=asyncio.subprocess.PIPE, env=os.environ | environment
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert b"ImportError: cannot import name" in said
