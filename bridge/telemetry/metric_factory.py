"""Makes metrics on one registry: the base of all classes that define some."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Literal

from prometheus_client import Counter, Gauge

from bridge.telemetry.buffered import BulkHistogram

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    Aggregation = Literal["livesum", "livemin", "livemax", "max"]
    """How the gauges of several processes are combined: those of living processes, except for `max`."""


class MetricFactory:
    """Each metric of a subclass is made at its first use, so that a role shows only those that it uses."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

    @classmethod
    def names(cls) -> list[str]:
        """The attributes that are metrics, those of base classes last."""
        return [
            name
            for kind in cls.__mro__
            for name, value in vars(kind).items()
            if isinstance(value, cached_property)
        ]

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(name, help_text, labels, registry=self.registry)

    def _gauge(
        self, name: str, help_text: str, *labels: str, multiprocess_mode: Aggregation = "livesum"
    ) -> Gauge:
        return Gauge(name, help_text, labels, registry=self.registry, multiprocess_mode=multiprocess_mode)

    def _histogram(self, name: str, help_text: str, bounds: tuple[float, ...], *labels: str) -> BulkHistogram:
        return BulkHistogram(name, help_text, labels, buckets=bounds, registry=self.registry)
