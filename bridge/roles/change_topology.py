"""The part of the topology that the changes of the list need, for the worker that publishes them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridge.broker import declaring, topology
from bridge.broker.topology_plan import planned_topology
from bridge.suppression.errors import StoreError

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from bridge.roles.registered_subscribers import RegisteredSubscribers
    from bridge.settings.sections import Settings
    from bridge.suppression.changes import Outbox

_ANSWER_SECONDS: Final = 3.0
"""How long the topology waits for the database: then nothing is published either."""


@dataclass(frozen=True, slots=True)
class ChangeTopology:
    """A `bridge.worker.change_bindings.ChangeTopology`, of the subscribers of the settings and of the registry."""

    settings: Settings
    registered: RegisteredSubscribers

    async def declare(self, connection: AbstractConnection) -> bool:
        """As there. A subscriber's queue that is refused does not hold up the others: `RoleTopology` reports it."""
        exchange = topology.Names(self.settings.rabbitmq.prefix).changes
        registered = await self.registered.read()
        needed = topology.for_exchange(planned_topology(self.settings, registered), exchange)
        refused = await declaring.apply_topology(
            connection, needed, self.settings.rabbitmq.declare, required={exchange}
        )
        declaring.raise_if_required(refused)
        await self.registered.clean_up(connection, registered)
        return bool(needed.bindings)


async def nobody_publishes(outbox: Outbox) -> bool:
    """Whether no worker publishes changes, so that any may make their exchange. False while the database does not answer."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return not await outbox.has_publisher()
    except (StoreError, TimeoutError):
        return False
