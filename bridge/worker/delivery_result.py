"""What a delivery's handler reports of it to the consumer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bridge.amqp.message_types import Delivery
    from bridge.worker.failures import Failure


class DeliveryResult(NamedTuple):
    """How a delivery was handled."""

    delivery: Delivery
    outcome: str
    """For the metrics: one of `consumer_metrics.OUTCOMES`; or `failed`, which becomes `delayed` or `dead`."""
    failure: Failure | None = None
    """Why the message is moved to another queue; None where it is not."""
    happened_at: int | None = None
    """The timestamp of an event that has changed the list, in Unix seconds."""


def failed_delivery(delivery: Delivery, failure: Failure) -> DeliveryResult:
    """The result of an attempt that has failed."""
    return DeliveryResult(delivery, "failed", failure)
