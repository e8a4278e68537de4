"""Whether the receiver can take events durably, and where; for `/readyz` and the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.amqp.connection import LinkState
from bridge.spool.refused_entries import REASONS
from bridge.telemetry.health import Readiness

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from bridge.amqp.connection import Link
    from bridge.broker.topology_refusals import Refusals
    from bridge.spool.spool import Spool
    from bridge.telemetry.metrics import Metrics


def of_receiver(
    link: Link,
    spool: Spool,
    refusals: Refusals,
    refusal: Callable[[], str],
    tokens: Callable[[], Mapping[str, Any]],
) -> Readiness:
    """Ready while either place takes events: a broker that is away is no reason to turn the provider away.

    Args:
        link: the connection for live traffic.
        spool: where events go that RabbitMQ does not take.
        refusals: what it refuses of the topology.
        refusal: what RabbitMQ said when it closed the channel, until it takes events again.
        tokens: what there is to say of the webhook's tokens: see `of_tokens`.
    """
    state = spool.state
    refused = {"refused": said} if (said := refusal()) else {}
    return Readiness(
        ready=link.state is LinkState.UP or state.writable,
        parts={
            "broker": link.description() | refused,
            "spool": {
                "writable": state.writable,
                "reason": state.reason,
                "entries": state.entries,
                "bytes": state.bytes,
                "oldest_age": round(state.oldest_age, 1),
                "set_aside": {reason: entries for reason, entries in _by_reason(spool).items() if entries},
            },
            "tokens": tokens(),
            **refusals.description(),
        },
    )


def of_tokens(valid: int, problem: str) -> dict[str, Any]:
    """How many there are; and why their file cannot be used, while they are kept all the same."""
    return {"valid": valid} | ({"state": "kept", "reason": problem} if problem else {})


def measure(spool: Spool, metrics: Metrics) -> None:
    """Let the metrics ask the spool whenever they are read."""

    def look() -> None:
        state = spool.state
        metrics.spool_entries.set(state.entries)
        metrics.spool_bytes.set(state.bytes)
        metrics.spool_limit_bytes.set(spool.max_bytes)
        metrics.spool_oldest_seconds.set(state.oldest_age)
        for reason, entries in _by_reason(spool).items():
            metrics.spool_set_aside.labels(reason).set(entries)
        metrics.spool_refusing.set(not state.writable)

    metrics.before_reading(look)


def _by_reason(spool: Spool) -> dict[str, int]:
    """How many entries are set aside for each reason."""
    return {reason: sum(one.entries for one in spool.aside if one.reason == reason) for reason in REASONS}
