"""What of the topology is refused now: told once when it changes, in the log, in the metrics and on `/readyz`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.broker.declaring import Refused
    from bridge.broker.topology import Topology
    from bridge.telemetry.metrics import Metrics

log = logs.logger("topology")

_SAID: Final = {
    True: "a part of the topology is refused without which the work has to wait",
    False: "a part of the topology is refused: everything else works without it",
}
"""By whether it is needed."""


class Refusals:
    """The parts that do not stand as planned. The role works on without them."""

    def __init__(self, topology: Topology, metrics: Metrics) -> None:
        """Nothing is refused until it is told.

        Args:
            topology: as planned; each of its names gets a gauge.
            metrics: has the gauges.
        """
        self._metrics = metrics
        self._now: dict[str, str] = {}
        for part in topology.parts():
            metrics.topology_refused.labels(part.name).set(0)

    def are(self, refused: Iterable[Refused]) -> None:
        """These are refused now, and no others."""
        before, self._now = self._now, {}
        for one in refused:
            part, reason = one.part, str(one.error)
            self._now[part.name] = reason
            if part.name not in before:
                action = "topology.subscriber_refused" if part.of_subscriber else "topology.refused"
                log.error(
                    _SAID[one.needed],
                    action=action,
                    name=part.name,
                    reason=reason,
                )
                self._metrics.topology_refused.labels(part.name).set(1)
        for name in before.keys() - self._now.keys():
            log.info("stands as planned again", action="topology.mended", name=name)
            self._metrics.topology_refused.labels(name).set(0)

    def description(self) -> dict[str, dict[str, str]]:
        """A part of `/readyz`, while there is something to say."""
        if not self._now:
            return {}
        return {"topology": {"state": "refused", "reason": "; ".join(self._now.values())}}
