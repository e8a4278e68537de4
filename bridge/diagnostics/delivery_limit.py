"""The doctor's look for queues that drop a message because it was delivered, or requeued, a number of times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bridge.broker import topology
from bridge.broker.management import ManagementError
from bridge.diagnostics.broker_checks import bound_queues, numbers_of
from bridge.diagnostics.finding import ok, warning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.broker.management import QueueView
    from bridge.diagnostics.broker_checks import Bench
    from bridge.diagnostics.finding import Finding

_LIMIT: Final = "x-delivery-limit"
_LIMIT_BY_DEFAULT: Final = (4, 0)
"""From here on a quorum queue drops a message after 20 deliveries, unless it is told otherwise."""


async def delivery_limit(check: str, bench: Bench) -> Finding:
    """No quorum queue that events go to may drop a message because it was delivered a number of times.

    Without the API that is what we declare; a queue that an earlier release has declared may have less.
    """
    limited = numbers_of(bench.version) >= _LIMIT_BY_DEFAULT
    arguments: dict[str, Mapping[str, Any]] = {queue.name: queue.arguments for queue in bench.planned.queues}
    remark = ""
    try:
        views = await bound_queues(bench)
    except ManagementError:
        remark = "; policies and queues of others cannot be seen without the management API"
    else:
        arguments = {view.name: {"x-queue-type": view.kind} | _in_force(view) for view in views}
    dropping = sorted(name for name, given in arguments.items() if _drops(given, limited=limited))
    if dropping:
        return warning(
            check,
            f"RabbitMQ {bench.version} drops a message that was delivered too often from: {', '.join(dropping)}{remark}",
            "have no limit, by a policy: rabbitmqctl set_policy NAME '^QUEUE$' "
            f"""'{{"delivery-limit": {topology.NO_LIMIT}}}' --apply-to queues; """
            "a limit among a queue's own arguments stays: give that one a dead-letter exchange",
        )
    return ok(check, f"no queue drops a message that was delivered often{remark}")


def _in_force(view: QueueView) -> dict[str, Any]:
    """Arguments, and what policies say beside them; of two limits the lower one, as RabbitMQ has it."""
    policies = {f"x-{name}": value for name, value in view.policies.items()}
    limits = [given[_LIMIT] for given in (policies, view.arguments) if isinstance(given.get(_LIMIT), int)]
    known = [limit for limit in limits if limit >= 0] or limits
    return policies | dict(view.arguments) | ({_LIMIT: min(known)} if known else {})


def _drops(arguments: Mapping[str, Any], *, limited: bool) -> bool:
    """A limit below 0 is none where there is one by default, and drops everything at once where there is none."""
    limit = arguments.get(_LIMIT)
    if limit is None:
        unlimited = not limited
    else:
        unlimited = isinstance(limit, int) and (limit >= topology.NO_LIMIT or (limit < 0 and limited))
    return (
        arguments.get("x-queue-type") == "quorum"
        and not unlimited
        and arguments.get("x-dead-letter-exchange") is None
    )
