"""The first second of a process: it can be told to stop at once, whatever its standard streams are."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from tests.support.masks import signals
from tests.support.ports import free_port
from tests.support.supervised import alive

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.processes import Processes

STANDS_STILL: Final = """
import signal, sys, time

class StandsStill:
    def find_spec(self, name, path=None, target=None):
        if name == "bridge.cli.main":
            print("stands still", file=sys.stderr, flush=True)
            while not signal.sigpending() & {signal.SIGTERM, signal.SIGINT}:
                time.sleep(0.01)

sys.meta_path.insert(0, StandsStill())
"""
"""Signals are held back, and nothing more is loaded until one has come: a busy machine may send it late."""
SAYS_WHAT_IT_LOADS: Final = {"PYTHONPROFILEIMPORTTIME": "1"}
FIRST: Final = "| bridge.cli"
"""The first module of ours that is loaded after the signals are held back."""
PATIENCE_SECONDS: Final = 50
"""To load all of `dev` takes a busy machine long."""
STREAMS: Final = ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"]


@pytest.fixture
def overrides(overrides: dict[str, Any]) -> dict[str, Any]:
    """Nothing here hangs, however busy the machine is: no end is to be cut short."""
    overrides["receiver"]["drain_timeout"] = overrides["worker"]["drain_timeout"] = 60
    return overrides


@pytest.fixture
def standing_still(tmp_path: Path) -> dict[str, str]:
    """The variables of a process that stands still while it is loaded, and says so."""
    folder = tmp_path / "standing-still"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(STANDS_STILL)
    return SAYS_WHAT_IT_LOADS | {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize(
    ("arguments", "loaded"),
    [
        (["receiver"], FIRST),
        (["receiver"], " bridge.roles"),
        (["worker"], FIRST),
        (["simulator", "--port", "0"], FIRST),
        (["tail"], FIRST),
        (["dev", "--port", "0", "--rabbitmq-url", "amqp://127.0.0.1:1/"], FIRST),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value.strip("| "),
)
async def test_a_signal_that_comes_while_the_libraries_are_loaded_stops_in_order(
    processes: Processes, overrides: dict[str, Any], arguments: list[str], loaded: str
) -> None:
    """An ordinary stop: the exit code is 0, not that of a program that a signal has killed."""
    role = await processes.start(*arguments, overrides=overrides, environment=SAYS_WHAT_IT_LOADS)
    await role.writes(loaded, patience=PATIENCE_SECONDS)
    role.send(signal.SIGTERM)
    assert await role.ended(patience=PATIENCE_SECONDS) == 0


async def test_it_holds_where_receivers_are_several(processes: Processes, overrides: dict[str, Any]) -> None:
    """Their supervisor starts them, and stops them in order."""
    overrides["receiver"]["processes"] = 2
    role = await processes.start("receiver", overrides=overrides, environment=SAYS_WHAT_IT_LOADS)
    await role.writes(FIRST)
    role.send(signal.SIGTERM)
    assert await role.ended() == 0
    assert not [line for line in role.lines if "child_died" in line]


async def test_signals_to_stop_are_held_back_by_the_kernel(
    processes: Processes, overrides: dict[str, Any], standing_still: dict[str, str]
) -> None:
    """So that none is dropped, which the kernel does to the process 1 of a container that has no handler yet."""
    role = await processes.start("simulator", "--port", "0", overrides=overrides, environment=standing_still)
    await role.writes("stands still")
    held = signals(role.pid, "SigBlk")
    assert {signal.SIGTERM, signal.SIGINT, signal.SIGHUP} <= held
    role.send(signal.SIGTERM)
    assert await role.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_command_that_does_not_stay_ends_by_a_signal_as_usual(
    processes: Processes, overrides: dict[str, Any], standing_still: dict[str, str], number: signal.Signals
) -> None:
    """As soon as it is known which command it is, and not when it has done its work."""
    command = await processes.start("suppressions", "list", overrides=overrides, environment=standing_still)
    await command.writes("stands still")
    command.send(number)
    assert await command.ended() in {-number, 128 + number}
    assert not [line for line in command.lines if line.endswith("| bridge.cli.suppressions")]


@pytest.mark.parametrize("closed", STREAMS)
async def test_no_file_gets_the_number_of_a_standard_stream(closed: str, tmp_path: Path) -> None:
    """Each of the three is open and can be written to, whichever were closed."""
    seen = tmp_path / "seen"
    program = (
        "import os, sys, pathlib; from bridge import startup; startup.open_standard_streams(); "
        "number = os.open('.', os.O_RDONLY); print('out'); print('error', file=sys.stderr); sys.stdin.read(); "
        f"pathlib.Path({str(seen)!r}).write_text(str(number))"
    )
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", program,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    stdout, stderr = await process.communicate()
    assert await process.wait() == 0
    assert int(seen.read_text()) > 2
    assert stdout == (b"" if ">&-" in closed.replace("2>&-", "") else b"out\n")
    assert stderr == (b"" if "2>&-" in closed else b"error\n")


@pytest.mark.parametrize(("closed", "count"), [("<&-", 1), ("<&- >&- 2>&-", 1), ("<&- >&-", 2)])
async def test_a_receiver_works_without_standard_streams(
    processes: Processes, overrides: dict[str, Any], closed: str, count: int
) -> None:
    """As a service manager or a shell may start it; it ends in order, too."""
    overrides["receiver"]["processes"] = count
    overrides["health"]["port"] = free_port()
    receiver = await processes.start(
        "receiver", overrides=overrides, through=("sh", "-c", f'exec "$@" {closed}', "sh")
    )
    async with aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{overrides['health']['port']}/readyz"

        async def is_ready() -> bool:
            try:
                async with http.get(url) as answer:
                    return answer.status == 200
            except aiohttp.ClientConnectionError:
                return False

        async with asyncio.timeout(90):
            while not await is_ready():
                assert alive(receiver.pid)
                await asyncio.sleep(0.05)
    receiver.send(signal.SIGTERM)
    assert await receiver.ended() == 0, receiver.lines


async def test_an_ignored_sighup_stays_ignored(processes: Processes, overrides: dict[str, Any]) -> None:
    """Under `nohup` the end of a terminal ends nothing."""
    simulator = await processes.start(
        "simulator", "--port", "0", overrides=overrides, through=("sh", "-c", 'trap "" HUP; exec "$@"', "sh")
    )
    base_url = (await simulator.says("simulator.started"))["base_url"]
    assert signal.SIGHUP in signals(simulator.pid, "SigIgn")
    assert signal.SIGHUP not in signals(simulator.pid, "SigBlk")
    simulator.send(signal.SIGHUP)
    async with aiohttp.ClientSession() as http:
        for _ in range(5):
            async with http.get(f"{base_url}/email/messages/1") as answer:
                assert answer.status in {200, 401}
    simulator.send(signal.SIGTERM)
    assert await simulator.ended() == 0
