"""What the consumer counts: deliveries, how long they take, how old their events are when they are on the list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge.telemetry import instruments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridge.amqp.deliveries import Delivery
    from bridge.telemetry.buffered import Tally
    from bridge.telemetry.metrics import Metrics
    from bridge.worker.consumer import Verdict

OUTCOMES: Final = ("added", "updated", "outdated", "repeated", "ignored", "delayed", "dead")
"""Of a delivery that is acknowledged."""


class Counts:
    """Counts for one consumer, through all its sessions."""

    def __init__(self, metrics: Metrics) -> None:
        self.acknowledged = 0
        """How many deliveries, since the start."""
        self._metrics = metrics
        self._first = metrics.tally(metrics.consumed.labels("no"))
        self._again = metrics.tally(metrics.consumed.labels("yes"))
        self._handled: dict[str, Tally] = {}
        for outcome in OUTCOMES:
            self._outcome_tally(outcome)
        self._seconds = metrics.spread(metrics.handling_seconds, instruments.SLOW)
        self._ages = metrics.ages(instruments.HANDLED)

    def taken(self, delivery: Delivery) -> None:
        if delivery.redelivered:
            self._again.count += 1
        else:
            self._first.count += 1

    def settled(self, verdicts: Sequence[Verdict], seconds: Sequence[float], now: float) -> None:
        """These are about to be acknowledged.

        Args:
            verdicts: what became of them.
            seconds: how long each was in hand, in any order.
            now: Unix seconds.
        """
        self.acknowledged += len(verdicts)
        handled, in_hand, on_the_list = self._handled, self._seconds.observe, self._ages.observe
        for (_, outcome, _, happened_at), one in zip(verdicts, seconds, strict=True):
            (handled.get(outcome) or self._outcome_tally(outcome)).count += 1
            in_hand(one)
            if happened_at is not None:
                on_the_list(now - happened_at)

    def _outcome_tally(self, outcome: str) -> Tally:
        made = self._handled[outcome] = self._metrics.tally(self._metrics.handled.labels(outcome))
        return made
