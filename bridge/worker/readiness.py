"""The worker's readiness, for `/readyz`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.amqp.connection import LinkState
from bridge.telemetry.health import Readiness

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.amqp.connection import Link
    from bridge.broker.topology_refusals import TopologyRefusals
    from bridge.worker.dependencies import Dependency


def worker_readiness(
    publish: Link, consume: Link, dependencies: Iterable[Dependency], refusals: TopologyRefusals
) -> Readiness:
    """Ready while both connections are up, no breaker is open, and no call to a dependency hangs.

    The worker consumes on one connection, and publishes failed messages and changes on the other.
    """
    known = tuple(dependencies)
    links_up = publish.state is LinkState.UP and consume.state is LinkState.UP
    return Readiness(
        ready=links_up and all(dependency.answering for dependency in known),
        parts={"publish": publish.description(), "consume": consume.description()}
        | {dependency.name: dependency.description() for dependency in known}
        | refusals.description(),
    )
