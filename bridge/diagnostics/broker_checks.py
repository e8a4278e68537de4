"""The doctor's checks of RabbitMQ, except for those that have a module `broker_*` of their own. `doctor` lists all."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError
from bridge.broker import declaring, topology
from bridge.broker.declare_errors import DeclareRefusedError, TopologyMismatchError
from bridge.broker.management import ManagementError, find_missing_bindings
from bridge.broker.queue_counts import queue_counts, queue_exists, ready_messages
from bridge.broker.topology_plan import planned_topology
from bridge.diagnostics.broker_permission_probes import may_read, may_write
from bridge.diagnostics.finding import failed, ok, skipped, warning
from bridge.suppression.subscriber_registry import Registered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aio_pika.abc import AbstractConnection

    from bridge.broker.management import ManagementApi
    from bridge.broker.management_views import QueueView
    from bridge.broker.topology import Topology
    from bridge.diagnostics.finding import Finding
    from bridge.settings.sections import Settings

_MIN_VERSION: Final = (3, 10)
_FIRST_UNTESTED_VERSION: Final = (5, 0)

_APPLY: Final = "run `bridge topology apply` as a user who may configure"
_ENABLE_API: Final = "enable the plugin rabbitmq_management, or set rabbitmq.management_url, to see it"

NONE_REGISTERED: Final = Registered((), None)


@dataclass(frozen=True, slots=True)
class BrokerContext:
    """What the checks of RabbitMQ need."""

    settings: Settings
    connection: AbstractConnection
    version: str
    management: ManagementApi
    publishing: AbstractConnection | None
    """Another connection, to try publishes on; None while an alarm makes RabbitMQ block publishers."""
    registered: Registered = NONE_REGISTERED
    """Subscribers that are not in the settings."""
    planned: Topology = field(init=False)
    names: topology.Names = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "planned", planned_topology(self.settings, self.registered.current))
        object.__setattr__(self, "names", topology.Names(self.settings.rabbitmq.prefix))


async def version(check: str, context: BrokerContext) -> Finding:
    """RabbitMQ is 3.10, which has the streams and quorum queues that we use, to 4.x."""
    number = version_numbers(context.version)
    if number < _MIN_VERSION:
        return failed(check, f"RabbitMQ {context.version}", "upgrade it to 3.10 or newer")
    if number >= _FIRST_UNTESTED_VERSION:
        return warning(
            check, f"RabbitMQ {context.version}", "the bridge is made for 3.10 to 4.x; try it first"
        )
    return ok(check, f"RabbitMQ {context.version}")


async def permissions(check: str, context: BrokerContext) -> Finding:
    """The user may write to the exchanges, also the default one, and read the queues of the bridge."""
    names = context.names
    written = (
        (names.events, f"'{names.events}'"),
        (names.changes, f"'{names.changes}'"),
        ("", "the default exchange"),
    )
    tried = [
        (f"write to {what}", await may_write(context.publishing, exchange))
        for exchange, what in written
        if context.publishing is not None
    ] + [
        (f"read from '{queue}'", await may_read(context.connection, queue))
        for queue in (names.suppression, names.dead, names.archive)
    ]
    refused = [what for what, may in tried if may is False]
    if refused:
        return failed(
            check,
            f"the user may not {', nor '.join(refused)}",
            "grant it: rabbitmqctl set_permissions -p VHOST USER CONFIGURE WRITE READ",
        )
    if any(may is None for _, may in tried):
        missing = [what for what, may in tried if may is None]
        return skipped(check, f"not tried, because these are missing: {', '.join(missing)}", _APPLY)
    if context.publishing is None:
        return skipped(
            check, "may read its queues; whether it may write cannot be tried while there is an alarm"
        )
    return ok(check, "may write to its exchanges and read its queues")


async def topology_check(check: str, context: BrokerContext) -> Finding:
    """Everything that we declare exists, with our arguments and bindings; of other services' queues, the bindings."""
    missing = await _missing(context)
    if missing:
        return failed(check, f"missing: {', '.join(missing)}", _APPLY)
    queues = [queue.name for queue in context.planned.queues]
    if moved := [one for one in queues if await queue_exists(context.connection, topology.moving(one))]:
        return failed(
            check,
            f"being moved, or their move was interrupted: {', '.join(moved)}",
            "`bridge topology apply --migrate` ends an interrupted move; until then their events are kept twice",
        )
    try:
        return await _compare_by_api(check, context)
    except ManagementError as blind:
        return await _compare_by_declaring(check, context, str(blind))


