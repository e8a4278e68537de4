"""What RabbitMQ knows of a channel's deliveries: which are unacknowledged, and what the consumer said of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

Verdict = Literal["acknowledged", "rejected", "requeued"]
"""`rejected`: without requeue, so that RabbitMQ makes it a dead letter."""


CONSUMER_TAG: Final = "bridge.testing"
DELIVERY_COUNT_HEADER: Final = "x-delivery-count"
"""Quorum queues count in it how often they have taken a message back."""


class Settlements:
    """The unacknowledged deliveries of a channel."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        """What RabbitMQ closes a channel for."""
        self._open: dict[int, Callable[[Verdict], None]] = {}

    def delivered(self, tag: int, settled: Callable[[Verdict], None]) -> None:
        """A delivery; `settled` is called with what the consumer says of it."""
        self._open[tag] = settled

    def settle(self, tag: int, verdict: Verdict, *, multiple: bool = False) -> None:
        """The consumer says something of a delivery; with `multiple` of all up to it. Tag 0 is all that there are."""
        if multiple:
            tags = [one for one in self._open if tag in {0, one} or one < tag]
        else:
            tags = [tag] if tag in self._open else []
        if not tags and tag != 0:
            self.problems.append(
                f"delivery tag {tag} was {verdict}, and is not unacknowledged: RabbitMQ closes the channel (406)"
            )
        for one in tags:
            self._open.pop(one)(verdict)
