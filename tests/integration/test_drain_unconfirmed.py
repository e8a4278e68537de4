"""A queue does not confirm: the drain does not deliver to all others what it cannot get confirmed, again and again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from bridge.amqp import publisher
from bridge.receiver import readiness
from bridge.spool import drain, unconfirmed
from bridge.spool.drain_publisher import CHUNK
from bridge.tasks import background_task
from tests.integration.test_drain import (
    Parts,
    body,
    folder,
    left_behind,
    opened,
    parts,
    proxy,
    subjects,
)
from tests.support.eventually import eventually
from tests.support.silent_queues import silent_queue

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.support.node import Control
    from tests.support.rabbit import Listener, Rabbit

__all__ = ["folder", "opened", "parts", "proxy"]

EVENTS = CHUNK + 50
PROBES = 3


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times as fast: the connection counts as dead after half a second, not after five."""
    monkeypatch.setattr(publisher, "UNRESPONSIVE_SECONDS", 0.5)
    monkeypatch.setattr(unconfirmed, "FIRST_PAUSE_SECONDS", 0.3)
    monkeypatch.setattr(unconfirmed, "MAX_PAUSE_SECONDS", 1.0)
    monkeypatch.setattr(drain, "_POLL_SECONDS", 0.1)
    monkeypatch.setattr(drain, "_ORPHANS_POLL_SECONDS", 0.5)


def attempts(parts: Parts) -> int:
    """How often the drain has lost its connection, because no confirm came, and has got a new one."""
    connects = parts.metrics.registry.get_sample_value("bridge_broker_connects_total", {"use": "drain"})
    return int(connects or 0)


def unconfirmed_names(parts: Parts) -> int:
    """As Prometheus is told."""
    [number] = re.findall(rb"\nbridge_spool_unconfirmed_names (\S+)\n", parts.metrics.exposition())
    return int(float(number))


async def all_arrive(opened: Listener, *, seen: Iterable[int] = ()) -> None:
    """What is confirmed need not have arrived; what was not confirmed in half a second comes once more."""
    missing = set(range(EVENTS)) - set(seen)
    while missing:
        missing -= set(subjects([await opened.next()]))


async def test_while_a_queue_does_not_confirm_one_event_is_tried_at_a_time(
    parts: Parts, opened: Listener, rabbit: Rabbit, control: Control
) -> None:
    """The other queue gets the first batch, and after it one event for each probe; then, each event once more."""
    await parts.put(*(body(number) for number in range(EVENTS)))
    async with (
        silent_queue(rabbit, control, "opened") as silent,
        background_task(parts.drain.run(), name="drain"),
    ):
        assert subjects(await opened.take(CHUNK)) == list(range(CHUNK))
        # Of a RabbitMQ that stands still a connection is given up before it has read the probe.
        await eventually(lambda: attempts(parts) > 1 + PROBES and opened.waiting >= PROBES)
        probes = [await opened.next() for _ in range(opened.waiting)]
        assert len(probes) <= attempts(parts), (
            "one for each, whichever event's turn it was when the pause ended"
        )
        assert parts.mover.unconfirmed.holds("opened")
        await silent.speak()
        await parts.emptied()
        await all_arrive(opened, seen=subjects(probes))
    assert not parts.mover.unconfirmed


async def test_events_that_do_not_go_to_that_queue_are_drained_meanwhile(
    parts: Parts, opened: Listener, rabbit: Rabbit, control: Control
) -> None:
    """Though there are more of the others in front of them than go at once."""
    await parts.put(*(body(number, "clicked") for number in range(EVENTS)))
    await parts.put(*(body(number) for number in range(EVENTS)))
    async with (
        silent_queue(rabbit, control, "clicked") as silent,
        background_task(parts.drain.run(), name="drain"),
    ):
        await parts.emptied(left=EVENTS)
        await all_arrive(opened)
        await silent.speak()
        await parts.emptied()


async def test_the_names_that_are_not_confirmed_are_counted(
    parts: Parts, rabbit: Rabbit, control: Control
) -> None:
    """The metric is above nothing once a probe was not confirmed either, until all is confirmed again."""
    readiness.export_spool_metrics(parts.spool, parts.mover.unconfirmed, parts.metrics)
    await parts.put(body(1), body(2, "clicked"))
    async with (
        silent_queue(rabbit, control, "opened") as silent,
        background_task(parts.drain.run(), name="drain"),
    ):
        await eventually(lambda: unconfirmed_names(parts) == 1)
        await silent.speak()
        await parts.emptied()
    assert unconfirmed_names(parts) == 0


async def test_an_orphaned_file_is_tried_with_one_event_as_well(
    parts: Parts, opened: Listener, rabbit: Rabbit, control: Control, folder: Path
) -> None:
    """What is known from one file holds for the next: RabbitMQ is the same."""
    orphan = left_behind(folder, 7, [body(number) for number in range(EVENTS)])
    async with (
        silent_queue(rabbit, control, "opened") as silent,
        background_task(parts.drain.run(), name="drain"),
    ):
        await opened.take(CHUNK)
        await eventually(lambda: attempts(parts) > PROBES)
        assert opened.waiting <= attempts(parts)
        await silent.speak()
        await eventually(lambda: not orphan.exists())


async def test_a_refresh_of_the_connection_alone_costs_no_pause(
    parts: Parts, opened: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that was lost once is confirmed by its first probe, and the rest follows in the same pass, in order."""
    # Here all is confirmed, if not always in half a second.
    monkeypatch.setattr(publisher, "UNRESPONSIVE_SECONDS", 20.0)
    parts.mover.unconfirmed.note(confirmed=(), lost=["opened"])
    await parts.put(*(body(number) for number in range(EVENTS)))
    assert await parts.mover.move_all(parts.spool) == EVENTS
    assert subjects(await opened.take(EVENTS)) == list(range(EVENTS))
