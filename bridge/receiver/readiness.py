"""Whether the receiver can take events durably, and where; for `/readyz` and the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.broker.connection import LinkState
from bridge.telemetry.health import Readiness

if TYPE_CHECKING:
    from bridge.broker.connection import Link
    from bridge.broker.refusals import Refusals
    from bridge.receiver.spool import Spool
    from bridge.telemetry.metrics import Metrics


def of_receiver(link: Link, spool: Spool, refusals: Refusals) -> Readiness:
    """Ready while either place takes events: a broker that is away is no reason to turn the provider away."""
    state = spool.state
    return Readiness(
        ready=link.state is LinkState.UP or state.writable,
        parts={
            "broker": link.description(),
            "spool": {
                "writable": state.writable,
                "reason": state.reason,
                "entries": state.entries,
                "bytes": state.bytes,
                "oldest_age": round(state.oldest_age, 1),
            },
            **refusals.description(),
        },
    )


def measure(spool: Spool, metrics: Metrics) -> None:
    """Let the metrics ask the spool whenever they are read."""

    def look() -> None:
        state = spool.state
        metrics.spool_entries.set(state.entries)
        metrics.spool_bytes.set(state.bytes)
        metrics.spool_oldest_seconds.set(state.oldest_age)

    metrics.before_reading(look)
