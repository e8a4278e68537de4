"""Compares the planned topology with what stands in RabbitMQ: what is missing, what differs, and what is left over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bridge.broker.topology import Binding, moving, moving_back

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bridge.broker.management import ManagementApi
    from bridge.broker.management_views import BindingView, ExchangeView, QueueView
    from bridge.broker.topology import Exchange, Names, Queue, Topology

QUEUE: Final = "queue"
EXCHANGE: Final = "exchange"
BINDING: Final = "binding"

STREAM: Final = "stream"
_TYPE: Final = "x-queue-type"


class Difference(NamedTuple):
    """An argument that stands with another value than the planned one. None: it is not set."""

    argument: str
    stands: Any
    wanted: Any


@dataclass(frozen=True, slots=True)
class Differing:
    """A queue or exchange that stands with other arguments."""

    kind: str
    """`queue` or `exchange`."""
    name: str
    differences: tuple[Difference, ...]
    note: str = ""
    """What RabbitMQ says, where the arguments cannot be seen."""


@dataclass(frozen=True, slots=True)
class Stray:
    """Something of the bridge's that stands and is not planned."""

    kind: str
    """`queue`, `exchange` or `binding`."""
    name: str
    """For a binding the queue's."""
    binding: Binding | None = None
    messages: int = 0
    """As the management API counted them last."""
    consumers: int = 0


@dataclass(frozen=True, slots=True)
class TopologyDiff:
    """What has to be done so that everything stands as planned."""

    exchanges: tuple[Exchange, ...] = ()
    """To create."""
    queues: tuple[Queue, ...] = ()
    """To create."""
    bindings: tuple[Binding, ...] = ()
    """To create."""
    differs: tuple[Differing, ...] = ()
    unfinished: tuple[str, ...] = ()
    """Planned queues whose move was interrupted."""
    strays: tuple[Stray, ...] = ()
    unseen: str = ""
    """Why bindings and strays could not be seen; empty: they were."""

    @property
    def creates(self) -> int:
        """How many exchanges, queues and bindings are missing."""
        return len(self.exchanges) + len(self.queues) + len(self.bindings)

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs, as far as it was seen."""
        return not (self.creates or self.differs or self.unfinished or self.strays)


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands in the virtual host."""

    exchanges: Mapping[str, ExchangeView]
    queues: Mapping[str, QueueView]
    bindings: frozenset[Binding] = frozenset()
    """Of queues, without arguments."""
    bound_exchanges: frozenset[str] = field(default_factory=frozenset)
    """The exchanges that have a binding, to whatever it is."""


async def read_standing(management: ManagementApi, planned: Topology) -> Standing:
    """Ask the management API what stands.

    Raises:
        ManagementError: it does not answer.
    """
    exchanges = {view.name: view for view in await management.exchanges()}
    queues = {view.name: view for view in await management.queues()}
    # RabbitMQ may show lists that it has kept for some seconds.
    for exchange in planned.exchanges:
        exchanges.pop(exchange.name, None)
        if (found_exchange := await management.exchange(exchange.name)) is not None:
            exchanges[exchange.name] = found_exchange
    for queue in planned.queues:
        queues.pop(queue.name, None)
        if (found_queue := await management.queue(queue.name)) is not None:
            queues[queue.name] = found_queue
    bindings = await management.bindings()
    return Standing(
        exchanges,
        queues,
        frozenset(_binding(view) for view in bindings if view.to_queue),
        frozenset(view.exchange for view in bindings),
    )


def compare(
    planned: Topology, standing: Standing, names: Names, *, knows_subscribers: bool = True
) -> TopologyDiff:
    """What has to be done so that what stands is what is planned.

    Args:
        planned: what is to stand.
        standing: what stands.
        names: of this installation.
        knows_subscribers: whether all subscribers are planned. If not, no queue counts as one that was left over.
    """
    return TopologyDiff(
        exchanges=tuple(one for one in planned.exchanges if one.name not in standing.exchanges),
        queues=tuple(one for one in planned.queues if one.name not in standing.queues),
        bindings=tuple(one for one in planned.bindings if one not in standing.bindings),
        differs=tuple(_differing(planned, standing)),
        unfinished=tuple(
            queue.name
            for queue in planned.queues
            if moving(queue.name) in standing.queues
            or not standing.exchanges.keys().isdisjoint({moving(queue.name), moving_back(queue.name)})
        ),
        strays=tuple(_strays(planned, standing, names, knows_subscribers=knows_subscribers)),
    )


