"""`python -m tests.bench.scan`: how fast `bridge replay --dry-run` goes through an archive."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
import uvloop

from bridge.amqp.connection import Link
from bridge.amqp.publisher import Publisher
from bridge.broker import declaring, topology
from bridge.broker.archive_selection import Selection
from bridge.broker.messages import of_body
from bridge.development import private_node
from bridge.development.traffic import Habits, Traffic
from bridge.operations.replay import Order, Progress, replay
from bridge.roles.lifetime import running, until
from bridge.settings import sections as knobs
from bridge.telemetry import logs
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from bridge.settings.sections import Settings

_WINDOW: Final = 5_000
_MESSAGE: Final = "77"
"""The one that is looked for."""


def main(events: Annotated[int, typer.Option(min=100_000, help="In the archive.")] = 200_000) -> None:
    """Fill an archive on a private node, and go through it: for all, for one name, for one message.

    Example: python -m tests.bench.scan --events 1000000
    """
    logs.configure(knobs.Logs(level="warning"))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_measure(events))


async def _measure(events: int) -> None:
    with tempfile.TemporaryDirectory(prefix="bridge-scan-") as directory:
        async with private_node.running(Path(directory)) as node:
            settings = knobs.load(overrides={"rabbitmq": {"urls": [node.url]}})
            await _fill(settings, events)
            for what, selection in (
                ("all events", Selection()),
                ("one name", Selection(names=frozenset({"hard_bounced"}))),
                ("one message", Selection(message_ids=frozenset({_MESSAGE}))),
            ):
                await _scan(settings, what, selection)


async def _fill(settings: Settings, events: int) -> None:
    link = Link(settings.rabbitmq, use="publish", metrics=Metrics())
    publisher = Publisher(link, max_in_flight=_WINDOW, patience=10, metrics=Metrics())

    async def session(connection: AbstractConnection) -> None:
        planned = topology.plan(settings.rabbitmq, suppressing=settings.suppression.events)
        await declaring.declare(connection, topology.without_queues(planned, topology.Names().suppression))
        await publisher.session(connection)

    async with running(link.run(session), name="fill") as filling:
        await until(link.up, filling)
        traffic = Traffic(Habits(), seed=1)
        for begin in range(0, events, _WINDOW):
            for _ in range(min(_WINDOW, events - begin)):
                body = traffic.next().body
                message = of_body(
                    body, exchange=topology.Names().events, received_at=time.time_ns() // 1_000_000
                )
                publisher.send(message, _must_be_confirmed)
            await publisher.settle()


async def _scan(settings: Settings, what: str, selection: Selection) -> None:
    progress = Progress()
    steps: list[tuple[float, int]] = []
    cpu = time.process_time()
    await replay(
        settings,
        Order(selection, None, dry_run=True),
        progress,
        lambda: steps.append((time.perf_counter(), progress.scanned)),
    )
    cpu = time.process_time() - cpu
    # From the first step, so that finding the end of the archive, 2 s whatever its size, does not count.
    (began, before), (ended, after) = steps[0], steps[-1]
    rate = (after - before) / (ended - began)
    sys.stdout.write(
        f"{what}: {progress.selected.total():,} of {progress.scanned:,}, "
        f"{rate:,.0f} a second, {cpu / progress.scanned * 1e6:.1f} us of CPU each\n"
    )


def _must_be_confirmed(error: Exception | None) -> None:
    if error is not None:
        raise error


if __name__ == "__main__":
    typer.run(main)
