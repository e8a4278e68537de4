"""Queues from which no confirm can come: RabbitMQ confirms a message when all queues have it that it was routed to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridge.broker.rejecting_queues import QUORUM
from bridge.events import KNOWN_NAMES

if TYPE_CHECKING:
    from collections.abc import Collection

    from bridge.broker.management import ManagementApi
    from bridge.broker.management_views import QueueView

STREAM: Final = "stream"
OTHERS: Final = "others"
"""Stands for all names that the provider does not document (`Unconfirmed.names`)."""
QUEUE_TYPE: Final = "x-queue-type"
_DOWN: Final = frozenset({"down", "crashed", "stopped", "minority"})
"""What RabbitMQ says of a queue that nobody serves: of a classic one whose node is away, or, from 4.0 on, of one without a majority."""


@dataclass(frozen=True, slots=True)
class UnconfirmingQueue:
    """A queue that RabbitMQ cannot write."""

    name: str
    kind: str
    """`quorum`, `classic` or `stream`; empty if RabbitMQ does not say."""
    why: str
    """What RabbitMQ says, for people."""

    def __str__(self) -> str:
        """`stream 'email.events.archive' cannot be written: 0 of its 1 members are online`."""
        return f"{described(self.name, self.kind)} cannot be written: {self.why}"


@dataclass(frozen=True, slots=True)
class Bound:
    """The queues that get certain events, whoever declared them."""

    views: tuple[QueueView, ...]
    """Streams first."""
    missing: tuple[str, ...]
    """Names of those that are bound and that RabbitMQ does not find: it could not start them."""


async def bound_to(management: ManagementApi, exchange: str, names: Collection[str]) -> Bound:
    """The queues that get events of these names from this exchange; `names` as `Unconfirmed.names` has them.

    Raises:
        ManagementError: the API does not answer.
    """
    before = await _bound(management, exchange, names)
    views = [
        view
        for view in await asyncio.gather(*(management.queue(name) for name in sorted(before)))
        if view is not None
    ]
    missing = before - {view.name for view in views}
    if missing:
        missing &= await _bound(management, exchange, names)  # else it was deleted meanwhile
    return Bound(
        tuple(sorted(views, key=lambda view: kind_of(view) != STREAM)),
        tuple(sorted(missing)),
    )


def unconfirming(bound: Bound, *, uncounted: bool) -> list[UnconfirmingQueue]:
    """Those of these queues that cannot confirm, by name.

    Args:
        bound: the queues. A stream whose writer crashes at each start, as RabbitMQ 3.10 does after some power cuts, is missing, or has no
            members, or none online; for moments it looks well (tried on 3.10.8).
        uncounted: whether a stream counts of which RabbitMQ knows no members. For some seconds it knows none of one that was declared a
            moment ago, so this is a sign only where confirms are known to be missing.
    """
    found = [
        UnconfirmingQueue(view.name, kind_of(view), why)
        for view in bound.views
        if (why := _why(view, uncounted=uncounted))
    ]
    lost = [
        UnconfirmingQueue(name, "", "RabbitMQ has its bindings, and does not find it")
        for name in bound.missing
    ]
    return sorted(found + lost, key=lambda one: one.name)


def takes(key: str, name: str) -> bool:
    """Whether a binding with this key gets events of a documented name, which is one word; or may get one of `others`."""
    if name == OTHERS:
        return key not in KNOWN_NAMES
    words = key.split(".")
    return [word for word in words if word != "#"] in ([name], ["*"]) or set(words) == {"#"}


def kind_of(view: QueueView) -> str:
    """RabbitMQ 3.10 has another word for the type of a stream whose process crashes, so it is that of the arguments, if they say one."""
    return str(view.arguments.get(QUEUE_TYPE, view.kind))


def described(name: str, kind: str) -> str:
    """`quorum queue 'crm'`, for people."""
    return f"{kind} '{name}'" if kind == STREAM else f"{kind} queue '{name}'".strip()


async def _bound(management: ManagementApi, exchange: str, names: Collection[str]) -> set[str]:
    return {
        view.destination
        for view in await management.bindings_from(exchange)
        if view.to_queue and any(takes(view.key, name) for name in names)
    }


def _why(view: QueueView, *, uncounted: bool) -> str:
    kind = kind_of(view)
    if view.state in _DOWN:
        return f"RabbitMQ calls it '{view.state}'"
    if kind not in {QUORUM, STREAM}:
        return ""
    if view.members is None:
        return "RabbitMQ knows no node that has it" if uncounted and kind == STREAM else ""
    online = view.online or 0
    return "" if 2 * online > view.members else f"{online} of its {view.members} members are online"
