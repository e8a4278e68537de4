"""The state of other services' queues: what RabbitMQ counts, and what the workers have seen over time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from bridge.diagnostics.problems import Problem, ProblemKind
from bridge.diagnostics.role_status import greatest_by_label
from bridge.suppression.subscriber_registry import Registered, read_registered
from bridge.worker.subscriber_watch import IDLE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bridge.broker.topology import Queue
    from bridge.diagnostics.broker_status import QueueStatus
    from bridge.diagnostics.role_status import RoleStatus
    from bridge.settings.sections import Settings

CONSUMED_AT: Final = "bridge_subscriber_consumed_timestamp_seconds"
OLDEST: Final = "bridge_subscriber_oldest_seconds"
IDLE: Final = "bridge_subscriber_idle_seconds"
_DATABASE_SECONDS: Final = 3.0
_MINUTE: Final = 60


@dataclass(frozen=True, slots=True)
class SubscriberStatus:
    """The state of one subscriber. None: not known."""

    queue: str
    """The name of its queue in RabbitMQ."""
    dead_queue: str
    """The one of its dead letters."""
    there: bool
    """Whether there is such a queue."""
    ready: int | None
    unacknowledged: int | None
    consumers: int | None
    dead_letters: int | None
    oldest_age: float | None
    """For how long its oldest message has waited, at least, in seconds; the workers estimate it."""
    idle: float | None
    """For how long it has consumed nothing, although it could, in seconds; the workers say so."""
    consumed_at: float | None = None
    """When it was last seen to consume, in Unix seconds, to within the time between two looks of the workers."""
    published: int | None = None
    """Messages that were put into its queue since RabbitMQ began to count; by the management API, as the next."""
    consumed: int | None = None
    """Messages that it has consumed since then."""

    @property
    def is_empty(self) -> bool:
        """Whether it is known that there is nothing to consume."""
        return self.ready == 0 and self.unacknowledged == 0


async def registered_subscribers(settings: Settings) -> Registered:
    """The subscribers that are not in the settings; without an answer of the database there are none, and a note."""
    try:
        async with asyncio.timeout(_DATABASE_SECONDS):
            return await read_registered(settings.suppression.database_url.get_secret_value())
    except TimeoutError:
        return Registered(
            (), f"registered subscribers: the database does not answer in {_DATABASE_SECONDS:g} s"
        )


def subscriber_statuses(
    planned: Iterable[Queue], counted: Mapping[str, QueueStatus], roles: Sequence[RoleStatus]
) -> list[SubscriberStatus]:
    """One for each subscriber.

    Args:
        planned: all queues.
        counted: what RabbitMQ says of each.
        roles: of several workers, the one that has looked longest knows most.
    """
    queues = [queue for queue in planned if queue.of_subscriber]
    dead = {queue.subscriber: queue.name for queue in queues if queue.for_dead_letters}
    oldest, idle = greatest_by_label(roles, OLDEST), greatest_by_label(roles, IDLE)
    consumed_at = greatest_by_label(roles, CONSUMED_AT)
    found = [
        SubscriberStatus(
            queue=queue.name,
            dead_queue=dead[queue.subscriber],
            there=not (seen := counted[queue.name]).problem,
            ready=seen.ready,
            unacknowledged=seen.unacknowledged,
            consumers=seen.consumers,
            dead_letters=counted[dead[queue.subscriber]].ready,
            oldest_age=oldest.get(queue.name, seen.oldest_age),
            idle=idle.get(queue.name),
            consumed_at=consumed_at.get(queue.name),
            published=seen.published,
            consumed=seen.consumed,
        )
        for queue in queues
        if not queue.for_dead_letters
    ]
    return [_as_of_now(one) for one in found]


def wrong_subscribers(seen: Iterable[SubscriberStatus]) -> list[Problem]:
    """Those that have not consumed for a while, and what to do."""
    return [
        Problem(
            ProblemKind.SUBSCRIBER_IDLE,
            one.queue,
            f"'{one.queue}' has not been consumed for {one.idle / _MINUTE:.0f} min: {_waiting(one)}; {_advice(one)}",
        )
        for one in seen
        if one.idle is not None and one.idle >= IDLE_SECONDS
    ]


def unseen_subscribers(registered: Registered, seen: Sequence[SubscriberStatus]) -> list[str]:
    """What is not known of them, and why."""
    notes = [registered.note] if registered.note else []
    if seen and all(one.idle is None for one in seen):
        notes.append("how old the messages of subscribers are, and who does not consume: no worker says")
    return notes


def _as_of_now(one: SubscriberStatus) -> SubscriberStatus:
    """What the workers say is of their last look, up to 15 s ago: what they saw then may have been consumed since."""
    if not one.is_empty:
        return one
    return replace(
        one,
        oldest_age=None if one.oldest_age is None else 0.0,
        idle=None if one.idle is None else 0.0,
    )


def _waiting(one: SubscriberStatus) -> str:
    ready = "its messages wait" if one.ready is None else f"{one.ready:,} messages wait"
    return f"{ready}, {one.unacknowledged:,} are not acknowledged" if one.unacknowledged else ready


def _advice(one: SubscriberStatus) -> str:
    if one.consumers:
        return f"it has {one.consumers:,} consumers that acknowledge nothing: see that service's log"
    return "it has no consumer: start that service, or `bridge subscribers remove` it"
