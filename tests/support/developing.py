"""`bridge dev` in a folder of its own, and the tour that it prints."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import orjson

from tests.support.commands import bridge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.processes import Process, Processes

NODE_PATIENCE: Final = 180
"""Seconds for a RabbitMQ node to start, beside other tests."""


async def start_dev(
    processes: Processes,
    prefix: str,
    tmp_path: Path,
    *arguments: str,
    port: str = "0",
    further: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Process:
    """Started; its settings keep it apart from others on the same broker."""
    return await processes.start(
        "dev", "--directory", str(tmp_path / "dev"), "--port", port, "--api-port", "0", *arguments,
        overrides={"rabbitmq": {"prefix": prefix, "connect_timeout": 20}, "receiver": {"confirm_wait": 10}, **further},
        fresh=True,  # its command line names the folder: that is how its processes are found
    )  # fmt: skip


async def tour(dev: Process) -> None:
    """What it prints can be used as it is: the event is confirmed, seen on the screen, and on the list."""
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
    _, listed = await told(command, Path.cwd())
    assert [entry["address"] for entry in listed["items"]] == ["recipient1@example.org"]


async def told(command: list[str], tmp_path: Path) -> tuple[int, Any]:
    """Exit code and output of a command of the bridge."""
    outcome = await bridge(*command, "--json", directory=tmp_path)
    return outcome.code, orjson.loads(outcome.stdout)
