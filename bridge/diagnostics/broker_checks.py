"""The doctor's checks of RabbitMQ."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bridge.amqp.errors import BrokerRefusedError, BrokerUnavailableError
from bridge.broker import declaring, topology
from bridge.broker.declare_errors import DeclareRefusedError, TopologyMismatchError
from bridge.broker.management import ManagementError, not_bound
from bridge.diagnostics.finding import failed, ok, skipped, warning
from bridge.diagnostics.permission_probes import may_read, may_write
from bridge.roles.role_topology import topology_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aio_pika.abc import AbstractConnection

    from bridge.broker.management import Management, QueueView
    from bridge.broker.topology import Topology
    from bridge.diagnostics.finding import Finding
    from bridge.settings.sections import Settings

_OLDEST: Final = (3, 10)
_TOO_NEW: Final = (5, 0)

_APPLY: Final = "run `bridge topology apply` as a user who may configure"
_ENABLE_API: Final = "enable the plugin rabbitmq_management, or set rabbitmq.management_url, to see it"


@dataclass(frozen=True, slots=True)
class Bench:
    """What the checks of the broker work with."""

    settings: Settings
    connection: AbstractConnection
    version: str
    management: Management
    publishing: AbstractConnection | None
    """Another one, for what publishes; None while an alarm has RabbitMQ take nothing."""
    planned: Topology = field(init=False)
    names: topology.Names = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "planned", topology_of(self.settings))
        object.__setattr__(self, "names", topology.Names(self.settings.rabbitmq.prefix))


async def version(check: str, bench: Bench) -> Finding:
    """3.10 has streams and quorum queues as we use them; what 5 will change nobody knows yet."""
    number = numbers_of(bench.version)
    if number < _OLDEST:
        return failed(check, f"RabbitMQ {bench.version}", "upgrade it to 3.10 or newer")
    if number >= _TOO_NEW:
        return warning(check, f"RabbitMQ {bench.version}", "the bridge is made for 3.10 to 4.x; try it first")
    return ok(check, f"RabbitMQ {bench.version}")


async def permissions(check: str, bench: Bench) -> Finding:
    """To write to the exchanges, and the default one, and to read the queues that the bridge reads."""
    names = bench.names
    written = (
        (names.events, f"'{names.events}'"),
        (names.changes, f"'{names.changes}'"),
        ("", "the default exchange"),
    )
    tried = [
        (f"write to {what}", await may_write(bench.publishing, exchange))
        for exchange, what in written
        if bench.publishing is not None
    ] + [
        (f"read from '{queue}'", await may_read(bench.connection, queue))
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
        return skipped(check, f"cannot be tried, for it is missing: {', '.join(missing)}", _APPLY)
    if bench.publishing is None:
        return skipped(
            check, "may read its queues; whether it may write cannot be tried while there is an alarm"
        )
    return ok(check, "may write to its exchanges and read its queues")


async def as_declared(check: str, bench: Bench) -> Finding:
    """Everything that we declare is there, with our arguments, and bound as we bind it."""
    missing = await _missing(bench)
    if missing:
        return failed(check, f"missing: {', '.join(missing)}", _APPLY)
    try:
        return await _against_the_api(check, bench)
    except ManagementError as blind:
        return await _against_a_declaration(check, bench, str(blind))


async def backfill(check: str, bench: Bench) -> Finding:
    """A suppression queue that was deleted must be filled from the archive, which a worker does."""
    waiting = await declaring.depth(bench.connection, bench.names.backfill)
    if waiting is None:
        return skipped(check, f"queue '{bench.names.backfill}' is missing", _APPLY)
    if waiting:
        return warning(
            check,
            f"'{bench.names.suppression}' was deleted, and is still to be filled from the archive",
            "see that a worker runs: it is at it, or will be; its log says `worker.backfilled` at the end",
        )
    return ok(check, f"'{bench.names.suppression}' has not been deleted, or has been filled again")


async def alternate_exchange(check: str, bench: Bench) -> Finding:
    """What nothing is bound for has to go to the unrouted queue."""
    names = bench.names
    try:
        exchange = await bench.management.exchange(names.events)
        bound = await bench.management.bindings_from(names.unrouted) if exchange else []
    except ManagementError as blind:
        return await _alternate_by_declaration(check, bench, str(blind))
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
        return failed(check, f"no queue is bound to '{names.unrouted}': what it gets is dropped", _APPLY)
    return ok(check, f"'{names.unrouted}', with a queue")


async def workers_on_sqlite(check: str, bench: Bench) -> Finding:
    """SQLite is one machine's: workers on several would keep a list each."""
    if not bench.settings.suppression.database_url.get_secret_value().startswith("sqlite"):
        return ok(check, "the list is not on SQLite")
    queue = bench.names.suppression
    if await declaring.depth(bench.connection, queue) is None:
        return skipped(check, f"queue '{queue}' is missing", _APPLY)
    consumers = (await declaring.counts(bench.connection, queue))[1]
    if consumers <= 1:
        return ok(check, f"{consumers} worker")
    advice = "workers on several machines need PostgreSQL: set suppression.database_url"
    try:
        known = await bench.management.consumer_hosts(queue)
    except ManagementError:
        known = []
    hosts = sorted(set(known))
    if len(hosts) > 1:
        return failed(check, f"{consumers} workers, each with its own list, on {', '.join(hosts)}", advice)
    if len(known) < consumers:
        return warning(check, f"{consumers} workers; whether on one machine cannot be seen", advice)
    return warning(check, f"{consumers} workers, on one machine as far as RabbitMQ can see", advice)


