"""Compares the planned topology with what stands by declaring it passively and again: where the management API is silent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.broker import declaring
from bridge.broker.declare_errors import DeclareRefusedError, TopologyMismatchError
from bridge.broker.topology import Topology
from bridge.broker.topology_diff import EXCHANGE, QUEUE, Differing, TopologyDiff

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection


async def compare_by_declaring(
    connection: AbstractConnection, planned: Topology, *, may_declare: bool, unseen: str
) -> TopologyDiff:
    """As `topology_diff.compare`, as far as AMQP can tell. What stands is declared again, which changes nothing.

    Args:
        connection: an open connection.
        planned: what is to stand.
        may_declare: whether to declare what stands. If not, or if RabbitMQ forbids it, not all is known of its arguments.
        unseen: why the management API is not asked.

    Raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost, or a queue is not up yet.
    """
    missing: list[Topology] = []
    differs: list[Differing] = []
    for part in planned.parts():
        alone = Topology(part.topology.exchanges, part.topology.queues, ())
        try:
            await declaring.check(connection, alone)
        except DeclareRefusedError:
            missing.append(part.topology)
            continue
        if not may_declare:
            continue
        try:
            await declaring.declare(connection, alone)
        except TopologyMismatchError as mismatch:
            kind = EXCHANGE if part.topology.exchanges else QUEUE
            differs.append(Differing(kind, part.name, (), note=mismatch.difference))
        except DeclareRefusedError:
            may_declare = False
    what = "bindings and strays" if may_declare else "arguments, bindings and strays"
    return TopologyDiff(
        exchanges=tuple(one for part in missing for one in part.exchanges),
        queues=tuple(one for part in missing for one in part.queues),
        bindings=tuple(one for part in missing for one in part.bindings),
        differs=tuple(differs),
        unseen=f"{what} cannot be seen: {unseen}",
    )
