"""The parts of the topology that RabbitMQ refuses now, for the log (at each change), the metrics and `/readyz`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge.broker.declare_errors import TopologyMismatchError
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.broker.declaring import RefusedPart
    from bridge.broker.topology import Topology
    from bridge.telemetry.metrics import Metrics

log = logs.logger("broker")

_REQUIRED: Final = "RabbitMQ refuses a required part of the topology: work waits"
_OPTIONAL: Final = "RabbitMQ refuses an optional part of the topology: everything else works"
_DIFFERS: Final = (
    "a subscriber's queue stands with other arguments than planned: it gets its messages all the same"
)


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
        self._names: set[str] = set()
        self.plan(topology)

    def plan(self, topology: Topology) -> None:
        """Another topology is planned from now on: subscribers were added or removed."""
        before, self._names = self._names, {part.name for part in topology.parts()}
        for name in self._names - before:
            self._metrics.topology_refused.labels(name).set(0)
        for name in before - self._names:
            self._metrics.topology_refused.remove(name)
            self._now.pop(name, None)

    def update(self, refused: Iterable[RefusedPart]) -> None:
        """Set the parts that are refused now."""
        before, self._now = self._now, {}
        for one in refused:
            part, reason = one.part, str(one.error)
            self._now[part.name] = reason
            if part.name not in before:
                _log_new(one)
                self._metrics.topology_refused.labels(part.name).set(1)
        for name in before.keys() - self._now.keys():
            log.info("a part of the topology exists as planned again", action="topology.restored", name=name)
            self._metrics.topology_refused.labels(name).set(0)

    def description(self) -> dict[str, dict[str, str]]:
        """Section of `/readyz`; empty while nothing is refused."""
        if not self._now:
            return {}
        return {"topology": {"state": "refused", "reason": "; ".join(self._now.values())}}


def _log_new(refused: RefusedPart) -> None:
    name, reason = refused.part.name, str(refused.error)
    if not refused.part.of_subscriber:
        message = _REQUIRED if refused.required else _OPTIONAL
        log.error(message, action="topology.refused", name=name, reason=reason)
    elif isinstance(refused.error, TopologyMismatchError):
        log.warning(_DIFFERS, action="topology.subscriber_differs", name=name, reason=reason)
    else:
        log.error(_OPTIONAL, action="topology.subscriber_refused", name=name, reason=reason)
