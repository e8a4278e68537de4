"""The doctor's check for queues that drop a message after a number of deliveries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bridge.broker import topology_plan
from bridge.broker.management import ManagementError
from bridge.diagnostics.broker_checks import bound_queues, version_numbers
from bridge.diagnostics.finding import ok, warning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.broker.management_views import QueueView
    from bridge.diagnostics.broker_checks import BrokerContext
    from bridge.diagnostics.finding import Finding

_LIMIT: Final = "x-delivery-limit"
_LIMIT_BY_DEFAULT: Final = (4, 0)
"""Since this version a quorum queue drops a message after 20 deliveries by default."""


async def delivery_limit(check: str, context: BrokerContext) -> Finding:
    """No quorum queue that events are routed to drops a message after a number of deliveries.

    Without the management API only our declarations are checked; a queue of an earlier release may have a lower limit.
    """
    limited = version_numbers(context.version) >= _LIMIT_BY_DEFAULT
    arguments: dict[str, Mapping[str, Any]] = {
        queue.name: queue.arguments for queue in context.planned.queues
    }
    remark = ""
    try:
        views = await bound_queues(context)
    except ManagementError:
        remark = "; policies and other queues cannot be seen without the management API"
    else:
        arguments = {view.name: {"x-queue-type": view.kind} | _in_force(view) for view in views}
    dropping = sorted(name for name, given in arguments.items() if _drops(given, limited=limited))
    if dropping:
        return warning(
            check,
            f"RabbitMQ {context.version} drops messages that were delivered often from: {', '.join(dropping)}{remark}",
            "remove the limit by a policy: rabbitmqctl set_policy NAME '^QUEUE$' "
            f"""'{{"delivery-limit": {topology_plan.NO_LIMIT}}}' --apply-to queues; """
            "a policy does not override a limit in the queue's own arguments: give that queue a dead-letter exchange",
        )
    return ok(check, f"no queue drops a message that was delivered often{remark}")


def _in_force(view: QueueView) -> dict[str, Any]:
    """Arguments and policies combined as RabbitMQ does: of two limits the lower one."""
    policies = {f"x-{name}": value for name, value in view.policies.items()}
    limits = [given[_LIMIT] for given in (policies, view.arguments) if isinstance(given.get(_LIMIT), int)]
    known = [limit for limit in limits if limit >= 0] or limits
    return policies | dict(view.arguments) | ({_LIMIT: min(known)} if known else {})


def _drops(arguments: Mapping[str, Any], *, limited: bool) -> bool:
    """A negative limit means none where there is a default limit; elsewhere it drops everything at once."""
    limit = arguments.get(_LIMIT)
    if limit is None:
        unlimited = not limited
    else:
        unlimited = isinstance(limit, int) and (limit >= topology_plan.NO_LIMIT or (limit < 0 and limited))
    return (
        arguments.get("x-queue-type") == "quorum"
        and not unlimited
        and arguments.get("x-dead-letter-exchange") is None
    )
