"""Operations on the topology: compare it with what stands, declare it, and remove what is left over."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed

from bridge.amqp.connection import Link
from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError, call_errors_as_loss
from bridge.broker import backfill_marker, declaring, management, topology_steps
from bridge.broker.binding_check import MissingBindings
from bridge.broker.lost_bindings import bind_archive_first, mark_lost
from bridge.broker.management import ManagementError
from bridge.broker.queue_counts import queue_counts
from bridge.broker.topology import Names, without_queues
from bridge.broker.topology_diff import EXCHANGE, QUEUE, compare, read_standing
from bridge.broker.topology_plan import planned_topology
from bridge.broker.topology_probe import compare_by_declaring
from bridge.suppression.subscriber_registry import read_registered
from bridge.telemetry.metrics import Metrics
from bridge.text import collapse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aio_pika.abc import AbstractConnection

    from bridge.broker.declaring import RefusedPart
    from bridge.broker.management import ManagementApi
    from bridge.broker.topology import Binding, Topology
    from bridge.broker.topology_diff import Stray, TopologyDiff
    from bridge.settings.sections import Settings

T = TypeVar("T")

_NO_NAME_FOR_AMQP: Final = (
    "the client of AMQP takes no such name: delete it on the pages of RabbitMQ's management API"
)
_KEPT_QUEUE: Final = (
    "it has {messages} messages and {consumers} consumers: --with-messages deletes it with them"
)


class Planned(NamedTuple):
    """What is to stand."""

    topology: Topology
    note: str | None
    """Why the registered subscribers are not among it, one line; None: they are."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What became of a stray."""

    stray: Stray
    kept: str
    """Why it was not removed; empty: it was."""


async def read_planned(settings: Settings) -> Planned:
    """The topology for the settings and the registered subscribers."""
    registered = await read_registered(settings.suppression.database_url.get_secret_value())
    return Planned(planned_topology(settings, registered.current), registered.note)


async def find_differences(settings: Settings, planned: Planned, *, wait: float) -> TopologyDiff:
    """Compare what is planned with what stands: by the management API, else by declaring.

    Args:
        settings: where RabbitMQ is.
        planned: what is to stand.
        wait: seconds to keep trying while RabbitMQ does not answer.

    Raises:
        BrokerUnavailableError: it does not answer, neither by the API nor by AMQP.
    """
    async with management.connect(settings.rabbitmq) as api:
        try:
            standing = await read_standing(api, planned.topology)
        except ManagementError as error:
            blind = str(error)
        else:
            names = Names(settings.rabbitmq.prefix)
            return compare(planned.topology, standing, names, knows_subscribers=planned.note is None)
    may_declare = settings.rabbitmq.declare != "never"

    async def probe(connection: AbstractConnection) -> TopologyDiff:
        return await compare_by_declaring(connection, planned.topology, may_declare=may_declare, unseen=blind)

    return await on_connection(settings, probe, wait=wait)


async def apply(settings: Settings, planned: Topology, *, wait: float) -> tuple[RefusedPart, ...]:
    """Declare the topology. Returns what RabbitMQ refuses.

    Raises:
        BrokerUnavailableError: RabbitMQ does not answer within `wait` seconds.
        TopologyRefusedError: no backfill can be noted for a suppression queue that was deleted.
    """
    names = Names(settings.rabbitmq.prefix)

    async def declare(connection: AbstractConnection) -> tuple[RefusedPart, ...]:
        async with management.connect(settings.rabbitmq) as api:
            lost = MissingBindings(api, [one for one in planned.bindings if one.queue == names.suppression])
            safe = await mark_lost(connection, planned, names, "always", lost.keys)
        safe = safe and await backfill_marker.safe_to_declare(connection, planned, names, "always")
        wanted = planned if safe else without_queues(planned, names.suppression)
        await bind_archive_first(connection, wanted, names, "always")
        refused = await declaring.apply_topology(connection, wanted, "always", required=())
        for one in refused:
            if isinstance(one.error, BrokerUnavailableError) and not one.part.of_subscriber:
                raise one.error  # the queue is starting, and will be up soon
        if not safe:
            raise TopologyRefusedError(
                f"queue '{names.suppression}' or a binding of it is missing, and is not declared while '{names.backfill}' "
                "takes no message"
            )
        return refused

    return await on_connection(settings, declare, wait=wait)