async def backfill(check: str, context: BrokerContext) -> Finding:
    """No backfill is due: the suppression queue has all its events, or a worker has refilled it from the archive."""
    waiting = await ready_messages(context.connection, context.names.backfill)
    if waiting is None:
        return skipped(check, f"queue '{context.names.backfill}' is missing", _APPLY)
    if waiting:
        return warning(
            check,
            f"'{context.names.suppression}' has missed events (it was deleted, or lost bindings), and is still being refilled",
            "check that a worker runs: it refills the queue from the archive; at the end its log has `worker.backfilled`",
        )
    return ok(check, f"'{context.names.suppression}' has missed no events, or has been refilled")


async def alternate_exchange(check: str, context: BrokerContext) -> Finding:
    """Events without a binding go to the unrouted queue."""
    names = context.names
    try:
        exchange = await context.management.exchange(names.events)
        bound = await context.management.bindings_from(names.unrouted) if exchange else []
    except ManagementError as blind:
        return await _alternate_by_declaring(check, context, str(blind))
    if exchange is None:
        return skipped(check, f"exchange '{names.events}' is missing", _APPLY)
    alternate = exchange.policies.get("alternate-exchange", exchange.arguments.get("alternate-exchange"))
    if alternate != names.unrouted:
        return failed(
            check,
            f"'{names.events}' has {alternate or 'none'}, not {names.unrouted}",
            f"delete the exchange '{names.events}' (queues stay), then {_APPLY}; or give it one by a policy",
        )
    if not any(binding.to_queue for binding in bound):
        return failed(check, f"no queue is bound to '{names.unrouted}': its messages are dropped", _APPLY)
    return ok(check, f"'{names.unrouted}', with a queue")


async def workers_on_sqlite(check: str, context: BrokerContext) -> Finding:
    """With SQLite all workers run on one machine: else each machine would have its own list."""
    if not context.settings.suppression.database_url.get_secret_value().startswith("sqlite"):
        return ok(check, "the list is not on SQLite")
    queue = context.names.suppression
    if not await queue_exists(context.connection, queue):
        return skipped(check, f"queue '{queue}' is missing", _APPLY)
    consumers = (await queue_counts(context.connection, queue))[1]
    if consumers <= 1:
        return ok(check, f"{consumers} worker")
    advice = "workers on several machines need PostgreSQL: set suppression.database_url"
    try:
        known = await context.management.consumer_hosts(queue)
    except ManagementError:
        known = []
    hosts = sorted(set(known))
    if len(hosts) > 1:
        return failed(check, f"{consumers} workers, each with its own list, on {', '.join(hosts)}", advice)
    if len(known) < consumers:
        return warning(check, f"{consumers} workers; whether they are on one machine is unknown", advice)
    return warning(check, f"{consumers} workers, on one machine as far as RabbitMQ knows", advice)


async def _missing(context: BrokerContext) -> list[str]:
    parts = [
        (f"exchange '{exchange.name}'", topology.Topology((exchange,), (), ()))
        for exchange in context.planned.exchanges
    ] + [(f"queue '{queue.name}'", topology.Topology((), (queue,), ())) for queue in _own_queues(context)]
    missing = []
    for what, alone in parts:
        try:
            await declaring.check(context.connection, alone)
        except TopologyRefusedError:
            missing.append(what)
        except BrokerUnavailableError as booting:
            missing.append(f"{what} ({booting})")
    return missing


