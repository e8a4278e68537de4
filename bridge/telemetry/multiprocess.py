"""Metrics of several processes: each counts in files of a shared folder, and the supervisor serves the sum."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

if TYPE_CHECKING:
    from pathlib import Path


class SharedMetrics:
    """The summed metrics of the receiver processes, and the number of their restarts; for the supervisor."""

    def __init__(self, directory: Path) -> None:
        """Args: the folder in which the processes count.

        Counters and histograms survive a restart of a process. Gauges are those of living processes: their sum, the
        minimum for `broker_up`, or the maximum for an age.
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
        """This process has ended: drop its gauges."""
        mark_process_dead(number, self._directory)  # type: ignore[no-untyped-call]  # it has no types

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes. Blocking: it reads files."""
        return generate_latest(self.registry)


def use_shared_files(directory: Path, number: int) -> None:
    """Make this process count in files of this folder, for `SharedMetrics`. Must be called before `Metrics()`.

    The library names the files by process id. With a number that the successor of a process takes over, their count
    does not grow.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: number)  # type: ignore[no-untyped-call]  # prometheus_client has no types there
