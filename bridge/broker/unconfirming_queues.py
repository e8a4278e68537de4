"""Queues from which no confirm can come: RabbitMQ confirms a message when all queues have it that it was routed to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridge.broker.rejecting_queues import QUORUM

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.broker.management import ManagementApi
    from bridge.broker.management_views import QueueView

STREAM: Final = "stream"
_DOWN: Final = frozenset({"down", "crashed", "stopped", "minority"})
"""What RabbitMQ says of a queue that nobody serves: of a classic one whose node is away, or, from 4.0 on, of one without a majority."""


@dataclass(frozen=True, slots=True)
class UnconfirmingQueue:
    """A queue that RabbitMQ cannot write."""

    name: str
    kind: str
    """`quorum`, `classic` or `stream`."""
    why: str
    """What RabbitMQ says, for people."""

    def __str__(self) -> str:
        """`stream 'email.events.archive' cannot be written: 0 of its 1 members are online`."""
        kind = self.kind if self.kind == STREAM else f"{self.kind} queue"
        return f"{kind} '{self.name}' cannot be written: {self.why}"


def unconfirming(views: Iterable[QueueView]) -> list[UnconfirmingQueue]:
    """Those of these queues that cannot confirm, by name.

    A stream whose writer crashes at each start, as RabbitMQ 3.10 does after some power cuts, has no members, or none online, at most looks
    (tried on 3.10.8); RabbitMQ counts them every 5 s, so a stream that was declared a moment ago looks the same.
    """
    found = [
        UnconfirmingQueue(view.name, kind, why)
        for view in views
        if (why := _why(view, kind := str(view.arguments.get("x-queue-type", view.kind))))
    ]
    return sorted(found, key=lambda one: one.name)


async def unconfirming_queues_of(management: ManagementApi, exchange: str) -> list[UnconfirmingQueue]:
    """The queues that are bound to this exchange and cannot confirm, whoever declared them.

    Raises:
        ManagementError: the API does not answer.
    """
    bound = {view.destination for view in await management.bindings_from(exchange) if view.to_queue}
    views = await asyncio.gather(*(management.queue(name) for name in sorted(bound)))
    return unconfirming(view for view in views if view is not None)


def _why(view: QueueView, kind: str) -> str:
    """RabbitMQ 3.10 has another word for the type of a stream whose process crashes, so the type is that of the arguments."""
    if view.state in _DOWN:
        return f"RabbitMQ calls it '{view.state}'"
    if kind not in {QUORUM, STREAM}:
        return ""
    if view.members is None:
        return "no node is known to have it" if kind == STREAM and view.ready is not None else ""
    online = view.online or 0
    return "" if 2 * online > view.members else f"{online} of its {view.members} members are online"
