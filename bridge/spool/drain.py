"""Drains spool files to RabbitMQ: this process's own, and those that ended processes have left behind."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from bridge.amqp.publish_errors import PublishError
from bridge.spool.errors import SpoolError
from bridge.spool.folder import other_files
from bridge.spool.known_refusals import EveryPublishRefusedError
from bridge.spool.listing import read_set_aside
from bridge.spool.orphans import Orphans
from bridge.spool.set_aside_entries import to_read_set_aside
from bridge.telemetry import logs
from bridge.threads import run_abandonable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from bridge.settings.sections import Spool as SpoolSettings
    from bridge.spool.mover import Mover
    from bridge.spool.spool import Spool

log = logs.logger("spool")

_POLL_SECONDS: Final = 1.0
"""The longest time between two looks, also without new entries: set-aside ones may be due."""
_UNUSABLE_SECONDS: Final = 0.2
"""Pause while RabbitMQ accepts nothing."""
_ORPHANS_POLL_SECONDS: Final = 5.0
"""How often it looks for files that ended processes have left."""
_MAX_PAUSE_SECONDS: Final = 10.0
"""Longest backoff while RabbitMQ refuses everything."""
_MAX_COUNTING_SHARE: Final = 0.02
"""Share of the time that counting the set-aside entries may take."""


class Drain:
    """Empties the process's own spool, and orphaned files, whenever RabbitMQ accepts messages."""

    def __init__(
        self, settings: SpoolSettings, *, spool: Spool, mover: Mover, usable: Callable[[], bool]
    ) -> None:
        """Create a drain. It does nothing until `run`.

        Args:
            settings: the folder.
            spool: of this process.
            mover: publishes the entries.
            usable: whether RabbitMQ accepts messages now.
        """
        self._settings = settings
        self._spool = spool
        self._mover = mover
        self._usable = usable
        self._orphans = Orphans()
        self._looked_for_orphans_at = 0.0
        self._postponed: dict[Path, float] = {}
        """Orphaned files with set-aside entries -> when to try them again, by the monotonic clock."""
        self._count_set_aside_at = 0.0

    async def run(self) -> None:
        """Drain until cancelled: the own spool, and concurrently the orphaned files, one after the other."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                self._empty_repeatedly(self._wait_for_entries, self._empty_own), name="drain-own"
            )
            tasks.create_task(
                self._empty_repeatedly(self._wait_for_orphans, self._empty_orphans), name="drain-orphans"
            )

    async def _wait_for_entries(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLL_SECONDS):
                await self._spool.has_entries.wait()
        self._spool.has_entries.clear()
        self._mover.log_refused()

    async def _wait_for_orphans(self) -> None:
        await asyncio.sleep(_POLL_SECONDS)

    async def _empty_repeatedly(
        self, wait: Callable[[], Awaitable[None]], empty: Callable[[], Awaitable[None]]
    ) -> None:
        pause = 0.0
        while True:
            await wait()
            if not self._usable():
                await asyncio.sleep(_UNUSABLE_SECONDS)
                continue
            was_unconfirmed = bool(self._mover.unconfirmed)
            try:
                await empty()
                pause = 0.0
            except EveryPublishRefusedError as refusal:
                pause = min(2 * pause or _POLL_SECONDS, _MAX_PAUSE_SECONDS)
                log.warning(
                    "RabbitMQ refuses every event: draining waits",
                    action="spool.refused_by_broker",
                    wait=pause,
                    error=str(refusal),
                )
                await asyncio.sleep(pause)
            except (PublishError, SpoolError) as error:
                log.warning(
                    "draining was interrupted, and continues later",
                    action="spool.interrupted",
                    error=str(error),
                    unconfirmed=self._mover.unconfirmed.names,
                )
            if was_unconfirmed and not self._mover.unconfirmed:
                log.info("RabbitMQ confirms events again", action="spool.confirmed_again")
            if self._mover.unconfirmed:
                await asyncio.sleep(_POLL_SECONDS)  # each new entry would have it look through all the others

    async def _empty_own(self) -> None:
        if not self._spool.state.entries:
            self._spool.note_set_aside_kinds(())
            return
        try:
            if moved := await self._mover.move_all(self._spool, skip=self._spool.is_held):
                log.info("drained the spool", action="spool.drained", entries=moved)
            if moved := await self._mover.retries.retry(self._spool):
                log.info(
                    "events that RabbitMQ had refused were published",
                    action="spool.refused_published",
                    entries=moved,
                )
        finally:
            await self._count_set_aside()

    async def _count_set_aside(self) -> None:
        """Count the set-aside entries, for health and metrics; less often where that takes long."""
        began = time.monotonic()
        if began < self._count_set_aside_at:
            return
        with suppress(SpoolError):
            self._spool.note_set_aside_kinds(await self._spool.run_task(to_read_set_aside()))
        ended = time.monotonic()
        self._count_set_aside_at = ended + (ended - began) / _MAX_COUNTING_SHARE

    async def _empty_orphans(self) -> None:
        now = time.monotonic()
        if now - self._looked_for_orphans_at < _ORPHANS_POLL_SECONDS:
            return
        self._looked_for_orphans_at = now
        orphaned = await run_abandonable(partial(_other_files, self._settings, self._spool))
        for path in dict.fromkeys((*orphaned, *self._orphans.unclosed)):
            if now < self._postponed.get(path, 0.0):
                continue
            try:
                moved = await self._orphans.drain(path, self._mover)
                postponed = moved is not None and await self._postpone_set_aside(path)
            except SpoolError as error:  # the files after it must not wait for it
                log.warning(
                    "an orphaned spool file cannot be drained", action="spool.orphan_failed", error=str(error)
                )
                continue
            if moved or (moved is not None and not postponed and path not in self._orphans.unclosed):
                log.info(
                    "drained an orphaned spool file",
                    action="spool.orphan_drained",
                    file=str(path),
                    entries=moved,
                )

    async def _postpone_set_aside(self, path: Path) -> bool:
        """Whether a file has set-aside entries. If so, it is left alone until they are due."""
        kinds = await run_abandonable(lambda: read_set_aside(path) if path.exists() else ())
        self._postponed.pop(path, None)
        if kinds:
            wait = min(one.retry_at for one in kinds) / 1000 - time.time()
            self._postponed[path] = time.monotonic() + max(0.0, wait)
        return bool(kinds)


def _other_files(settings: SpoolSettings, spool: Spool) -> list[Path]:
    try:
        return other_files(settings.directory, spool.paths)
    except OSError:
        return []  # the state of the spool already says that the folder cannot be read
