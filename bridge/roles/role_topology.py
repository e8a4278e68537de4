"""The topology as the roles need it: what each cannot work without, and how it is made to stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.broker import backfill_marker, declaring, topology
from bridge.telemetry import logs

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from bridge.broker.binding_check import LostBindings
    from bridge.broker.topology import Names, Topology
    from bridge.broker.topology_refusals import Refusals
    from bridge.settings.sections import Settings

log = logs.logger("topology")


@dataclass(frozen=True, slots=True)
class Standing:
    """Makes the topology stand for a role: what it cannot work without, and as much as possible of the rest."""

    settings: Settings
    planned: Topology
    needed: frozenset[str]
    """Names of exchanges and queues."""
    refusals: Refusals | None = None
    """Are told what is refused."""
    lost_bindings: LostBindings | None = None
    """Of the suppression queue; with them it has missed events."""

    async def make(self, connection: AbstractConnection, *, suppression_too: bool = True) -> None:
        """Make it stand.

        Args:
            connection: an open connection.
            suppression_too: whether a suppression queue that is missing is made, too, once it is safe that it must
                be filled from the archive.

        Raises:
            BrokerRefusedError: something that is needed is refused.
            BrokerUnavailableError: something that is needed is not up yet.
            BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection does not answer, or is gone.
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
            await self._note_lost_bindings(connection, names)
            return await backfill_marker.safe_to_declare(
                connection, self.planned, names, self.settings.rabbitmq.declare
            )
        return await declaring.depth(connection, names.suppression) is not None

    async def _note_lost_bindings(self, connection: AbstractConnection, names: Names) -> None:
        """Before they are made again: the queue stands, but events have gone past it."""
        mode = self.settings.rabbitmq.declare
        if self.lost_bindings is None or mode == "never":
            return
        for queue in (names.archive, names.suppression):
            if await declaring.depth(connection, queue) is None:
                return
        keys = await self.lost_bindings.keys()
        if keys and await backfill_marker.note(connection, self.planned, names, mode):
            log.warning(
                "the suppression queue had lost bindings: it will be filled from the archive",
                action="topology.bindings_lost",
                queue=names.suppression,
                keys=keys,
            )


def needed_to_publish(settings: Settings) -> frozenset[str]:
    """What a receiver cannot work without. Nothing is lost for it: an event that reaches no queue is not confirmed."""
    return frozenset({topology.Names(settings.rabbitmq.prefix).events})


def needed_to_keep_the_list(settings: Settings) -> frozenset[str]:
    """What a worker cannot work without."""
    names = topology.Names(settings.rabbitmq.prefix)
    delays = {names.retry(delay) for delay in settings.worker.retry_delays}
    return frozenset({names.events, names.changes, names.suppression, names.dead} | delays)


def topology_of(settings: Settings) -> Topology:
    return topology.plan(
        settings.rabbitmq,
        suppressing=settings.suppression.events,
        subscribers=settings.subscribers,
        retry_delays=settings.worker.retry_delays,
    )