async def prune(
    settings: Settings, strays: tuple[Stray, ...], *, with_messages: bool, wait: float
) -> list[Pruned]:
    """Remove strays, in their order. A queue that is in use stays, unless `with_messages`.

    A subscriber's two queues go together: alone, one would not be known as a stray any more.

    Raises:
        BrokerUnavailableError: RabbitMQ does not answer within `wait` seconds.
    """

    async def remove_all(connection: AbstractConnection) -> list[Pruned]:
        async with management.connect(settings.rabbitmq) as api:
            kept = {} if with_messages else await _in_use(connection, strays)
            return [
                Pruned(stray, kept.get(stray.name, "") or await _remove(connection, api, stray))
                for stray in strays
            ]

    return await on_connection(settings, remove_all, wait=wait)


async def on_connection(
    settings: Settings, work: Callable[[AbstractConnection], Awaitable[T]], *, wait: float
) -> T:
    """Do some work on a connection, again on a new one if it is lost, until it is done.

    Raises:
        BrokerUnavailableError: RabbitMQ does not answer within `wait` seconds.
    """
    link = Link(settings.rabbitmq, use="topology", metrics=Metrics())
    results: list[T] = []

    async def session(connection: AbstractConnection) -> None:
        results.append(await work(connection))

    try:
        async with asyncio.timeout(wait):
            await link.run(session)
    except TimeoutError:
        raise BrokerUnavailableError(f"RabbitMQ cannot be reached in {wait:g} s: {link.reason}") from None
    return results[0]


async def _in_use(connection: AbstractConnection, strays: tuple[Stray, ...]) -> dict[str, str]:
    """The queues that have messages or consumers, and those that go with them; and why they stay."""
    kept = {}
    for stray in strays:
        if stray.kind != QUEUE:
            continue
        try:
            messages, consumers = await queue_counts(connection, stray.name)
        except (ChannelNotFoundEntity, ValueError):  # it is gone, or see `_remove`
            messages, consumers = 0, stray.consumers
        messages = max(messages, stray.messages)  # AMQP does not count what consumers hold
        if messages or consumers:
            kept[stray.name] = _KEPT_QUEUE.format(messages=messages, consumers=consumers)
    queues = [stray.name for stray in strays if stray.kind == QUEUE]
    pairs = [(own, f"{own}.dead") for own in queues if f"{own}.dead" in queues]
    for pair in (*pairs, *(pair[::-1] for pair in pairs)):
        if pair[0] in kept:
            kept.setdefault(pair[1], f"it goes with queue '{pair[0]}'")
    return kept


async def _remove(connection: AbstractConnection, api: ManagementApi, stray: Stray) -> str:
    """Remove it. Returns why it stays; empty if it does not. What is gone already counts as removed."""
    try:
        with call_errors_as_loss(connection):
            channel: Any = await connection.channel(publisher_confirms=False)
            if stray.binding is not None:
                await _unbind(connection, api, stray.binding)
            elif stray.kind == EXCHANGE:
                await channel.exchange_delete(stray.name, if_unused=True)
            else:
                await channel.queue_delete(stray.name)
            await channel.close()
    except ChannelNotFoundEntity:
        return ""
    except (
        ValueError
    ):  # of pamqp, which sends a part of what RabbitMQ takes: ASCII without control characters
        return _NO_NAME_FOR_AMQP
    except ManagementError as error:
        return str(error)
    except ChannelPreconditionFailed as refusal:
        return f"something is bound to it: {collapse(str(refusal))}"
    except ChannelAccessRefused as refusal:
        return f"the broker user may not remove it: {collapse(str(refusal))}"
    return ""


async def _unbind(connection: AbstractConnection, api: ManagementApi, binding: Binding) -> None:
    """Also those with arguments: RabbitMQ removes only the one that has the same, and says nothing if there is none."""
    for view in await api.bindings_of(binding.queue):
        if (view.exchange, view.key) == (binding.exchange, binding.key):
            await topology_steps.unbind(
                connection, view.exchange, binding.queue, view.key, dict(view.arguments)
            )
