"""`python -m tests.programs.bench.scan`: how fast `bridge replay --dry-run` goes through an archive."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
import uvloop

from bridge.amqp.connection import Link
from bridge.amqp.publisher import Publisher
from bridge.broker import declaring, topology, topology_plan
from bridge.broker.archive_selection import ArchiveSelection
from bridge.broker.messages import message_from_body
from bridge.development import private_node
from bridge.development.traffic import Traffic, TrafficProfile
from bridge.operations.archive_scan import ArchiveProgress
from bridge.operations.replay import ReplayOrder, replay
from bridge.settings import sections
from bridge.settings.loading import load_settings
from bridge.tasks import background_task, wait_while_running
from bridge.telemetry import logs
from bridge.telemetry.metrics import Metrics
from tests.programs import program

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from bridge.settings.sections import Settings

_WINDOW: Final = 5_000
_MESSAGE: Final = "77"
"""The one that is looked for."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """One way through the archive."""

    selected: int
    scanned: int
    per_second: float
    """Events that were gone through; 0 where there was one step only."""
    cpu: float
    """Seconds of this process."""


def main(events: Annotated[int, typer.Option(min=100_000, help="In the archive.")] = 200_000) -> None:
    """Fill an archive on a private node, and go through it: for all, for one name, for one message.

    Example: python -m tests.programs.bench.scan --events 1000000
    """
    logs.configure(sections.Logs(level="warning"))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_measure(events))


async def _measure(events: int) -> None:
    with tempfile.TemporaryDirectory(prefix="bridge-scan-") as directory:
        async with private_node.running_node(Path(directory)) as node:
            settings = load_settings(overrides={"rabbitmq": {"urls": [node.url]}})
            await fill(settings, events)
            for what, selection in (
                ("all events", ArchiveSelection()),
                ("one name", ArchiveSelection(names=frozenset({"hard_bounced"}))),
                ("one message", ArchiveSelection(message_ids=frozenset({_MESSAGE}))),
            ):
                found = await scan(settings, selection)
                sys.stdout.write(
                    f"{what}: {found.selected:,} of {found.scanned:,}, {found.per_second:,.0f} a second, "
                    f"{found.cpu / found.scanned * 1e6:.1f} us of CPU each\n"
                )


async def fill(settings: Settings, events: int) -> None:
    """Publish so many events to the archive, each confirmed, with no queue of the worker behind."""
    link = Link(settings.rabbitmq, use="publish", metrics=Metrics())
    publisher = Publisher(link, max_in_flight=_WINDOW, stalled_after=10, metrics=Metrics())

    async def session(connection: AbstractConnection) -> None:
        planned = topology_plan.plan(settings.rabbitmq, suppressing=settings.suppression.used_events)
        await declaring.declare(connection, topology.without_queues(planned, topology.Names().suppression))
        await publisher.session(connection)

    async with background_task(link.run(session), name="fill") as filling:
        await wait_while_running(link.up, filling)
        traffic = Traffic(TrafficProfile(), seed=1)
        for begin in range(0, events, _WINDOW):
            for _ in range(min(_WINDOW, events - begin)):
                body = traffic.next().body
                message = message_from_body(
                    body, exchange=topology.Names().events, received_at=time.time_ns() // 1_000_000
                )
                publisher.send(message, _must_be_confirmed)
            await publisher.wait_until_idle()


async def scan(settings: Settings, selection: ArchiveSelection) -> Scanned:
    """Go through the whole archive, and publish nothing."""
    progress = ArchiveProgress()
    steps: list[tuple[float, int]] = []
    cpu = time.process_time()
    await replay(
        settings,
        ReplayOrder(selection, None, dry_run=True),
        progress,
        lambda: steps.append((time.perf_counter(), progress.scanned)),
    )
    cpu = time.process_time() - cpu
    # From the first step, so that finding the end of the archive, 2 s whatever its size, does not count.
    (began, before), (ended, after) = steps[0], steps[-1]
    rate = (after - before) / (ended - began) if ended > began else 0.0
    return Scanned(progress.selected.total(), progress.scanned, rate, cpu)


def _must_be_confirmed(error: Exception | None) -> None:
    if error is not None:
        raise error


if __name__ == "__main__":
    program.run(main)
