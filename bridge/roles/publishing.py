"""What every role that publishes is wired with: a publisher on a supervised connection, and the topology under it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridge.broker import declaring, markers, topology
from bridge.broker.connection import LinkState
from bridge.broker.publisher import Publisher
from bridge.broker.session import BrokerRefusedError, BrokerUnavailableError, together
from bridge.roles.lifetime import running
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aio_pika.abc import AbstractConnection

    from bridge.broker.connection import Link
    from bridge.broker.refusals import Refusals
    from bridge.broker.topology import Names, Topology
    from bridge.settings import Settings
    from bridge.telemetry.metrics import Metrics

log = logs.logger("roles")

LOOK_EVERY_SECONDS: Final = 30.0
"""So long what somebody has deleted or unbound stays away at the most."""

SETTLE_SECONDS: Final = 1.0
"""What the last confirms may take at the end; whatever has none by then is in the spool, or still in its queue."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Makes the topology stand for a role: what it cannot work without, and as much as possible of the rest."""

    settings: Settings
    planned: Topology
    needed: frozenset[str]
    """Names of exchanges and queues."""
    refusals: Refusals | None = None
    """Are told what is refused."""

    async def make(self, connection: AbstractConnection, *, suppression_too: bool = True) -> None:
        """Make it stand.

        Args:
            connection: an open connection.
            suppression_too: whether a suppression queue that is missing is made, too, once it is safe that it must
                be filled from the archive.

        Raises:
            BrokerRefusedError: something that is needed is refused.
            BrokerUnavailableError: something that is needed is not up yet.
            TimeoutError, aiormq.exceptions.AMQPError: the connection does not answer, or is gone.
        """
        names, mode = topology.Names(self.settings.rabbitmq.prefix), self.settings.rabbitmq.declare
        planned = self.planned
        if not await self._may_make_suppression(connection, names, suppression_too=suppression_too):
            planned = topology.without_queues(planned, names.suppression)
        refused = await declaring.attempt(connection, planned, mode, needed=self.needed)
        if self.refusals is not None:
            self.refusals.are(refused)
        declaring.insist(refused)

    async def _may_make_suppression(
        self, connection: AbstractConnection, names: Names, *, suppression_too: bool
    ) -> bool:
        if all(queue.name != names.suppression for queue in self.planned.queues):
            return True
        if suppression_too:
            return await markers.safe_to_declare(
                connection, self.planned, names, self.settings.rabbitmq.declare
            )
        return await declaring.depth(connection, names.suppression) is not None


@asynccontextmanager
async def publishing(
    link: Link, publisher: Publisher, standing: Standing, *, patient: bool = False
) -> AsyncIterator[asyncio.Task[None]]:
    """A publisher on a supervised connection; at the end, what is in flight gets its confirm first.

    The first session makes all of the topology stand. Where a later one finds the suppression queue gone, somebody has
    deleted it: making it again is left to the worker, which consumes it.

    Args:
        link: the connection.
        publisher: runs its sessions on it.
        standing: the topology, which stands before anything is published.
        patient: whether a refusal is waited out, and the topology looked at again and again. Else the first
            session's refusal ends the task.
    """

    async def make(connection: AbstractConnection) -> None:
        await standing.make(connection, suppression_too=not link.was_up)

    async def patiently(connection: AbstractConnection) -> None:
        try:
            await make(connection)
        except BrokerRefusedError as refusal:
            raise BrokerUnavailableError(str(refusal)) from refusal
        await together(publish=publisher.session(connection), topology=_looking(link, make, connection))

    async def at_once(connection: AbstractConnection) -> None:
        await make(connection)
        await publisher.session(connection)

    async with running(link.run(patiently if patient else at_once), name="publish") as publish:
        yield publish
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await publisher.settle()


async def _looking(
    link: Link, make: Callable[[AbstractConnection], Awaitable[None]], connection: AbstractConnection
) -> None:
    """What has been deleted, unbound or mended meanwhile is made to stand without a reconnect.

    Raises:
        BrokerUnavailableError: what is needed is refused: nothing more may be published.
    """
    while True:
        await asyncio.sleep(LOOK_EVERY_SECONDS)
        if link.state is not LinkState.UP:
            continue  # a connection that is blocked would answer nothing
        try:
            await make(connection)
        except BrokerRefusedError as refusal:
            raise BrokerUnavailableError(str(refusal)) from refusal
        except TimeoutError:
            log.debug("the topology is looked at later", action="topology.no_answer")


def needed_to_publish(settings: Settings) -> frozenset[str]:
    """What a receiver cannot work without. Nothing is lost for it: an event that reaches no queue is not confirmed."""
    return frozenset({topology.Names(settings.rabbitmq.prefix).events})


def needed_to_keep_the_list(settings: Settings) -> frozenset[str]:
    """What a worker cannot work without."""
    names = topology.Names(settings.rabbitmq.prefix)
    delays = {names.retry(delay) for delay in settings.worker.retry_delays}
    return frozenset({names.events, names.changes, names.suppression, names.dead} | delays)


def publisher_of(settings: Settings, link: Link, metrics: Metrics, *, window: int) -> Publisher:
    return Publisher(link, max_in_flight=window, patience=settings.receiver.confirm_wait, metrics=metrics)


def topology_of(settings: Settings) -> Topology:
    return topology.plan(
        settings.rabbitmq,
        suppressing=settings.suppression.events,
        subscribers=settings.subscribers,
        retry_delays=settings.worker.retry_delays,
    )
