"""The doctor's checks of other services' queues: one that is missing, has other arguments, or is limited by a policy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from bridge.broker.management import ManagementError
from bridge.broker.queue_counts import queue_exists
from bridge.broker.rejecting_queues import overflow_of, policies_of
from bridge.diagnostics.finding import failed, ok, skipped, warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bridge.broker.management_views import QueueView
    from bridge.broker.topology import Queue
    from bridge.diagnostics.broker_checks import BrokerContext
    from bridge.diagnostics.finding import Finding

_MISSING: Final = "run `bridge topology apply`, or start a worker that may declare; then fill it from the archive: `bridge replay --to {}`"
_DIFFERENT: Final = (
    "run `bridge topology apply --migrate`: it moves the messages to a queue with the planned arguments"
)
_LIMITED: Final = (
    "exclude the queue: narrow the policy's pattern (rabbitmqctl set_policy or set_operator_policy), or remove it "
    "(clear_policy, clear_operator_policy)"
)
_COSTS: Final[Mapping[str, str]] = {
    "x-overflow": "it may reject events when it is full, which then go round through the spool for everybody",
    "x-dead-letter-exchange": "what it drops or its consumer rejects is lost",
    "x-dead-letter-routing-key": "what it drops or its consumer rejects does not reach its dead letters",
    "x-delivery-limit": "messages that are requeued often leave it",
    "x-max-length": "it keeps another number of messages than was asked for",
    "x-message-ttl": "it keeps messages for another time than was asked for",
    "x-single-active-consumer": "its consumers do not take turns as was asked for",
    "x-queue-type": "it does not survive what a quorum queue does",
}
"""Argument -> what it costs that it is another."""


async def subscribers(check: str, context: BrokerContext) -> list[Finding]:
    """The queue of each subscriber, and that of its dead letters, is there with our arguments, and no policy limits it.

    One finding for each queue with something wrong; one for all, if nothing is.
    """
    queues = [queue for queue in context.planned.queues if queue.of_subscriber]
    notes = [skipped(check, context.registered.note)] if context.registered.note else []
    if not queues:
        return notes or [ok(check, "there are none")]
    try:
        views = await asyncio.gather(*(context.management.queue(queue.name) for queue in queues))
    except ManagementError as blind:
        there = [await queue_exists(context.connection, queue.name) for queue in queues]
        return [
            *notes,
            *(_missing(check, queue) for queue, stands in zip(queues, there, strict=True) if not stands),
            skipped(check, f"arguments and policies of their queues cannot be seen: {blind}"),
        ]
    found = [
        finding
        for queue, view in zip(queues, views, strict=True)
        for finding in (
            [_missing(check, queue)]
            if view is None
            else [*_different(check, queue, view), *_limited(check, queue, view)]
        )
    ]
    return [*notes, *(found or [ok(check, f"{len(queues)} queues of theirs are as planned")])]


def _missing(check: str, queue: Queue) -> Finding:
    cost = "what it drops or its consumer rejects is lost" if queue.for_dead_letters else "it gets no events"
    return failed(check, f"queue '{queue.name}' is missing: {cost}", _MISSING.format(queue.subscriber))


def _different(check: str, queue: Queue, view: QueueView) -> Iterator[Finding]:
    names = sorted({*queue.arguments, *(_COSTS.keys() & view.arguments.keys())} - queue.may_differ)
    others = [name for name in names if view.arguments.get(name) != queue.arguments.get(name)]
    if others:
        seen = "; ".join(
            f"{name} is {_shown(view.arguments.get(name))}, not {_shown(queue.arguments.get(name))}: "
            f"{_COSTS.get(name, 'it is not as asked for')}"
            for name in others
        )
        yield warning(check, f"queue '{queue.name}' has other arguments: {seen}", _DIFFERENT)


def _limited(check: str, queue: Queue, view: QueueView) -> Iterator[Finding]:
    effects = [*_effects(view)]
    if effects:
        yield warning(check, f"queue '{queue.name}' {'; '.join(effects)}, by {policies_of(view)}", _LIMITED)


def _effects(view: QueueView) -> Iterator[str]:
    """What the policies change, and what that costs."""
    given = view.policies
    to = view.arguments.get("x-dead-letter-routing-key")
    goes = f"goes to '{to}'" if to else "is lost"
    overflow = overflow_of(view)
    rejects = "reject" in str(overflow)
    if rejects and "overflow" in given:
        yield (
            f"rejects events when it is full (overflow: {overflow}): each then is nacked for everybody, and goes round "
            "through the spool"
        )
    for name, unit in (("max-length", "messages"), ("max-length-bytes", "bytes")):
        if _lowers(given, view.arguments, name) and not rejects:
            yield f"holds only {given[name]} {unit} ({name}): its oldest message beyond them {goes}"
    if _lowers(given, view.arguments, "message-ttl"):
        yield f"keeps messages for only {given['message-ttl'] / 1000:g} s (message-ttl): then each {goes}"
    if _lowers(given, view.arguments, "delivery-limit"):
        yield f"delivers a message only {given['delivery-limit']} times (delivery-limit): then it {goes}"
    if isinstance(given.get("expires"), int):
        yield f"is deleted with its messages when nobody uses it for {given['expires'] / 1000:g} s (expires)"


def _lowers(policies: Mapping[str, Any], arguments: Mapping[str, Any], name: str) -> bool:
    """RabbitMQ uses the lower of both. A negative delivery limit of a policy is none."""
    by_policy, own = policies.get(name), arguments.get(f"x-{name}")
    return isinstance(by_policy, int) and by_policy >= 0 and (not isinstance(own, int) or by_policy < own)


def _shown(value: object) -> str:
    return "none" if value is None else str(value) or "''"
