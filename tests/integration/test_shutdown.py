"""The end of a process that stays: by its deadline whatever hangs, and at once at a second signal."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from bridge.roles.shutdown import ABANDONED
from tests.support.eventually import eventually
from tests.support.masks import signals
from tests.support.processes import Process
from tests.support.supervised import alive
from tests.support.warm_starts import start_program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from tests.support.processes import Processes

    Start = Callable[[str, float], Coroutine[Any, Any, Process]]

PROGRAM = """
import asyncio, os, subprocess, sys, threading
from bridge import startup
startup.prepare()
from bridge.roles.shutdown import exit_if_threads_remain, run_until_signal
from bridge.settings import sections
from bridge.telemetry import logs

logs.configure(sections.Logs(level="info", format="json"))
log = logs.logger("test")
READING, WRITING = os.pipe()

def hang():
    log.info("hangs", action="test.hangs")
    os.read(READING, 1)

async def thread(stop):
    await stop.wait()
    await asyncio.to_thread(hang)

async def loop(stop):
    await stop.wait()
    hang()

async def loop_before(stop):
    hang()

async def task(stop):
    async def hanging():
        while True:
            try:
                log.info("hangs", action="test.hangs")
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
    asyncio.create_task(hanging(), name="the one that hangs")
    await stop.wait()

left_in_a_task = task

async def by_itself(stop):
    try:
        raise KeyError("a mistake")
    finally:
        stop.set()
        await asyncio.to_thread(hang)

async def left_in_a_thread(stop):
    asyncio.get_running_loop().run_in_executor(None, hang)
    await stop.wait()

async def left_by_others(stop):
    threading.Thread(target=hang, name="somebody else's").start()
    await stop.wait()

async def child(stop):
    started = subprocess.Popen(["sleep", "3600"], start_new_session=True)
    log.info("started", action="test.child", child=started.pid)
    await thread(stop)

log.info("runs", action="test.runs")
what = sys.argv[1]
run_until_signal(globals()[what], deadline_seconds=float(sys.argv[2]), process_ends=what.startswith("left"))
exit_if_threads_remain(0)
"""

MISTAKE = """
from bridge.amqp.publisher import Publisher

async def session(self, connection):
    self._link.opened()
    raise OSError("a mistake of ours")

Publisher.session = session
"""


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start the program above; what it does, and how long its end may take."""
    started: list[Process] = []

    async def starting(what: str, deadline_seconds: float) -> Process:
        process = Process(await start_program(PROGRAM, what, str(deadline_seconds), cwd=tmp_path))
        started.append(process)
        return process

    yield starting
    for process in started:
        process.kill_now()
        await process.ended()


@pytest.mark.parametrize("what", ["thread", "loop", "loop_before", "task"])
async def test_whatever_hangs_the_process_ends_at_its_deadline(start: Start, what: str) -> None:
    """A thread, the loop itself, a task that cannot be cancelled: one line says what it still waited for."""
    hangs_already = what in {"loop_before", "task"}
    # The others hang after the signal only: on a busy machine that, too, takes its time.
    process = await start(what, 0.1 if hangs_already else 2.0)
    await process.says("test.hangs" if hangs_already else "test.runs")
    process.send(signal.SIGTERM)
    said = await process.says("process.abandoned")
    assert await process.ended() == ABANDONED
    if what == "task":
        assert "the one that hangs" in said["tasks"]
    else:
        assert [place for place in said["threads"] if place.endswith(" hang")]


async def test_the_deadline_holds_where_the_role_ends_by_itself(start: Start) -> None:
    """A mistake ends it, and the disk that hangs as well must not keep it."""
    process = await start("by_itself", 0.1)
    await process.says("process.abandoned")
    assert await process.ended() == ABANDONED


@pytest.mark.parametrize("what", ["left_in_a_thread", "left_by_others", "left_in_a_task"])
async def test_what_nobody_waits_for_is_left_behind(start: Start, what: str) -> None:
    """All that was promised is done: an orderly end, long before the deadline."""
    process = await start(what, 3600)
    await process.says("test.hangs")
    process.send(signal.SIGTERM)
    assert await process.ended() == 0


@pytest.mark.parametrize("what", ["thread", "loop_before"])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(start: Start, what: str, second: signal.Signals) -> None:
    """The exit code is that of a program which the signal has ended; there is no traceback."""
    process = await start(what, 3600)
    await process.says("test.runs" if what == "thread" else "test.hangs")
    process.send(signal.SIGTERM)
    await process.says("test.hangs")
    await eventually(lambda: signal.SIGTERM not in signals(process.pid, "ShdPnd"))
    process.send(second)
    assert await process.ended() == 128 + second
    assert not [line for line in process.lines if not line.startswith("{")]


async def test_a_second_signal_ends_what_the_process_has_started_as_well(start: Start) -> None:
    """Such as a receiver's other processes, which have sessions of their own."""
    process = await start("child", 3600)
    child = (await process.says("test.child"))["child"]
    try:
        process.send(signal.SIGTERM)
        await process.says("test.hangs")
        process.send(signal.SIGTERM)
        assert await process.ended() == 128 + signal.SIGTERM
        await eventually(lambda: not alive(child))
    finally:
        if alive(child):
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("role", ["receiver", "worker"])
async def test_a_mistake_in_a_session_ends_the_role_with_its_traceback(
    processes: Processes, overrides: dict[str, Any], tmp_path: Path, role: str
) -> None:
    """It is no lost connection: nobody would hear of it, and the role would connect for ever."""
    (tmp_path / "sitecustomize.py").write_text(MISTAKE)
    process = await processes.start(role, overrides=overrides, environment={"PYTHONPATH": str(tmp_path)})
    said = await process.says("process.failed")
    assert "OSError: a mistake of ours" in said["exception"]
    assert "sitecustomize.py" in said["exception"]
    assert await process.ended() == 1
    assert not [line for line in process.lines if "broker.lost" in line or "broker.retry" in line]
