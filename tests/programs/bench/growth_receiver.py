"""A receiver with more and more connections, processes, and queues of other services behind it: what an event costs."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from tests.programs.bench import fan_out, usage
from tests.programs.bench.entrants import Contender, bridge_receiver
from tests.programs.bench.growth_curves import Curve, curve
from tests.programs.bench.load import CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.programs.bench.place import Place
    from tests.programs.bench.throughput import Say

CONNECTION_SIZES: Final = (1, 10, 100, 1_000)
PROCESS_SIZES: Final = (1, 2, 3, 4)
SUBSCRIBER_SIZES: Final = (1, 10, 50)
_WARM_UP_SECONDS: Final = 1
_SECONDS: Final = 5
_CONFIRM_WAIT: Final = 30.0
"""Seconds: what an event costs is asked here, and not how soon it is answered, whatever else the machine does."""
_PATIENT: Final = Contender("bridge confirmed", bridge_receiver(confirm_wait=_CONFIRM_WAIT))


async def connections(place: Place, *, sizes: Sequence[int], say: Say) -> list[Curve]:
    """One process, as fast as it answers, from so many connections at once.

    Raises:
        RuntimeError: an answer was wrong, or the receiver does not run.
    """
    return await _curves(
        place, "connections to a receiver", [(size, size, 1) for size in sizes], say=say, per="connection"
    )


async def processes(place: Place, *, sizes: Sequence[int], say: Say) -> list[Curve]:
    """So many processes on one port, as fast as they answer, each with as many connections as one alone has.

    Raises:
        RuntimeError: an answer was wrong, or the receiver does not run.
    """
    cases = [(size, size * CONNECTIONS, size) for size in sizes]
    return await _curves(place, "processes of a receiver", cases, say=say, per="process")


async def subscribers(place: Place, *, sizes: Sequence[int], say: Say) -> list[Curve]:
    """So many queues of other services, each bound to every event, at a constant rate.

    Raises:
        RuntimeError: an answer was wrong, or the receiver does not run.
    """
    rows = await fan_out.measure(
        place, rounds=1, seconds=2 * _SECONDS, subscribers=sizes, contender=_PATIENT, say=say
    )
    if errors := [f"{row.subscribers} subscribers: {error}" for row in rows for error in row.errors]:
        raise RuntimeError("; ".join(errors))
    part = "queues of other services"
    return [
        curve(
            part,
            "receive an event, receiver",
            "us",
            [(row.subscribers, row.receiver_cpu * 1e6) for row in rows],
        ),
        curve(
            part,
            "confirm an event, RabbitMQ, for each copy",
            "us",
            [(row.subscribers, row.broker_cpu / (1 + row.subscribers) * 1e6) for row in rows],
        ),
    ]


async def _curves(
    place: Place, part: str, cases: Sequence[tuple[int, int, int]], *, say: Say, per: str
) -> list[Curve]:
    """Args: what has the size; size, connections and processes of each case; the unit that memory is given for."""
    costs: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    for size, connected, started in cases:
        await place.clean()
        contender = Contender(f"{size}", bridge_receiver(processes=started, confirm_wait=_CONFIRM_WAIT))
        async with contender.start(place) as running:
            first = usage.of_tree(running.pid)
            await place.load.closed(
                running.port, seconds=_WARM_UP_SECONDS, connections=connected, patience=_CONFIRM_WAIT
            )
            await place.rest()
            before, broker = usage.of_tree(running.pid), place.broker.cpu
            answers = await place.load.closed(
                running.port, seconds=_SECONDS, connections=connected, patience=_CONFIRM_WAIT
            )
            await place.rest()
            after, broker = usage.of_tree(running.pid), place.broker.cpu - broker
        if answers.wrong:
            raise RuntimeError(f"{part}, {size}: {answers.wrong}")
        memory = after.peak - first.resident if per == "connection" else after.peak
        found = {
            ("receive an event, receiver", "us"): (after.cpu - before.cpu) / answers.requests * 1e6,
            ("confirm an event, RabbitMQ", "us"): broker / answers.requests * 1e6,
            (f"memory, for each {per}", "kB"): memory / size / 1e3,
        }
        say(f"{part}, {size}: {answers.per_second:,.0f} events/s, {found}")
        for what, cost in found.items():
            costs[what].append((size, cost))
    return [curve(part, what, unit, them) for (what, unit), them in costs.items()]
