"""Whether the receiver can accept events, and where they become durable: for `/readyz` and the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.amqp.connection import LinkState
from bridge.spool.set_aside_entries import REASONS
from bridge.telemetry.health import Readiness

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from bridge.amqp.connection import Link
    from bridge.broker.topology_refusals import TopologyRefusals
    from bridge.spool.spool import Spool
    from bridge.spool.unconfirmed import Unconfirmed
    from bridge.telemetry.metrics import Metrics


def receiver_readiness(
    link: Link,
    spool: Spool,
    refusals: TopologyRefusals,
    close_reason: Callable[[], str],
    tokens: Callable[[], Mapping[str, Any]],
    unconfirmed: Unconfirmed,
) -> Readiness:
    """Ready while RabbitMQ or the spool accepts events. The broker alone may be down.

    Args:
        link: the connection for live traffic.
        spool: takes the events that RabbitMQ cannot take.
        refusals: the refused parts of the topology.
        close_reason: why RabbitMQ closed the last channel; empty once it confirms again.
        tokens: describes the webhook's tokens.
        unconfirmed: the event names of which RabbitMQ confirms nothing, although it is connected.
    """
    state = spool.state
    refused: dict[str, Any] = {"refused": reason} if (reason := close_reason()) else {}
    if names := unconfirmed.held_names:
        refused["unconfirmed"] = names
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


def export_spool_metrics(spool: Spool, unconfirmed: Unconfirmed, metrics: Metrics) -> None:
    """Update the spool's metrics at each scrape; `unconfirmed` is what keeps events in it, as for `receiver_readiness`."""

    def update() -> None:
        state = spool.state
        metrics.spool_entries.set(state.entries)
        metrics.spool_bytes.set(state.bytes)
        metrics.spool_limit_bytes.set(spool.max_bytes)
        metrics.spool_oldest_seconds.set(state.oldest_age)
        for reason, entries in _by_reason(spool).items():
            metrics.spool_set_aside.labels(reason).set(entries)
        metrics.spool_unconfirmed.set(len(unconfirmed.held_names))
        metrics.spool_refusing.set(not state.writable)

    metrics.before_scrape(update)


def _by_reason(spool: Spool) -> dict[str, int]:
    """Number of set-aside entries for each reason."""
    return {
        reason: sum(one.entries for one in spool.set_aside_kinds if one.reason == reason)
        for reason in REASONS
    }
