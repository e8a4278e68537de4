"""Queues that reject publishes while they are full (`overflow: reject-publish`): RabbitMQ then nacks a message for all queues."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bridge.broker.management import ManagementApi
    from bridge.broker.management_views import QueueView

QUORUM: Final = "quorum"
_REJECTING: Final = frozenset({"reject-publish", "reject-publish-dlx"})


@dataclass(frozen=True, slots=True)
class RejectingQueue:
    """A queue with a limit, beyond which it rejects publishes."""

    name: str
    limit: str
    """`max-length` (messages) or `max-length-bytes`."""
    most: int
    now: int | None
    """Messages or bytes in it; None: RabbitMQ has not counted them yet."""
    set_by: str
    """For people: `its arguments`, or the policies in force."""

    @property
    def is_full(self) -> bool:
        """A classic queue rejects one message below its limit; a quorum queue may exceed it a little."""
        return self.now is not None and self.now >= self.most

    def __str__(self) -> str:
        """`queue 'crm' is full and rejects: 10 of max-length 10, by policy 'cap'`."""
        state = "is full and rejects" if self.is_full else "rejects when it is full"
        now = "?" if self.now is None else self.now
        return f"queue '{self.name}' {state}: {now} of {self.limit} {self.most}, by {self.set_by}"


def rejecting(views: Iterable[QueueView]) -> list[RejectingQueue]:
    """Those of these queues that reject while they are full, one for each limit, the full ones first."""
    found = [one for view in views if overflow_of(view) in _REJECTING for one in _limits(view)]
    return sorted(found, key=lambda one: (not one.is_full, one.name))


async def rejecting_queues_of(management: ManagementApi, exchange: str) -> list[RejectingQueue]:
    """The rejecting queues that are bound to this exchange, whoever declared them.

    Raises:
        ManagementError: the API does not answer.
    """
    bound = {view.destination for view in await management.bindings_from(exchange) if view.to_queue}
    views = await asyncio.gather(*(management.queue(name) for name in sorted(bound)))
    return rejecting(view for view in views if view is not None)


def overflow_of(view: QueueView) -> Any:
    """The overflow behaviour in force; None: RabbitMQ's default, which is to drop the oldest message.

    Of a quorum queue a policy wins over the queue's own argument, of a classic queue the argument: tried on RabbitMQ 3.10.8
    and 4.0.5. An operator policy can set it from 4.0 on.
    """
    argument, policy = view.arguments.get("x-overflow"), view.policies.get("overflow")
    first, second = (policy, argument) if view.kind == QUORUM else (argument, policy)
    return second if first is None else first


def policies_of(view: QueueView) -> str:
    """The policies in force, for people. RabbitMQ does not say which of the two sets a value."""
    named = [("policy", view.policy), ("operator policy", view.operator_policy)]
    return " and ".join(f"{kind} '{name}'" for kind, name in named if name) or "a policy"


def _limits(view: QueueView) -> Iterator[RejectingQueue]:
    counted = None if view.ready is None else view.ready + (view.unacknowledged or 0)
    for name, now in (("max-length", counted), ("max-length-bytes", view.size)):
        given: dict[bool, Any] = {False: view.arguments.get(f"x-{name}"), True: view.policies.get(name)}
        numbers = [(most, by_policy) for by_policy, most in given.items() if isinstance(most, int)]
        if numbers:
            most, limit_by_policy = min(numbers)  # RabbitMQ uses the lower one, too
            by_policy = limit_by_policy or view.arguments.get("x-overflow") not in _REJECTING
            yield RejectingQueue(
                view.name, name, most, now, policies_of(view) if by_policy else "its arguments"
            )
