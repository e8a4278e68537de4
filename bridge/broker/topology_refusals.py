"""The parts of the topology that RabbitMQ refuses now, for the log (at each change), the metrics and `/readyz`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.broker.declaring import RefusedPart
    from bridge.broker.topology import Topology
    from bridge.telemetry.metrics import Metrics

log = logs.logger("broker")

_LOG_MESSAGES: Final = {
    True: "RabbitMQ refuses a required part of the topology: work waits",
    False: "RabbitMQ refuses an optional part of the topology: everything else works",
}
"""By whether the part is required."""


class TopologyRefusals:
    """The parts that do not exist as planned."""

    def __init__(self, topology: Topology, metrics: Metrics) -> None:
        """Start with nothing refused.

        Args:
            topology: the planned one; each of its names gets a gauge.
            metrics: have the gauges.
        """
        self._metrics = metrics
        self._now: dict[str, str] = {}
        for part in topology.parts():
            metrics.topology_refused.labels(part.name).set(0)

    def update(self, refused: Iterable[RefusedPart]) -> None:
        """Set the parts that are refused now."""
        before, self._now = self._now, {}
        for one in refused:
            part, reason = one.part, str(one.error)
            self._now[part.name] = reason
            if part.name not in before:
                action = "topology.subscriber_refused" if part.of_subscriber else "topology.refused"
                log.error(
                    _LOG_MESSAGES[one.required],
                    action=action,
                    name=part.name,
                    reason=reason,
                )
                self._metrics.topology_refused.labels(part.name).set(1)
        for name in before.keys() - self._now.keys():
            log.info("a part of the topology exists as planned again", action="topology.restored", name=name)
            self._metrics.topology_refused.labels(name).set(0)

    def description(self) -> dict[str, dict[str, str]]:
        """Section of `/readyz`; empty while nothing is refused."""
        if not self._now:
            return {}
        return {"topology": {"state": "refused", "reason": "; ".join(self._now.values())}}
