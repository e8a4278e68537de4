"""The topology for a role: which parts it requires, and how it declares them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.broker import backfill_marker, declaring, lost_bindings, topology
from bridge.broker.queue_counts import exchange_exists, queue_exists
from bridge.broker.topology_plan import planned_topology

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aio_pika.abc import AbstractConnection

    from bridge.broker.binding_check import MissingBindings
    from bridge.broker.topology import Names, Topology
    from bridge.broker.topology_refusals import TopologyRefusals
    from bridge.roles.registered_subscribers import RegisteredSubscribers
    from bridge.settings.sections import Settings


@dataclass(frozen=True, slots=True)
class RoleTopology:
    """Declares the topology for a role: what it requires, and as much as possible of the rest."""

    settings: Settings
    planned: Topology
    required: frozenset[str]
    """Names of exchanges and queues."""
    refusals: TopologyRefusals | None = None
    """Updated with what is refused."""
    missing_bindings: MissingBindings | None = None
    """Finds missing bindings of the suppression queue: without them it has missed events. A receiver has none, and leaves
    the bindings to the worker."""
    registered: RegisteredSubscribers | None = None
    """The subscribers of the registry, whose queues are declared, too. A receiver has none: it knows no database."""

    may_make_changes: Callable[[], Awaitable[bool]] | None = None
    """Whether a missing exchange of the changes may be made now; None: never. While a worker publishes changes, only that one makes it
    (`ChangeTopology`): it publishes nothing before all who follow them are bound. A receiver needs it for nothing."""

    async def declare(self, connection: AbstractConnection, *, include_suppression: bool = True) -> bool:
        """Declare the topology.

        Args:
            connection: an open connection.
            include_suppression: whether to declare a missing suppression queue, too, after a marker says that it must be
                filled from the archive.

        Returns:
            Whether nothing is refused.

        Raises:
            TopologyRefusedError: something that is required is refused.
            BrokerUnavailableError: something that is required is not up yet.
            BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection does not answer, or is gone.
        """
        names, mode = topology.Names(self.settings.rabbitmq.prefix), self.settings.rabbitmq.declare
        registered = () if self.registered is None else await self.registered.read()
        planned = planned_topology(self.settings, registered) if registered else self.planned
        if self.refusals is not None:
            self.refusals.plan(planned)
        if not await self._may_make_suppression(connection, names, include_suppression=include_suppression):
            planned = topology.without_queues(planned, names.suppression)
        if await self._leaves_changes(connection, names):
            planned = topology.without_exchange(planned, names.changes)
        await lost_bindings.bind_archive_first(connection, planned, names, mode)
        refused = await declaring.apply_topology(connection, planned, mode, required=self.required)
        if self.refusals is not None:
            self.refusals.update(refused)
        declaring.raise_if_required(refused)
        if self.registered is not None:
            await self.registered.clean_up(connection, registered)
        return not refused

    async def _leaves_changes(self, connection: AbstractConnection, names: Names) -> bool:
        """Whether the exchange of the changes is missing, and left to the worker that publishes them."""
        if self.settings.rabbitmq.declare == "never" or await exchange_exists(connection, names.changes):
            return False
        return self.may_make_changes is None or not await self.may_make_changes()

    async def _may_make_suppression(
        self, connection: AbstractConnection, names: Names, *, include_suppression: bool
    ) -> bool:
        if all(queue.name != names.suppression for queue in self.planned.queues):
            return True
        mode = self.settings.rabbitmq.declare
        if self.missing_bindings is not None:
            keys = self.missing_bindings.keys
            if not await lost_bindings.mark_lost(connection, self.planned, names, mode, keys):
                return False
        elif await lost_bindings.are_the_workers(connection, self.planned, names, mode):
            return False
        if include_suppression:
            return await backfill_marker.safe_to_declare(connection, self.planned, names, mode)
        return await queue_exists(connection, names.suppression)


def required_by_receiver(settings: Settings) -> frozenset[str]:
    """What a receiver requires. Only the exchange: an event that reaches no queue is not confirmed, so none is lost."""
    return frozenset({topology.Names(settings.rabbitmq.prefix).events})


def required_by_worker(settings: Settings) -> frozenset[str]:
    """What a worker requires."""
    names = topology.Names(settings.rabbitmq.prefix)
    delays = {names.retry(delay) for delay in settings.worker.retry_delays}
    return frozenset({names.events, names.changes, names.suppression, names.dead} | delays)
