"""Whether the worker can do its work; for `/readyz`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.broker.connection import LinkState
from bridge.telemetry.health import Readiness

if TYPE_CHECKING:
    from bridge.broker.connection import Link


def of_worker(publish: Link, consume: Link) -> Readiness:
    """Ready while both connections are up: it takes messages on one, and buries or relays on the other."""
    return Readiness(
        ready=publish.state is LinkState.UP and consume.state is LinkState.UP,
        parts={"publish": publish.description(), "consume": consume.description()},
    )
