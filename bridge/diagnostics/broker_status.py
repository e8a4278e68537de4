"""The state of RabbitMQ and our queues: by passive declares over AMQP, and the rest by the management API, if there is one."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aiormq.exceptions import ChannelNotFoundEntity

from bridge.amqp.channels import server_says
from bridge.amqp.connection import connect_to_any
from bridge.amqp.errors import BrokerUnavailableError, session_errors_as_loss
from bridge.broker.management import ManagementError, find_missing_bindings
from bridge.broker.queue_counts import queue_counts
from bridge.diagnostics.broker_connection import CONNECTION_NAME, close_quietly, version_of
from bridge.tasks import task_group
from bridge.text import error_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from aio_pika.abc import AbstractConnection

    from bridge.broker.management import ManagementApi
    from bridge.broker.management_views import Node, QueueView
    from bridge.broker.topology import Binding
    from bridge.settings.sections import RabbitMQ

_TIMEOUT_SECONDS: Final = 10.0
"""For all queues together. A RabbitMQ that is busy, such as with an import of definitions, still answers in that time."""


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """The state of one queue. None: not known."""

    name: str
    problem: str = ""
    ready: int | None = None
    unacknowledged: int | None = None
    consumers: int | None = None
    oldest_age: float | None = None
    """Seconds, by the timestamp of the oldest message."""
    published: int | None = None
    """Messages that were put into it since RabbitMQ began to count, by the management API, as the next."""
    consumed: int | None = None
    """Messages that were acknowledged, or delivered to somebody who acknowledges none."""


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """The state of the broker and our queues."""

    problem: str
    """Why it cannot be reached; empty if it can."""
    version: str | None
    nodes: tuple[Node, ...] | None
    blind: str
    """Why the management API does not answer; empty if it does."""
    queues: tuple[QueueStatus, ...]
    unbound: tuple[Binding, ...] | None = None
    """Planned bindings that are missing; None: not known."""
    cluster: str = ""
    """What RabbitMQ calls itself; empty while it cannot be reached."""


@dataclass(frozen=True, slots=True)
class _ByApi:
    """The answers of the management API."""

    blind: str
    """Why there are none."""
    nodes: tuple[Node, ...] | None = None
    queues: Mapping[str, QueueView] = field(default_factory=dict)
    unbound: tuple[Binding, ...] | None = None


class BrokerMonitor:
    """Reads the state repeatedly over one connection, which it opens again after a loss."""

    def __init__(
        self,
        settings: RabbitMQ,
        management: ManagementApi,
        queues: Sequence[str],
        bindings: Sequence[Binding] = (),
    ) -> None:
        """Make a monitor; nothing is connected yet.

        Args:
            settings: RabbitMQ's URLs.
            management: the management API, whether it answers or not.
            queues: names of the queues.
            bindings: the planned bindings.
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
            await close_quietly(self._connection)

    def watch(self, queues: Sequence[str], bindings: Sequence[Binding]) -> None:
        """From the next look on, these queues and bindings."""
        self._names, self._bindings = tuple(queues), tuple(bindings)

    async def read(self) -> BrokerStatus:
        """Read the state once. An unreachable broker is part of the result, not an exception."""
        (problem, version, queues), api = await asyncio.gather(self._over_amqp(), self._over_http())
        return BrokerStatus(
            problem=problem,
            version=version,
            nodes=api.nodes,
            blind=api.blind,
            queues=tuple(_merged(queue, api.queues.get(queue.name)) for queue in queues),
            unbound=api.unbound,
            cluster=server_says(self._connection, "cluster_name") if self._connection else "",
        )

    async def _over_amqp(self) -> tuple[str, str | None, list[QueueStatus]]:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                if self._connection is None or self._connection.is_closed:
                    self._connection = await connect_to_any(self._settings, name=CONNECTION_NAME)
                with session_errors_as_loss(self._connection):
                    queues = await _depths(self._connection, self._names)
                return "", version_of(self._connection), queues
        except TimeoutError:
            problem = f"RabbitMQ does not answer within {_TIMEOUT_SECONDS:g} s"
        except BrokerUnavailableError as error:
            problem = str(error)
        if self._connection is not None:
            await close_quietly(self._connection)
            self._connection = None
        return problem, None, [QueueStatus(name) for name in self._names]

    async def _over_http(self) -> _ByApi:
        try:
            nodes = tuple(await self._management.nodes())
            views = await asyncio.gather(*(self._management.queue(name) for name in self._names))
            unbound = await find_missing_bindings(self._management, self._bindings)
        except ManagementError as error:
            return _ByApi(str(error))
        return _ByApi("", nodes, {view.name: view for view in views if view is not None}, unbound)


async def _depths(connection: AbstractConnection, names: Sequence[str]) -> list[QueueStatus]:
    """All of them at once: a RabbitMQ that is busy takes a while for each answer."""
    async with task_group() as tasks:
        asked = [tasks.create_task(_depth(connection, name), name=f"count {name}") for name in names]
    return [task.result() for task in asked]


async def _depth(connection: AbstractConnection, name: str) -> QueueStatus:
    """By a passive declare: it needs no permission, and touches no message."""
    try:
        ready, consumers = await queue_counts(connection, name)
    except ChannelNotFoundEntity as refusal:
        return QueueStatus(name, error_line(refusal).removeprefix("NOT_FOUND - "))
    return QueueStatus(name, ready=ready, consumers=consumers)


def _merged(queue: QueueStatus, view: QueueView | None) -> QueueStatus:
    """Combine both sources: AMQP's numbers are current, the API has more of them, but updates them every 5 s."""
    if view is None:
        return queue
    return QueueStatus(
        name=queue.name,
        problem=queue.problem,
        ready=view.ready if queue.ready is None else queue.ready,
        unacknowledged=view.unacknowledged,
        consumers=view.consumers if queue.consumers is None else queue.consumers,
        oldest_age=None if view.oldest is None else max(0.0, time.time() - view.oldest),
        published=view.published,
        consumed=view.consumed,
    )
