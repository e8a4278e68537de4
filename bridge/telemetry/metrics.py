"""What is counted, one object for each process, handed to the rooms that count."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bridge.events import KNOWN_NAMES, MALFORMED

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """All instruments of a role, on a registry of their own, so that a test may have several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.answers = Counter(
            "bridge_answers", "Requests, by what was answered", ["answer"], registry=self.registry
        )
        self.answer_seconds = Histogram(
            "bridge_answer_seconds",
            "From a request's head to its answer",
            buckets=_FAST,
            registry=self.registry,
        )
        self.received = Counter(
            "bridge_events_received", "Events accepted, by name", ["name"], registry=self.registry
        )
        self.publishes = Counter(
            "bridge_publishes", "Publishes to RabbitMQ, by outcome", ["outcome"], registry=self.registry
        )
        self.broker_up = Gauge(
            "bridge_broker_up",
            "1 while a connection to RabbitMQ is open, by use",
            ["use"],
            registry=self.registry,
        )
        self.connects = Counter(
            "bridge_broker_connects", "Connections opened to RabbitMQ", ["use"], registry=self.registry
        )
        self.spool_entries = Gauge(
            "bridge_spool_entries", "Events that wait in the spool", registry=self.registry
        )
        self.spool_bytes = Gauge("bridge_spool_bytes", "Bytes in the spool", registry=self.registry)
        self.spool_oldest_seconds = Gauge(
            "bridge_spool_oldest_seconds", "Age of the spool's oldest event", registry=self.registry
        )
        self.handled = Counter(
            "bridge_events_handled", "Messages the worker is done with", ["outcome"], registry=self.registry
        )
        self.dead_letters = Counter(
            "bridge_dead_letters", "Messages parked, by reason", ["reason"], registry=self.registry
        )
        self.provider_calls = Counter(
            "bridge_provider_calls", "Calls to the provider, by status", ["status"], registry=self.registry
        )
        self.pauses = Counter(
            "bridge_pauses", "Times work waited for a neighbour", ["neighbour"], registry=self.registry
        )
        self.relayed = Counter(
            "bridge_changes_relayed", "Changes of the list published", registry=self.registry
        )

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)


def name_label(name: str) -> str:
    """Unknown names share one label value, so that a caller cannot grow the metrics without bound."""
    return name if name in KNOWN_NAMES or name == MALFORMED else "other"
