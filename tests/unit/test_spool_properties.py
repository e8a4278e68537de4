"""Whatever is done to a spool, and whenever it crashes: what was put and not removed is there, and nothing else."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bridge.settings.sections import Spool as SpoolSettings
from bridge.spool import stall, thread
from bridge.spool.entries import OVERHEAD
from bridge.spool.listing import read_contents
from bridge.spool.spool import Spool

if TYPE_CHECKING:
    from random import Random

    from bridge.spool.entries import SpoolEntry

Bodies = list[tuple[int, bytes]]

BODIES = st.lists(
    st.tuples(
        st.integers(0, 2**63 - 1),
        st.builds(bytes.__mul__, st.binary(max_size=20), st.sampled_from([1, 300])),
    ),
    min_size=1,
    max_size=6,
)
"""Received at, and body: below and above the size of a page."""
PATIENCE_SECONDS = 90.0


class SpoolMachine(RuleBasedStateMachine):
    """The spool beside a dictionary that cannot crash."""

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._root = Path(tempfile.mkdtemp(prefix="bridge-spool-"))
        self._folders = 0
        self._open = AsyncExitStack()
        self._kept: dict[int, SpoolEntry] = {}

    @initialize()
    def begin(self) -> None:
        self._open_in(self._root / "0")

    @rule(bodies=BODIES)
    def put_at_once(self, bodies: Bodies) -> None:
        """Many wait together, and are kept in the order in which they came."""

        async def put() -> list[SpoolEntry]:
            return await asyncio.gather(*(self._spool.put(at, body) for at, body in bodies))

        entries = self._runner.run(put())
        assert [(entry.received_at, entry.body) for entry in entries] == bodies
        self._kept |= {entry.id: entry for entry in entries}

    @precondition(lambda self: self._kept)
    @rule(choose=st.randoms(use_true_random=False))
    def remove_some(self, choose: Random) -> None:
        """Those that RabbitMQ has confirmed, in any order."""
        gone = choose.sample(list(self._kept.values()), k=choose.randint(1, len(self._kept)))
        self._runner.run(self._spool.remove(gone))
        for entry in gone:
            del self._kept[entry.id]

    @precondition(lambda self: self._kept)
    @rule()
    def confirm_late(self) -> None:
        """Nobody waits for the removal; what is asked afterwards sees it."""
        entry = next(iter(self._kept.values()))

        async def settle() -> None:
            self._spool.remove_confirmed(entry)

        self._runner.run(settle())
        del self._kept[entry.id]

    @precondition(lambda self: self._kept)
    @rule(bodies=BODIES)
    def put_and_remove_at_once(self, bodies: Bodies) -> None:
        """One commit has both."""
        gone = next(iter(self._kept.values()))

        async def both() -> list[SpoolEntry]:
            self._spool.remove_confirmed(gone)
            return await asyncio.gather(*(self._spool.put(at, body) for at, body in bodies))

        entries = self._runner.run(both())
        del self._kept[gone.id]
        self._kept |= {entry.id: entry for entry in entries}

    @precondition(lambda self: self._kept)
    @rule()
    def remove_twice(self) -> None:
        """A removal that comes twice takes nothing else, and does not upset the count."""
        entry = next(iter(self._kept.values()))
        self._runner.run(self._spool.remove([entry]))
        self._runner.run(self._spool.remove([entry]))
        del self._kept[entry.id]

    @rule(bodies=BODIES)
    def crash_with_puts_under_way(self, bodies: Bodies) -> None:
        """The files as they are at a moment in the middle: all that was answered, and of the rest a beginning."""
        crashed = self._next_folder()

        async def put_and_crash() -> list[asyncio.Task[SpoolEntry]]:
            puts = [asyncio.create_task(self._spool.put(at, body)) for at, body in bodies]
            await puts[0]
            answered = [put for put in puts if put.done()]
            self._copy_to(crashed)
            await asyncio.gather(*puts)
            return answered

        answered = self._runner.run(put_and_crash())
        self._close()
        self._open_in(crashed)
        found = self._read_all()
        kept = [*self._kept.values(), *(put.result() for put in answered)]
        assert found[: len(kept)] == kept
        more = [(entry.received_at, entry.body) for entry in found[len(self._kept) :]]
        assert more == bodies[: len(more)]
        self._kept = {entry.id: entry for entry in found}

    @rule()
    def crash(self) -> None:
        crashed = self._next_folder()
        self._runner.run(
            self._spool.read(0, 1)
        )  # what was only handed over, as a late confirm, may come later
        self._copy_to(crashed)
        self._close()
        self._open_in(crashed)

    @rule()
    def reopen(self) -> None:
        """An orderly end, and the next process on the same folder."""
        self._close()
        self._open_in(self._folder)

    @invariant()
    def exactly_what_was_put_and_not_removed_is_there(self) -> None:
        """In order, by the byte, and in the state that readiness and metrics show."""
        kept = list(self._kept.values())
        assert self._read_all() == kept
        state = self._spool.state
        assert state.writable
        assert (state.entries, state.bytes) == (len(kept), sum(len(one.body) + OVERHEAD for one in kept))
        assert (state.oldest is None) == (not kept)
        assert read_contents(self._spool.paths[0]).entries == len(kept)

    def teardown(self) -> None:
        self._close()
        self._runner.close()
        shutil.rmtree(self._root)

    def _read_all(self) -> list[SpoolEntry]:
        """Piece by piece, as the drain does."""

        async def read() -> list[SpoolEntry]:
            found: list[SpoolEntry] = []
            while piece := await self._spool.read(found[-1].id if found else 0, 3):
                found += piece
            return found

        return self._runner.run(read())

    def _open_in(self, folder: Path) -> None:
        self._folder = folder
        self._open = AsyncExitStack()

        async def enter() -> Spool:
            opening = Spool.open(SpoolSettings(directory=folder, min_free_bytes=0))
            return await self._open.enter_async_context(opening)

        self._spool = self._runner.run(enter())

    def _close(self) -> None:
        self._runner.run(self._open.aclose())

    def _next_folder(self) -> Path:
        self._folders += 1
        folder = self._root / str(self._folders)
        folder.mkdir()
        return folder

    def _copy_to(self, folder: Path) -> None:
        for suffix in ("", "-wal"):
            file = self._spool.paths[0]
            shutil.copy(file.with_name(file.name + suffix), folder)


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes a second for one of thousands of commits does not hang, and each end and start waits for it."""
    monkeypatch.setattr(stall, "STALLED_SECONDS", PATIENCE_SECONDS)
    for name in ("_OPENING_SECONDS", "_ENDING_SECONDS"):
        monkeypatch.setattr(thread, name, PATIENCE_SECONDS)


@pytest.mark.usefixtures("_patient")
def test_the_spool_returns_exactly_what_was_put() -> None:
    """Hypothesis looks for a sequence of put, confirm, crash and reopen after which the spool is wrong."""
    run_state_machine_as_test(
        SpoolMachine, settings=settings(max_examples=25, stateful_step_count=20, deadline=None)
    )