async def _missing(bench: Bench) -> list[str]:
    parts = [
        (f"exchange '{exchange.name}'", topology.Topology((exchange,), (), ()))
        for exchange in bench.planned.exchanges
    ] + [(f"queue '{queue.name}'", topology.Topology((), (queue,), ())) for queue in bench.planned.queues]
    missing = []
    for what, alone in parts:
        try:
            await declaring.check(bench.connection, alone)
        except BrokerRefusedError:
            missing.append(what)
        except BrokerUnavailableError as booting:
            missing.append(f"{what} ({booting})")
    return missing


async def _against_the_api(check: str, bench: Bench) -> Finding:
    others = []
    for queue in bench.planned.queues:
        view = await bench.management.queue(queue.name)
        wanted = {name: value for name, value in queue.arguments.items() if name not in queue.tolerated}
        if view is not None and not _contains(view.arguments, wanted):
            others.append(f"queue '{queue.name}' has {_shown(view.arguments)}, not {_shown(queue.arguments)}")
    if others:
        return failed(
            check, "; ".join(others), "empty and delete it, then `bridge topology apply`; or another prefix"
        )
    unbound = [
        f"'{binding.queue}' to '{binding.exchange}' with '{binding.key}'"
        for binding in await not_bound(bench.management, bench.planned.bindings)
    ]
    if unbound:
        return failed(check, f"not bound: {', '.join(unbound)}", _APPLY)
    return ok(check, _all_of_it(bench))


async def _against_a_declaration(check: str, bench: Bench, blind: str) -> Finding:
    """Declaring what stands, as the roles do at each start: RabbitMQ compares, and changes nothing."""
    standing = topology.Topology(bench.planned.exchanges, bench.planned.queues, ())
    if bench.settings.rabbitmq.declare == "never":
        return ok(check, f"all is there; arguments and bindings cannot be seen: {blind}")
    refused = await declaring.attempt(bench.connection, standing, "always", needed=())
    others = [one.error for one in refused if isinstance(one.error, TopologyMismatchError)]
    if others:
        return failed(
            check,
            "; ".join(str(other).partition("; ")[0] for other in others),
            str(others[0]).partition("; ")[2],
        )
    if refused:
        return ok(check, f"all is there; arguments and bindings cannot be seen: {blind}")
    return ok(check, f"{_all_of_it(bench)}; bindings cannot be seen: {blind}")


async def _alternate_by_declaration(check: str, bench: Bench, blind: str) -> Finding:
    events = [exchange for exchange in bench.planned.exchanges if exchange.name == bench.names.events]
    alone = topology.Topology(tuple(events), (), ())
    if bench.settings.rabbitmq.declare == "never":
        return skipped(check, blind, _ENABLE_API)
    try:
        await declaring.check(bench.connection, alone)
    except (BrokerRefusedError, BrokerUnavailableError) as missing:
        return skipped(check, str(missing), _APPLY)
    try:
        await declaring.declare(bench.connection, alone)
    except TopologyMismatchError as other:
        seen, _, advice = str(other).partition("; ")
        return failed(check, seen, advice)
    except DeclareRefusedError:
        return skipped(check, blind, _ENABLE_API)
    return ok(check, f"'{bench.names.unrouted}'; whether a queue is bound to it cannot be seen")


async def bound_queues(bench: Bench) -> list[QueueView]:
    """All that events go to, ours or not, and our other queues."""
    names = {queue.name for queue in bench.planned.queues}
    for exchange in bench.planned.exchanges:
        names |= {
            view.destination for view in await bench.management.bindings_from(exchange.name) if view.to_queue
        }
    views = [await bench.management.queue(name) for name in sorted(names)]
    return [view for view in views if view is not None]


def _contains(stands: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(stands.get(name) == value for name, value in wanted.items())


def _all_of_it(bench: Bench) -> str:
    return f"{len(bench.planned.exchanges)} exchanges, {len(bench.planned.queues)} queues stand as planned"


def _shown(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(arguments.items())) or "no arguments"


def numbers_of(text: str) -> tuple[int, int]:
    """`3.10.8` -> (3, 10); what is no version is older than all."""
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)
