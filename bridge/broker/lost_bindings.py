"""A suppression queue that has lost bindings has missed events: a marker says so before anybody binds it again.

Who binds it without a marker hides it: AMQP does not say whether a binding was there. So only those do who can tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.broker import backfill_marker, declaring
from bridge.broker.queue_counts import exchange_exists, queue_exists
from bridge.broker.topology import Topology
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aio_pika.abc import AbstractConnection

    from bridge.broker.topology import Names

    Keys = Callable[[], Awaitable[list[str]]]

log = logs.logger("broker")


async def mark_lost(
    connection: AbstractConnection, planned: Topology, names: Names, mode: str, keys: Keys
) -> bool:
    """Publish a marker if bindings of the suppression queue are missing, although it stands. Returns whether it may be bound.

    Args:
        connection: an open connection.
        planned: the topology.
        names: of its parts.
        mode: the setting `rabbitmq.declare`.
        keys: the routing keys of missing bindings, as `MissingBindings.keys`.

    Returns:
        False if no marker can be published: binding the queue now would hide that it has to be filled.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
    """
    if mode == "never" or not await _could_be_filled(connection, names):
        return True
    if await exchange_exists(connection, names.events):
        missing = await keys()
    else:  # they have gone with it, which needs no management API
        missing = [binding.key for binding in planned.bindings if binding.queue == names.suppression]
    if not missing or await backfill_marker.is_being_moved(connection, names):
        return True  # its bindings may have gone only then
    if not await backfill_marker.add_marker(connection, planned, names, mode):
        return False
    log.warning(
        "bindings of the suppression queue are missing: it will be filled from the archive",
        action="topology.bindings_lost",
        queue=names.suppression,
        keys=missing,
    )
    return True


async def are_the_workers(connection: AbstractConnection, planned: Topology, names: Names, mode: str) -> bool:
    """Whether the bindings of the suppression queue are left to a worker, by a role that cannot tell whether some are missing.

    They are where the queue and the exchange stand. Where the exchange is missing, they are missing, too, and what comes must not
    wait for a worker: a marker is published, and the caller binds the queue.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
    """
    if mode == "never" or not await queue_exists(connection, names.suppression):
        return False
    if await exchange_exists(connection, names.events):
        return True

    async def all_of_them() -> list[str]:
        return [binding.key for binding in planned.bindings if binding.queue == names.suppression]

    await mark_lost(connection, planned, names, mode, all_of_them)
    return False


async def bind_archive_first(
    connection: AbstractConnection, planned: Topology, names: Names, mode: str
) -> None:
    """Make a missing exchange of the events, and bind the archive to it before anything else is bound.

    Others publish meanwhile, whose connections stand. What the suppression queue misses of that, it is filled with from the archive.
    A refusal is left to whoever declares the whole topology next.

    Args:
        connection: an open connection.
        planned: the topology.
        names: of its parts.
        mode: the setting `rabbitmq.declare`.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost.
    """
    archive = tuple(queue for queue in planned.queues if queue.name == names.archive)
    if mode == "never" or not archive or await exchange_exists(connection, names.events):
        return
    if not await queue_exists(connection, names.archive):
        return  # after the suppression queue: if only the archive stands, that queue was deleted
    first = Topology(
        tuple(one for one in planned.exchanges if one.name in {names.unrouted, names.events}),
        archive,
        tuple(one for one in planned.bindings if one.queue == names.archive),
    )
    await declaring.apply_topology(connection, first, mode, required=())


async def _could_be_filled(connection: AbstractConnection, names: Names) -> bool:
    for queue in (names.archive, names.suppression):
        if not await queue_exists(connection, queue):
            return False
    return not await backfill_marker.is_being_moved(connection, names)