async def _compare_by_api(check: str, context: BrokerContext) -> Finding:
    others = []
    for queue in _own_queues(context):
        view = await context.management.queue(queue.name)
        wanted = {name: value for name, value in queue.arguments.items() if name not in queue.may_differ}
        if view is not None and not _contains(view.arguments, wanted):
            others.append(f"queue '{queue.name}' has {_shown(view.arguments)}, not {_shown(queue.arguments)}")
    if others:
        return failed(
            check,
            "; ".join(others),
            "`bridge topology apply --migrate` moves a queue to its arguments, without losing a message; or another prefix",
        )
    unbound = [
        f"'{binding.queue}' to '{binding.exchange}' with '{binding.key}'"
        for binding in await find_missing_bindings(context.management, context.planned.bindings)
    ]
    if unbound:
        return failed(check, f"not bound: {', '.join(unbound)}", _APPLY)
    return ok(check, _counts_of(context))


async def _compare_by_declaring(check: str, context: BrokerContext, blind: str) -> Finding:
    """Declare what exists, as the roles do at each start: RabbitMQ compares, and changes nothing."""
    without_bindings = topology.Topology(context.planned.exchanges, tuple(_own_queues(context)), ())
    if context.settings.rabbitmq.declare == "never":
        return ok(check, f"all is there; arguments and bindings cannot be seen: {blind}")
    refused = await declaring.apply_topology(context.connection, without_bindings, "always", required=())
    others = [one.error for one in refused if isinstance(one.error, TopologyMismatchError)]
    if others:
        return failed(
            check,
            "; ".join(str(other).partition("; ")[0] for other in others),
            str(others[0]).partition("; ")[2],
        )
    if refused:
        return ok(check, f"all is there; arguments and bindings cannot be seen: {blind}")
    return ok(check, f"{_counts_of(context)}; bindings cannot be seen: {blind}")


async def _alternate_by_declaring(check: str, context: BrokerContext, blind: str) -> Finding:
    events = [exchange for exchange in context.planned.exchanges if exchange.name == context.names.events]
    alone = topology.Topology(tuple(events), (), ())
    if context.settings.rabbitmq.declare == "never":
        return skipped(check, blind, _ENABLE_API)
    try:
        await declaring.check(context.connection, alone)
    except (TopologyRefusedError, BrokerUnavailableError) as missing:
        return skipped(check, str(missing), _APPLY)
    try:
        await declaring.declare(context.connection, alone)
    except TopologyMismatchError as other:
        seen, _, advice = str(other).partition("; ")
        return failed(check, seen, advice)
    except DeclareRefusedError:
        return skipped(check, blind, _ENABLE_API)
    return ok(check, f"'{context.names.unrouted}'; whether a queue is bound to it cannot be seen")


async def bound_queues(context: BrokerContext) -> list[QueueView]:
    """All queues that events are routed to, ours or not, and our other queues."""
    names = {queue.name for queue in context.planned.queues}
    for exchange in context.planned.exchanges:
        names |= {
            view.destination
            for view in await context.management.bindings_from(exchange.name)
            if view.to_queue
        }
    views = await asyncio.gather(*(context.management.queue(name) for name in sorted(names)))
    return [view for view in views if view is not None]


def _own_queues(context: BrokerContext) -> list[topology.Queue]:
    """`broker_subscribers` has the others."""
    return [queue for queue in context.planned.queues if not queue.of_subscriber]


def _contains(actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(actual.get(name) == value for name, value in wanted.items())


def _counts_of(context: BrokerContext) -> str:
    return (
        f"{len(context.planned.exchanges)} exchanges, {len(context.planned.queues)} queues exist as planned"
    )


def _shown(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(arguments.items())) or "no arguments"


def version_numbers(text: str) -> tuple[int, int]:
    """`3.10.8` -> (3, 10); text that is not a version -> (0, 0)."""
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)
