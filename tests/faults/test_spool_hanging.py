"""A disk that does not answer: whoever asks is refused at once, health says so, and no end or start waits for it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from bridge.settings.sections import Spool as SpoolSettings
from bridge.spool import spool as spool_module
from bridge.spool import stall, thread
from bridge.spool.errors import SpoolError, SpoolFullError
from bridge.spool.jobs import JobQueue
from bridge.spool.listing import read_contents
from bridge.spool.spool import Spool
from bridge.spool.spool_file import SpoolFile
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from pathlib import Path

pytestmark = pytest.mark.quick

PATIENCE_SECONDS = 90


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts as hanging is a matter of seconds; here it is less."""
    monkeypatch.setattr(stall, "STALLED_SECONDS", 0.2)
    for name in ("_OPENING_SECONDS", "_ENDING_SECONDS", "_MAINTENANCE_SECONDS"):
        monkeypatch.setattr(thread, name, 0.2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Spool]:
    settings = SpoolSettings(directory=folder, min_free_bytes=0)
    async with asyncio.timeout(PATIENCE_SECONDS), Spool.open(settings) as spool:
        yield spool


async def usable(spool: Spool) -> None:
    """A real disk may take longer than a fifth of a second to make the file."""
    await eventually(lambda: spool.state.writable)


@contextmanager
def hanging(monkeypatch: pytest.MonkeyPatch, what: str) -> Iterator[threading.Event]:
    """A call of the file that does not return before the event is set."""
    answers = threading.Event()
    call = getattr(SpoolFile, what)

    def hang(*arguments: Any, **named: Any) -> Any:
        answers.wait()
        return call(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(SpoolFile, what, hang)
        try:
            yield answers
        finally:
            answers.set()


async def test_nobody_waits_for_a_disk_that_hangs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a second the spool is not writable, refuses at once, and is writable again when the disk answers."""
    # Among others: a real disk that is slow for a fifth of a second, as when the file is made, is told of, too.
    with capture_logs() as said:
        async with opened(folder) as spool:
            await usable(spool)
            with hanging(monkeypatch, "write"):
                first = asyncio.create_task(spool.put(1, b"first"))
                await eventually(lambda: not spool.state.writable)
                assert "the disk has not answered" in spool.state.reason
                outcomes: list[object] = []
                spool.enqueue(2, b"second", outcomes.append)
                [refused] = outcomes
                assert isinstance(refused, SpoolError)
                await eventually(lambda: told(said)[-1:] == ["spool.stalled"])
            entry = await first
            await eventually(lambda: spool.state.writable)
            await eventually(lambda: told(said)[-1:] == ["spool.answering_again"])
            assert await spool.read(0, 10) == [entry]
    assert all(one != following for one, following in pairwise(told(said))), "each is said once"


@pytest.mark.parametrize("what", ["in_place", "contents", "oldest"])
async def test_it_need_not_be_a_write_that_hangs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A folder that cannot even be looked at says the same, and nobody has to ask it for anything."""
    async with opened(folder) as spool:
        await usable(spool)
        await spool.put(1, b"first")
        await usable(spool)  # else the next is refused before it comes to the file
        with hanging(monkeypatch, what):
            if what != "in_place":
                spool._thread.file._tracker.is_exact = what != "contents"
                spool.enqueue(2, b"second", lambda _: None)
            await eventually(lambda: not spool.state.writable)
            assert "the disk has not answered" in spool.state.reason


async def test_who_is_told_that_a_slow_disk_has_written_can_write_again_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is right before anybody asks: no event is refused because of a wait that is over."""
    finish, seen = JobQueue.finish, threading.Event()

    def finish_slowly(*arguments: Any) -> None:
        finish(*arguments)
        seen.wait()

    async with opened(folder) as spool:
        await usable(spool)
        monkeypatch.setattr(JobQueue, "finish", finish_slowly)
        try:
            with hanging(monkeypatch, "write") as answers:
                writing = asyncio.create_task(spool.put(1, b"first"))
                await eventually(lambda: not spool.state.writable)
                answers.set()
                await writing
            assert spool.state.writable
        finally:
            seen.set()


async def test_so_many_wait_and_no_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the second before the disk is known to hang, their number has a bound, and so have their bytes."""
    monkeypatch.setattr(spool_module, "_MAX_WAITING", 10)
    async with opened(folder) as spool:
        await usable(spool)
        with hanging(monkeypatch, "write") as answers:
            outcomes: list[object] = []
            for number in range(15):
                spool.enqueue(number, b"%d" % number, outcomes.append)
            assert [type(one) for one in outcomes] == [SpoolFullError] * 5
            monkeypatch.setattr(spool_module, "_MAX_WAITING", 1000)
            monkeypatch.setattr(spool_module, "_MAX_WAITING_BYTES", 2000)
            spool.enqueue(16, bytes(1500), outcomes.append)
            assert len(outcomes) == 6
            answers.set()
            await eventually(lambda: len(outcomes) == 16)
        assert spool.state.entries == 10


async def test_the_end_does_not_wait_for_a_disk_that_hangs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits is told that nothing is written, and the log says what was left behind."""
    # The event must be taken, however slow the real disk is: it is the end that has no patience here.
    monkeypatch.setattr(stall, "STALLED_SECONDS", 60.0)
    with hanging(monkeypatch, "write") as answers, capture_logs() as said:
        async with opened(folder) as spool:
            await usable(spool)
            waiting = asyncio.create_task(spool.put(1, b"first"))
            await asyncio.sleep(0)
        with pytest.raises(SpoolError, match="the disk"):
            await waiting
        assert "spool.abandoned" in [one["action"] for one in said]
        answers.set()
        await eventually(lambda: not alive("spool"))
    assert read_contents(folder / "spool-0.sqlite3").entries == 1


async def test_the_start_does_not_wait_for_a_folder_that_hangs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins without a spool, says so, and has it when the folder answers."""
    with hanging(monkeypatch, "contents") as answers:
        async with opened(folder) as spool:
            assert not spool.state.writable
            await eventually(lambda: "the disk has not answered" in spool.state.reason)
            with pytest.raises(SpoolError, match="the disk has not answered"):
                await spool.put(1, b"refused")
            assert spool.paths == []
            answers.set()
            await eventually(lambda: spool.state.writable)
            await spool.put(2, b"taken")


def told(said: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the log says of how the disk answers."""
    actions = [one["action"] for one in said]
    return [action for action in actions if action in {"spool.stalled", "spool.answering_again"}]


def alive(name: str) -> bool:
    return any(thread.name == name for thread in threading.enumerate())
