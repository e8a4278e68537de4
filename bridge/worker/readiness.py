"""Whether the worker can do its work; for `/readyz`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.amqp.connection import LinkState
from bridge.telemetry.health import Readiness

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.amqp.connection import Link
    from bridge.broker.topology_refusals import Refusals
    from bridge.worker.dependencies import Dependency


def of_worker(
    publish: Link, consume: Link, dependencies: Iterable[Dependency], refusals: Refusals
) -> Readiness:
    """Ready while both connections are up, and each dependency answers what it is asked.

    It takes messages on one, and moves them or relays on the other. While a breaker is open it waits, and while a call
    hangs nothing gets done either.
    """
    known = tuple(dependencies)
    links_up = publish.state is LinkState.UP and consume.state is LinkState.UP
    return Readiness(
        ready=links_up and all(dependency.answering for dependency in known),
        parts={"publish": publish.description(), "consume": consume.description()}
        | {dependency.name: dependency.description() for dependency in known}
        | refusals.description(),
    )
