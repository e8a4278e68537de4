"""Operations on the subscribers: add and remove queues of other services while everything runs, and list them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError, session_errors_as_loss
from bridge.broker import declaring, management, subscriber_queues
from bridge.broker.declare_errors import TopologyMismatchError
from bridge.broker.management import ManagementError
from bridge.broker.policy_views import in_force_on_quorum_queue
from bridge.broker.queue_counts import queue_exists
from bridge.broker.subscriber_queues import topology_of
from bridge.broker.topology import Topology
from bridge.broker.topology_plan import planned_topology
from bridge.operations.queue_messages import connect_as_operator
from bridge.settings.subscribers import conflict, together
from bridge.suppression import opening
from bridge.suppression.errors import StoreError, SubscriberConflictError
from bridge.suppression.subscriber_registry import SubscriberRegistry, read_registered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aio_pika.abc import AbstractConnection

    from bridge.broker.subscriber_queues import Standing
    from bridge.settings.sections import Settings
    from bridge.settings.subscribers import Subscriber
    from bridge.suppression.subscriber_registry import RegisteredSubscriber

_LIMITS: Final = ("max-length", "max-length-bytes", "message-ttl", "expires", "delivery-limit", "overflow")
"""Of policies: what changes how long messages stay in a queue."""


class SubscriberError(Exception):
    """A subscriber could not be added or removed. The message says why, and what is left."""


@dataclass(frozen=True, slots=True)
class Added:
    """A subscriber that was added."""

    registered: RegisteredSubscriber
    queue: str
    """Its name in RabbitMQ."""
    dead: str
    """The same of the queue of its dead letters."""
    remarks: tuple[str, ...]
    """What is other than one may expect, a line each."""


class Preview(NamedTuple):
    """What a removal would do."""

    registered: RegisteredSubscriber
    standing: list[Standing]
    """The queues that would be deleted."""
    stays: bool
    """Whether its queues stay, as the settings have the subscriber, too."""


async def all_subscribers(settings: Settings) -> list[Subscriber]:
    """Those of the settings, and those that are registered.

    Where the registry cannot be read, those of the settings only: `read_registered` says why.
    """
    registered = await read_registered(settings.suppression.database_url.get_secret_value())
    return list(together(settings.subscribers, registered.current))


async def registered_subscribers(settings: Settings) -> list[RegisteredSubscriber]:
    """Those that are registered, also those that are not in force.

    Raises:
        StoreError: the registry cannot be read.
    """
    async with _open_registry(settings) as registry:
        return await registry.all()


async def add(settings: Settings, subscriber: Subscriber, *, actor: str, as_it_is: bool) -> Added:
    """Register a subscriber, and declare and bind its queues: from then on RabbitMQ routes to it. Or do nothing of that.

    Args:
        settings: where RabbitMQ and the registry are, and which subscribers there are already.
        subscriber: the new one.
        actor: who adds it.
        as_it_is: whether a queue of that name with other arguments is bound as it is.

    Raises:
        SubscriberConflictError: it cannot stand beside the others.
        SubscriberError: RabbitMQ refuses it, or the connection was lost. The message says what is left, if anything.
        TopologyRefusedError: there is no exchange to bind to.
        BrokerUnavailableError: RabbitMQ cannot be reached.
        StoreError: the registry cannot be read or written.
    """
    if (reason := conflict(subscriber, settings.subscribers)) is not None:
        raise SubscriberConflictError(f"the settings ([[subscribers]]) have it already: {reason}")
    wanted = topology_of(settings.rabbitmq.prefix, subscriber)
    dead, own = (queue.name for queue in wanted.queues)
    async with _open_registry(settings) as registry, _connected(settings) as connection:
        await _require_exchanges(connection, settings, wanted)
        before = frozenset([name for name in (own, dead) if await queue_exists(connection, name)])
        registered = await registry.reserve(subscriber, actor=actor)
        attempt = _Attempt(connection, registry, wanted, before)
        try:
            with session_errors_as_loss(connection):
                differing = await attempt.declare(as_it_is=as_it_is)
            if not await registry.set_in_force(subscriber.queue, in_force=True):
                raise SubscriberConflictError(f"'{subscriber.queue}' was removed while it was added")
        except asyncio.CancelledError:
            await attempt.undo(subscriber)
            raise
        except (TopologyRefusedError, BrokerUnavailableError, StoreError) as error:
            raise SubscriberError(f"{error}{await attempt.undo(subscriber)}") from error
    remarks = (*differing, *await _policies(settings, (own, dead)))
    return Added(replace(registered, in_force=True), own, dead, remarks)


async def preview_removal(settings: Settings, queue: str) -> Preview:
    """What the removal of the subscriber with this queue would do.

    Raises:
        SubscriberError: it is not registered.
        BrokerUnavailableError: RabbitMQ cannot be reached.
        StoreError: the registry cannot be read.
    """
    of_settings = any(one.queue == queue for one in settings.subscribers)
    async with _open_registry(settings) as registry:
        registered, names = await registry.get(queue), await registry.names()
    if registered is None:
        if queue in names:
            where = "was added by a newer bridge, and this one cannot read what it is: remove it with the newer one"
        elif of_settings:
            where = "is in the settings ([[subscribers]]): take it out there"
        else:
            where = "is not registered; `bridge subscribers list` shows those that are"
        raise SubscriberError(f"'{queue}' {where}")
    async with _connected(settings) as connection:
        standing = await _standing(connection, settings, registered.subscriber)
    return Preview(registered, standing, stays=of_settings)


async def remove(settings: Settings, preview: Preview) -> int:
    """Remove a subscriber: no worker declares its queues any more, and they are deleted. Returns how many messages that was.

    Args:
        settings: where RabbitMQ and the registry are.
        preview: of `preview_removal`.

    Raises:
        SubscriberError: RabbitMQ refuses it, or the connection was lost. The message says what is left.
        BrokerUnavailableError: RabbitMQ cannot be reached.
        StoreError: the registry cannot be written.
    """
    subscriber = preview.registered.subscriber
    messages = 0
    async with _open_registry(settings) as registry, _connected(settings) as connection:
        if not preview.stays:
            await registry.set_in_force(subscriber.queue, in_force=False)
            # In this order: what is dead-lettered in the last moment is deleted, too.
            dead, own = topology_of(settings.rabbitmq.prefix, subscriber).queues
            kept = _of_settings(settings)
            try:
                for queue in (own, dead):
                    if queue.name not in kept:
                        messages += await subscriber_queues.delete(connection, queue.name)
            except TopologyRefusedError as error:
                left = "the removal is not finished: run it again as a user who may"
                still = await _standing(connection, settings, subscriber)
                if not messages and len(still) == len(preview.standing):
                    await registry.set_in_force(subscriber.queue, in_force=preview.registered.in_force)
                    left = "nothing was removed"
                raise SubscriberError(f"{error}; {left}") from error
            except BrokerUnavailableError as error:
                raise SubscriberError(f"{error}; the removal is not finished: run it again") from error
        await registry.remove(subscriber.queue)
    return messages


async def _standing(
    connection: AbstractConnection, settings: Settings, subscriber: Subscriber
) -> list[Standing]:
    """What stands of it, and would be deleted with it."""
    found = await subscriber_queues.standing(connection, settings.rabbitmq.prefix, subscriber)
    kept = _of_settings(settings)
    return [one for one in found if one.queue not in kept]


def _of_settings(settings: Settings) -> frozenset[str]:
    """Queues that stay. One of the settings may be called like the dead letters of one that was registered before."""
    prefix = settings.rabbitmq.prefix
    return frozenset(f"{prefix}{name}" for one in settings.subscribers for name in (one.queue, one.dead))


@asynccontextmanager
async def _open_registry(settings: Settings) -> AsyncIterator[SubscriberRegistry]:
    url = settings.suppression.database_url.get_secret_value()
    async with opening.open_database(url, create=False) as database:
        yield SubscriberRegistry(database)


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[AbstractConnection]:
    async with await connect_as_operator(settings.rabbitmq) as connection:
        with session_errors_as_loss(connection):
            yield connection


async def _require_exchanges(connection: AbstractConnection, settings: Settings, wanted: Topology) -> None:
    names = {binding.exchange for binding in wanted.bindings}
    exchanges = tuple(one for one in planned_topology(settings).exchanges if one.name in names)
    await declaring.check(connection, Topology(exchanges, (), ()))


@dataclass(slots=True)
class _Attempt:
    """What was made for a subscriber that may not come to be."""

    connection: AbstractConnection
    registry: SubscriberRegistry
    wanted: Topology
    before: frozenset[str]
    """Which of its queues stood already: they stay in any case."""
    bound: bool = False
    """Whether its queue may be bound already."""

    async def declare(self, *, as_it_is: bool) -> list[str]:
        """Declare the queues, then bind them: one that stands with other arguments is not bound without having been asked for.

        Returns:
            Which queues have other arguments, a line each.

        Raises:
            TopologyRefusedError: RabbitMQ refuses one.
            BrokerUnavailableError: it does not answer.
        """
        differing = []
        for error in await self._refusals(Topology((), self.wanted.queues, ())):
            if not isinstance(error, TopologyMismatchError):
                raise error
            differing.append(str(error))
            if not as_it_is:
                raise TopologyRefusedError(
                    f"{error.what} stands already, with other arguments: {error.difference}; delete it, choose another name, "
                    "or have it bound as it is (--as-it-is)"
                )
        self.bound = True
        for error in await self._refusals(self.wanted):
            if not isinstance(error, TopologyMismatchError):
                raise error
        return differing

    async def undo(self, subscriber: Subscriber) -> str:
        """Delete what was declared, and the row. Returns what is left, to be put behind the reason; empty: nothing."""
        try:
            for queue in reversed(self.wanted.queues):
                if queue.name not in self.before and await queue_exists(self.connection, queue.name):
                    await subscriber_queues.delete(self.connection, queue.name)
            await self.registry.remove(subscriber.queue)
        except (TopologyRefusedError, BrokerUnavailableError, StoreError):
            return f"; what was made is left: `bridge subscribers remove {subscriber.queue}` ends it"
        own = self.wanted.queues[-1].name
        if self.bound and own in self.before:
            return f"; queue '{own}' stood before and stays, and may be bound to some of it already"
        return ""

    async def _refusals(self, topology: Topology) -> list[TopologyRefusedError | BrokerUnavailableError]:
        refused = await declaring.apply_topology(self.connection, topology, "always", required=())
        return [one.error for one in refused]


async def _policies(settings: Settings, queues: tuple[str, ...]) -> list[str]:
    """Which limits policies put on these queues, as far as the management API tells, a line each."""
    try:
        async with management.connect(settings.rabbitmq) as api:
            policies = await api.policies()
    except ManagementError as error:
        return [f"whether a policy changes its limits is not known: {error}"]
    found = []
    for name in queues:
        for policy in in_force_on_quorum_queue(policies, name):
            limits = ", ".join(
                f"{key} = {policy.definition[key]}" for key in _LIMITS if key in policy.definition
            )
            if limits:
                kind = "operator policy" if policy.operator else "policy"
                found.append(f"{kind} '{policy.name}' changes the limits of queue '{name}': {limits}")
            if "reject" in str(policy.definition.get("overflow", "")):
                found.append(
                    f"while queue '{name}' is full, RabbitMQ refuses its events for everybody; see docs/operate.md"
                )
    return found
