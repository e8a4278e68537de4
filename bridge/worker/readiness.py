"""Whether the worker can do its work; for `/readyz`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.broker.connection import LinkState
from bridge.telemetry.health import Readiness

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.broker.connection import Link
    from bridge.worker.neighbours import Neighbour


def of_worker(publish: Link, consume: Link, neighbours: Iterable[Neighbour]) -> Readiness:
    """Ready while both connections are up and no breaker is open.

    It takes messages on one, and parts with them or relays on the other; with a neighbour away it waits.
    """
    known = tuple(neighbours)
    links_up = publish.state is LinkState.UP and consume.state is LinkState.UP
    return Readiness(
        ready=links_up and all(neighbour.well for neighbour in known),
        parts={"publish": publish.description(), "consume": consume.description()}
        | {neighbour.name: neighbour.description() for neighbour in known},
    )
