"""From the spool to RabbitMQ: oldest first, pipelined, removed only after the confirm, beside live traffic."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from bridge.broker.outcomes import NackedError, PublishError, WindowFullError
from bridge.receiver.orphans import Orphans
from bridge.receiver.spool_folder import SpoolError, others
from bridge.telemetry import logs
from bridge.threads import run_abandonable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bridge.broker.frames import Message
    from bridge.broker.publisher import Publisher
    from bridge.receiver.spool import Spool
    from bridge.receiver.spool_file import Entry
    from bridge.settings import Spool as SpoolSettings

log = logs.logger("spool")

CHUNK: Final = 200
"""Entries in flight at once: enough for RabbitMQ to confirm many together, few beside the live window."""
_LOOK_EVERY_SECONDS: Final = 1.0
_UNUSABLE_SECONDS: Final = 0.2
_ORPHANS_EVERY_SECONDS: Final = 5.0
_LIVE_SHARE: Final = 4.0
"""Beside live traffic the drain works one part of its time in so many, so that it takes a quarter at most."""


class Source(Protocol):
    """Something to drain."""

    async def read(self, after: int, limit: int) -> list[Entry]: ...

    async def remove(self, entries: Sequence[Entry]) -> None: ...


class Mover:
    """Publishes what a source has, and removes from it what RabbitMQ has confirmed."""

    def __init__(
        self,
        publisher: Publisher,
        *,
        compose: Callable[[Entry], Message],
        live: Callable[[], int] = lambda: 0,
    ) -> None:
        """Make a mover.

        Args:
            publisher: where the entries go.
            compose: the message that an entry was to become.
            live: a count that grows with live traffic; while it does, the mover takes its time.
        """
        self._publisher = publisher
        self._compose = compose
        self._live = live
        self._trace = logs.tracer(log)

    async def empty(
        self,
        source: Source,
        *,
        skip: Callable[[Entry], bool] = lambda _: False,
        moved: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Move every entry, oldest first; returns how many went.

        Args:
            source: where the entries are.
            skip: entries to leave alone.
            moved: told how many have gone, chunk by chunk.

        Raises:
            PublishError: RabbitMQ takes no more; what was not confirmed is still there.
            SpoolError: the source cannot be read.
        """
        after = total = 0
        while entries := await source.read(after, CHUNK):
            live = self._live()
            chosen = [entry for entry in entries if not skip(entry)]
            sent, count, spent = await self._move(source, chosen)
            after = entries[-1].id if sent == len(chosen) else chosen[sent].id - 1
            moved(count)
            total += count
            if self._live() != live:
                await asyncio.sleep(spent * (_LIVE_SHARE - 1))
        return total

    async def _move(self, source: Source, entries: Sequence[Entry]) -> tuple[int, int, float]:
        """Publish these, or as many as the window takes; those that are confirmed are removed.

        One that RabbitMQ refuses stays for the next time. Returns how many were sent, how many were
        confirmed, and how many seconds live traffic had to stand back for it.
        """
        began = time.monotonic()
        confirms: list[asyncio.Future[None]] = []
        failures: list[BaseException] = []
        for entry in entries:
            try:
                message = self._compose(entry)
                confirms.append(self._publisher.publish(message))
            except PublishError as error:
                if not (confirms and isinstance(error, WindowFullError)):
                    failures.append(error)
                break
            if self._trace is not None:
                self._trace("publishes from the spool", action="spool.publish", event_id=message.message_id)
        sent_at = time.monotonic()
        outcomes = await asyncio.gather(*confirms, return_exceptions=True)
        confirmed_at = time.monotonic()
        confirmed = [entry for entry, outcome in zip(entries, outcomes, strict=False) if outcome is None]
        await source.remove(confirmed)
        failures += [outcome for outcome in outcomes if outcome is not None]
        for failure in failures:
            if not isinstance(failure, NackedError):
                raise failure
        spent = (sent_at - began) + (
            time.monotonic() - confirmed_at
        )  # waiting for RabbitMQ costs nobody anything
        return len(confirms), len(confirmed), spent


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

    async def run(self) -> None:
        """Drain until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_SECONDS):
                    await self._spool.filled.wait()
            self._spool.filled.clear()
            if not self._usable():
                await asyncio.sleep(_UNUSABLE_SECONDS)
                continue
            try:
                await self._empty_own()
                await self._empty_orphans()
            except (PublishError, SpoolError) as error:
                log.warning("draining goes on later", action="spool.interrupted", error=str(error))

    async def _empty_own(self) -> None:
        if self._spool.state.entries and (
            moved := await self._mover.empty(self._spool, skip=self._spool.is_held)
        ):
            log.info("drained the spool", action="spool.drained", entries=moved)

    async def _empty_orphans(self) -> None:
        now = time.monotonic()
        if now - self._looked_for_orphans_at < _ORPHANS_EVERY_SECONDS:
            return
        self._looked_for_orphans_at = now
        left = await run_abandonable(partial(_others, self._settings, self._spool))
        for path in dict.fromkeys((*left, *self._orphans.kept)):
            try:
                moved = await self._orphans.empty(path, self._mover)
            except SpoolError as error:  # the files after it are not to wait for it
                log.warning("a spool left behind cannot be drained", action="spool.stuck", error=str(error))
                continue
            if moved or (moved is not None and path not in self._orphans.kept):
                log.info("drained a spool left behind", action="spool.adopted", file=str(path), entries=moved)


def _others(settings: SpoolSettings, spool: Spool) -> list[Path]:
    try:
        return others(settings.directory, spool.paths)
    except OSError:
        return []  # the spool's own state says already that the folder cannot be read
