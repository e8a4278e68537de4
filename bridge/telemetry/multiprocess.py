"""What several processes count, added up by one that serves the sum."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

if TYPE_CHECKING:
    from pathlib import Path


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
