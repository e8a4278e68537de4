"""What is counted, one object for each process, handed to the rooms that count; and the sum over several processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from bridge.events import KNOWN_NAMES, MALFORMED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from prometheus_client import Metric

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """All instruments of a role, on a registry of their own, so that a test may have several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._measures = _Measures()
        self.registry.register(self._measures)  # the first, so that it is asked before all that it measures
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
            multiprocess_mode="livemin",
        )
        self.connects = Counter(
            "bridge_broker_connects", "Connections opened to RabbitMQ", ["use"], registry=self.registry
        )
        self.spool_entries = Gauge(
            "bridge_spool_entries",
            "Events that wait in the spool",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.spool_bytes = Gauge(
            "bridge_spool_bytes", "Bytes in the spool", registry=self.registry, multiprocess_mode="livesum"
        )
        self.spool_oldest_seconds = Gauge(
            "bridge_spool_oldest_seconds",
            "Age of the spool's oldest event",
            registry=self.registry,
            multiprocess_mode="livemax",
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
        self.breaker_state = Gauge(
            "bridge_breaker_state",
            "Circuit breaker of a neighbour: 0 closed, 1 half-open, 2 open",
            ["neighbour"],
            registry=self.registry,
        )
        self.stuck = Counter(
            "bridge_worker_stuck",
            "Times the worker was found stuck, by what",
            ["what"],
            registry=self.registry,
        )
        self.relayed = Counter(
            "bridge_changes_relayed", "Changes of the list published", registry=self.registry
        )

    def before_reading(self, measure: Callable[[], None]) -> None:
        """Have this called each time before the values are read: it sets what is not worth keeping up to date."""
        self._measures.calls.append(measure)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)


class SharedMetrics:
    """What the receivers of a crew count, added up; for the process that counts nothing but their restarts."""

    def __init__(self, directory: Path) -> None:
        """Read from this folder, in which each of them counts.

        Counters and histograms go on through a restart. Of the gauges, which are those of living processes, the sum is
        shown, or for `broker_up` the least, and for an age the greatest.
        """
        self._directory = str(directory)
        self.registry = CollectorRegistry()
        MultiProcessCollector(self.registry, self._directory)  # type: ignore[no-untyped-call]  # it has no types
        self.restarts = Counter(
            "bridge_receiver_restarts",
            "Processes of the receiver that died and were replaced",
            registry=self.registry,
        )

    def forget(self, number: int) -> None:
        """This process has ended: what it measured is so no more."""
        mark_process_dead(number, self._directory)  # type: ignore[no-untyped-call]  # it has no types

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes. Blocking: it reads files."""
        return generate_latest(self.registry)


def share(directory: Path, number: int) -> None:
    """From now on this process counts in files of this folder, for `SharedMetrics`. To be called before `Metrics()`.

    The library names files by process id. By the number that a successor takes over, there are never more of them.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: number)  # type: ignore[no-untyped-call]


class _Measures(Collector):
    """Nothing to collect, but asked whenever something is."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> list[Metric]:
        for call in self.calls:
            call()
        return []


def name_label(name: str) -> str:
    """Unknown names share one label value, so that a caller cannot grow the metrics without bound."""
    return name if name in KNOWN_NAMES or name == MALFORMED else "other"
