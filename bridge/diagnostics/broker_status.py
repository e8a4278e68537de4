"""RabbitMQ as it is now: over AMQP what a passive declare tells, and over the management API, if there is one, the rest."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aiormq.exceptions import ChannelNotFoundEntity

from bridge.amqp.aiormq_internals import server_says
from bridge.amqp.errors import BrokerUnavailableError, losses_of, said
from bridge.broker import declaring
from bridge.broker.management import ManagementError, not_bound
from bridge.diagnostics.broker_connection import leave, reach_any, version_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from aio_pika.abc import AbstractConnection

    from bridge.broker.management import Management, Node, QueueView
    from bridge.broker.topology import Binding
    from bridge.settings.sections import RabbitMQ

_PATIENCE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class QueueSeen:
    """One queue. None is what could not be seen."""

    name: str
    problem: str = ""
    ready: int | None = None
    unacknowledged: int | None = None
    consumers: int | None = None
    oldest_age: float | None = None
    """Seconds, by the oldest message's own timestamp."""


@dataclass(frozen=True, slots=True)
class BrokerSeen:
    """The broker and our queues."""

    problem: str
    """Why it cannot be reached; empty when it can."""
    version: str | None
    nodes: tuple[Node, ...] | None
    blind: str
    """Why the management API tells nothing; empty when it does."""
    queues: tuple[QueueSeen, ...]
    unbound: tuple[Binding, ...] | None = None
    """Bindings that are planned and not there; None where that cannot be seen."""
    cluster: str = ""
    """What RabbitMQ calls itself; empty while it cannot be reached."""


@dataclass(frozen=True, slots=True)
class _ByApi:
    """What the management API tells."""

    blind: str
    """Why it tells nothing."""
    nodes: tuple[Node, ...] | None = None
    queues: Mapping[str, QueueView] = field(default_factory=dict)
    unbound: tuple[Binding, ...] | None = None


class Broker:
    """Looks again and again over one connection, which it opens anew when it is lost."""

    def __init__(
        self,
        settings: RabbitMQ,
        management: Management,
        queues: Sequence[str],
        bindings: Sequence[Binding] = (),
    ) -> None:
        """Make one; nothing is connected yet.

        Args:
            settings: where the broker is.
            management: its API, whether it answers or not.
            queues: the names to look at.
            bindings: those that shall be there.
        """
        self._settings = settings
        self._management = management
        self._names = tuple(queues)
        self._bindings = tuple(bindings)
        self._connection: AbstractConnection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection is not None:
            await leave(self._connection)

    async def look(self) -> BrokerSeen:
        """Never raises for a broker that is away: it is what there is to see."""
        (problem, version, queues), api = await asyncio.gather(self._over_amqp(), self._over_http())
        return BrokerSeen(
            problem=problem,
            version=version,
            nodes=api.nodes,
            blind=api.blind,
            queues=tuple(_merged(queue, api.queues.get(queue.name)) for queue in queues),
            unbound=api.unbound,
            cluster=server_says(self._connection, "cluster_name") if self._connection else "",
        )

    async def _over_amqp(self) -> tuple[str, str | None, list[QueueSeen]]:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                if self._connection is None or self._connection.is_closed:
                    self._connection = await reach_any(self._settings)
                with losses_of(self._connection):
                    queues = [await _depth(self._connection, name) for name in self._names]
                return "", version_of(self._connection), queues
        except TimeoutError:
            problem = f"RabbitMQ does not answer within {_PATIENCE_SECONDS:g} s"
        except BrokerUnavailableError as error:
            problem = str(error)
        if self._connection is not None:
            await leave(self._connection)
            self._connection = None
        return problem, None, [QueueSeen(name) for name in self._names]

    async def _over_http(self) -> _ByApi:
        try:
            nodes = tuple(await self._management.nodes())
            views = await asyncio.gather(*(self._management.queue(name) for name in self._names))
            unbound = await not_bound(self._management, self._bindings)
        except ManagementError as error:
            return _ByApi(str(error))
        return _ByApi("", nodes, {view.name: view for view in views if view is not None}, unbound)


async def _depth(connection: AbstractConnection, name: str) -> QueueSeen:
    """A passive declare: it needs no permission, and touches no message."""
    try:
        ready, consumers = await declaring.counts(connection, name)
    except ChannelNotFoundEntity as refusal:
        return QueueSeen(name, said(refusal).removeprefix("NOT_FOUND - "))
    return QueueSeen(name, ready=ready, consumers=consumers)


def _merged(queue: QueueSeen, view: QueueView | None) -> QueueSeen:
    """AMQP counts now; the API knows more, but counts every 5 s."""
    if view is None:
        return queue
    return QueueSeen(
        name=queue.name,
        problem=queue.problem,
        ready=view.ready if queue.ready is None else queue.ready,
        unacknowledged=view.unacknowledged,
        consumers=view.consumers if queue.consumers is None else queue.consumers,
        oldest_age=None if view.oldest is None else max(0.0, time.time() - view.oldest),
    )