def _differing(planned: Topology, standing: Standing) -> Iterator[Differing]:
    for exchange in planned.exchanges:
        if (stands := standing.exchanges.get(exchange.name)) is not None:
            wanted = {"type": exchange.kind, "durable": True} | dict(exchange.arguments)
            found = {"type": stands.kind, "durable": stands.durable} | dict(stands.arguments)
            if differences := _differences(found, wanted):
                yield Differing(EXCHANGE, exchange.name, differences)
    for queue in planned.queues:
        if (view := standing.queues.get(queue.name)) is not None:
            wanted = {"durable": True, "temporary": False} | dict(queue.arguments)
            found = {"durable": view.durable, "temporary": view.temporary} | dict(view.arguments)
            if differences := _differences(found | {_TYPE: view.kind}, wanted):
                yield Differing(QUEUE, queue.name, differences)


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[Difference, ...]:
    return tuple(
        Difference(name, found.get(name), wanted.get(name))
        for name in dict.fromkeys((*wanted, *found))
        if found.get(name) != wanted.get(name)
    )


def _strays(
    planned: Topology, standing: Standing, names: Names, *, knows_subscribers: bool
) -> Iterator[Stray]:
    """Bindings before queues, and queues before exchanges: the order in which they can be removed."""
    planned_queues = {queue.name for queue in planned.queues}
    planned_exchanges = {exchange.name for exchange in planned.exchanges}
    ours = {binding for binding in standing.bindings if binding.exchange in planned_exchanges}
    unplanned = ours - set(planned.bindings)
    for binding in sorted(unplanned, key=lambda one: (one.queue, one.exchange, one.key)):
        if binding.queue in planned_queues:
            yield Stray(BINDING, binding.queue, binding)
    temporary = {make(name) for name in planned_queues for make in (moving, moving_back)}
    bound = {binding.queue for binding in ours}
    for name, view in sorted(standing.queues.items()):
        if name in planned_queues | temporary or view.temporary or not name.startswith(names.prefix):
            continue
        if names.is_reserved(name) or (
            knows_subscribers
            and (
                _is_subscribers(view, standing, bound)
                or _is_its_dead_letters(name, standing, bound, planned_queues)
            )
        ):
            messages = (view.ready or 0) + (view.unacknowledged or 0)
            yield Stray(QUEUE, name, messages=messages, consumers=view.consumers or 0)
    for name in sorted(standing.exchanges):
        if name in planned_exchanges | temporary or standing.exchanges[name].temporary:
            continue
        if names.is_reserved(name):
            yield Stray(EXCHANGE, name)


def _is_subscribers(view: QueueView, standing: Standing, bound: set[str]) -> bool:
    """Whether it is of exactly the shape of a subscriber's, bound to one of our exchanges, with its dead letters.

    What a team declares itself has another shape; what another bridge declares is bound to that one's exchanges.
    """
    dead = f"{view.name}.dead"
    shape = {
        _TYPE: "quorum",
        "x-overflow": "drop-head",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead,
    }
    return (
        view.name in bound
        and dead in standing.queues
        and all(view.arguments.get(name) == value for name, value in shape.items())
        and "x-delivery-limit" in view.arguments
    )


def _is_its_dead_letters(name: str, standing: Standing, bound: set[str], planned: set[str]) -> bool:
    own = name.removesuffix(".dead")
    view = standing.queues.get(own)
    return own != name and own not in planned and view is not None and _is_subscribers(view, standing, bound)


def _binding(view: BindingView) -> Binding:
    return Binding(view.exchange, view.destination, view.key)
