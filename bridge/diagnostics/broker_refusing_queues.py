"""The doctor's check for a full queue that rejects publishes: RabbitMQ then nacks events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bridge.broker.management import ManagementError
from bridge.diagnostics.broker_checks import bound_queues
from bridge.diagnostics.finding import failed, ok, skipped, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.broker.management_views import QueueView
    from bridge.diagnostics.broker_checks import BrokerContext
    from bridge.diagnostics.finding import Finding

_REJECTING: Final = frozenset({"reject-publish", "reject-publish-dlx"})
_ADVICE: Final = (
    "consume or empty it, raise its limit, or let it drop its oldest messages (overflow: drop-head): while it is full, "
    "RabbitMQ refuses each event for it, and the bridge keeps the event in the spool (`bridge spool status`)"
)


async def refusing_queues(check: str, context: BrokerContext) -> Finding:
    """No bound queue is full and rejects: RabbitMQ would nack the event, even if all other queues took it."""
    try:
        views = await bound_queues(context)
    except ManagementError as blind:
        return skipped(check, f"whether a full queue makes RabbitMQ refuse events cannot be seen: {blind}")
    limited = [(view, limit) for view in views if _rejects(view) for limit in _limits(view)]
    full = [_description(view, limit) for view, limit in limited if limit.is_reached]
    if full:
        return failed(check, "; ".join(full), _ADVICE)
    if limited:
        return warning(check, "; ".join(_description(view, limit) for view, limit in limited), _ADVICE)
    return ok(check, "no queue that events are routed to rejects publishes when it is full")


class _Limit:
    def __init__(self, name: str, most: int, now: int | None, *, by_policy: bool) -> None:
        self.name = name
        self.most = most
        self.now = now
        self.by_policy = by_policy

    @property
    def is_reached(self) -> bool:
        """A classic queue rejects one message below its limit; a quorum queue may exceed it a little."""
        return self.now is not None and self.now >= self.most


def _rejects(view: QueueView) -> bool:
    return view.arguments.get("x-overflow", view.policies.get("overflow")) in _REJECTING


def _limits(view: QueueView) -> Iterator[_Limit]:
    counted = None if view.ready is None else view.ready + (view.unacknowledged or 0)
    for name, now in (("max-length", counted), ("max-length-bytes", view.size)):
        given: dict[bool, Any] = {False: view.arguments.get(f"x-{name}"), True: view.policies.get(name)}
        numbers = [(most, by_policy) for by_policy, most in given.items() if isinstance(most, int)]
        if numbers:
            most, by_policy = min(numbers)  # RabbitMQ uses the lower one, too
            yield _Limit(name, most, now, by_policy=by_policy)


def _description(view: QueueView, limit: _Limit) -> str:
    source = f"policy '{view.policy or view.operator_policy}'" if limit.by_policy else "its arguments"
    state = "is full and rejects" if limit.is_reached else "rejects when it is full"
    now = "?" if limit.now is None else limit.now
    return f"queue '{view.name}' {state}: {now} of {limit.name} {limit.most}, by {source}"
