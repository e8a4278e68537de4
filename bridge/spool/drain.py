"""When the spool is drained, and whose: the own, and those that other processes have left behind."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from bridge.amqp.publish_errors import PublishError
from bridge.spool.folder import SpoolError, others
from bridge.spool.orphans import Orphans
from bridge.spool.refused_entries import look, to_look
from bridge.spool.refused_events import BrokerRefusesError
from bridge.telemetry import logs
from bridge.threads import run_abandonable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from bridge.settings.sections import Spool as SpoolSettings
    from bridge.spool.mover import Mover
    from bridge.spool.spool import Spool

log = logs.logger("spool")

_LOOK_EVERY_SECONDS: Final = 1.0
_UNUSABLE_SECONDS: Final = 0.2
_ORPHANS_EVERY_SECONDS: Final = 5.0
_LONGEST_PAUSE_SECONDS: Final = 10.0
"""While RabbitMQ takes nothing: what is mended then is noticed so soon."""
_LOOK_ASIDE_SHARE: Final = 50.0
"""Counting what is set aside takes one part of the time in so many at the most."""


class Drain:
    """Empties the own spool, and those that other processes have left, whenever RabbitMQ takes messages."""

    def __init__(
        self, settings: SpoolSettings, *, spool: Spool, mover: Mover, usable: Callable[[], bool]
    ) -> None:
        """Make a drain that rests until `run`.

        Args:
            settings: the folder.
            spool: our own.
            mover: moves entries to RabbitMQ.
            usable: whether RabbitMQ takes messages now.
        """
        self._settings = settings
        self._spool = spool
        self._mover = mover
        self._usable = usable
        self._orphans = Orphans()
        self._looked_for_orphans_at = 0.0
        self._resting: dict[Path, float] = {}
        """Files left behind in which something is set aside -> when to look again, by the monotonic clock."""
        self._look_aside_at = 0.0

    async def run(self) -> None:
        """Drain until cancelled: the own spool, and beside it, in turns, what was left behind."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._work(self._something_to_do, self._empty_own), name="drain-own")
            both.create_task(self._work(self._a_while, self._empty_orphans), name="drain-orphans")

    async def _something_to_do(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_EVERY_SECONDS):
                await self._spool.filled.wait()
        self._spool.filled.clear()
        self._mover.tell()

    async def _a_while(self) -> None:
        await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def _work(self, rest: Callable[[], Awaitable[None]], empty: Callable[[], Awaitable[None]]) -> None:
        pause = 0.0
        while True:
            await rest()
            if not self._usable():
                await asyncio.sleep(_UNUSABLE_SECONDS)
                continue
            try:
                await empty()
                pause = 0.0
            except BrokerRefusesError as refusal:
                pause = min(2 * pause or _LOOK_EVERY_SECONDS, _LONGEST_PAUSE_SECONDS)
                log.warning(
                    "RabbitMQ takes nothing, draining waits",
                    action="spool.refused_by_broker",
                    wait=pause,
                    error=str(refusal),
                )
                await asyncio.sleep(pause)
            except (PublishError, SpoolError) as error:
                log.warning("draining goes on later", action="spool.interrupted", error=str(error))

    async def _empty_own(self) -> None:
        if not self._spool.state.entries:
            self._spool.seen_aside(())
            return
        try:
            if moved := await self._mover.empty(self._spool, skip=self._spool.is_held):
                log.info("drained the spool", action="spool.drained", entries=moved)
            if moved := await self._mover.retry(self._spool):
                log.info("what was set aside goes", action="spool.taken_again", entries=moved)
        finally:
            await self._look_aside()

    async def _look_aside(self) -> None:
        """What is set aside, for health and metrics; where that takes long, it is looked at less often."""
        began = time.monotonic()
        if began < self._look_aside_at:
            return
        with suppress(SpoolError):
            self._spool.seen_aside(await self._spool.do(to_look()))
        ended = time.monotonic()
        self._look_aside_at = ended + _LOOK_ASIDE_SHARE * (ended - began)

    async def _empty_orphans(self) -> None:
        now = time.monotonic()
        if now - self._looked_for_orphans_at < _ORPHANS_EVERY_SECONDS:
            return
        self._looked_for_orphans_at = now
        left = await run_abandonable(partial(_others, self._settings, self._spool))
        for path in dict.fromkeys((*left, *self._orphans.kept)):
            if now < self._resting.get(path, 0.0):
                continue
            try:
                moved = await self._orphans.empty(path, self._mover)
                rests = moved is not None and await self._rest(path)
            except SpoolError as error:  # the files after it are not to wait for it
                log.warning("a spool left behind cannot be drained", action="spool.stuck", error=str(error))
                continue
            if moved or (moved is not None and not rests and path not in self._orphans.kept):
                log.info("drained a spool left behind", action="spool.adopted", file=str(path), entries=moved)

    async def _rest(self, path: Path) -> bool:
        """Whether there is something set aside in a file; it is left alone until that is to be tried."""
        aside = await run_abandonable(lambda: look(path) if path.exists() else ())
        self._resting.pop(path, None)
        if aside:
            wait = min(one.retry_at for one in aside) / 1000 - time.time()
            self._resting[path] = time.monotonic() + max(0.0, wait)
        return bool(aside)


def _others(settings: SpoolSettings, spool: Spool) -> list[Path]:
    try:
        return others(settings.directory, spool.paths)
    except OSError:
        return []  # the spool's own state says already that the folder cannot be read
