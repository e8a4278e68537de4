"""The doctor's check for a full queue that rejects publishes: RabbitMQ then nacks events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge.broker.management import ManagementError
from bridge.broker.rejecting_queues import rejecting
from bridge.diagnostics.broker_checks import bound_queues
from bridge.diagnostics.finding import failed, ok, skipped, warning

if TYPE_CHECKING:
    from bridge.diagnostics.broker_checks import BrokerContext
    from bridge.diagnostics.finding import Finding

_COST: Final = (
    "It costs everybody: while it is full, RabbitMQ nacks each event for it, so that event is answered after a write to the "
    "spool only, and is published again after growing pauses, with a copy to every other queue each time (at most 15 in an "
    "hour); where it is bound to the changes of the list, no change reaches anybody"
)
_ADVICE: Final = (
    "consume or empty it, or let it drop its oldest messages: `rabbitmqctl clear_policy` (or clear_operator_policy), or set "
    f"overflow to drop-head. {_COST}"
)


async def refusing_queues(check: str, context: BrokerContext) -> Finding:
    """No bound queue is full and rejects: RabbitMQ would nack the event, even if all other queues took it."""
    try:
        found = rejecting(await bound_queues(context))
    except ManagementError as blind:
        return skipped(check, f"whether a full queue makes RabbitMQ refuse events cannot be seen: {blind}")
    full = [str(queue) for queue in found if queue.is_full]
    if full:
        return failed(check, "; ".join(full), _ADVICE)
    if found:
        return warning(check, "; ".join(map(str, found)), _ADVICE)
    return ok(check, "no queue that events are routed to rejects publishes when it is full")
