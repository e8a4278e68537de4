"""The doctor's check for queues of which no confirm comes: RabbitMQ confirms an event when all queues have it that it is routed to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bridge.broker.management import ManagementError
from bridge.broker.unconfirming_queues import (
    OTHERS,
    QUEUE_TYPE,
    STREAM,
    Bound,
    bound_to,
    described,
    kind_of,
    takes,
    unconfirming,
)
from bridge.diagnostics.broker_checks import bound_queues
from bridge.diagnostics.finding import failed, ok, skipped
from bridge.diagnostics.role_checks import answering_roles, places
from bridge.events import KNOWN_NAMES

if TYPE_CHECKING:
    from collections.abc import Collection

    from bridge.diagnostics.broker_checks import BrokerContext
    from bridge.diagnostics.finding import Finding

_LOOK_SECONDS: Final = 4.5
"""From the beginning of the check, which has 6 s. RabbitMQ counts members every 5 s; a process that crashes at each start has some at times."""
_LOOK_EVERY_SECONDS: Final = 0.5

_COST: Final = "Until then no event that is routed to it is confirmed: each is answered `spooled`, and stays in the spool"
_START_NODES: Final = "start the nodes that have it (`rabbitmqctl cluster_status`)"
_DELETE: Final = (
    "If no node is away, and RabbitMQ's log is full of `osiris_writer`, the archive cannot be read after a power cut: "
    "`rabbitmqctl delete_queue {archive}`, then `bridge topology apply`; what it had is lost, and the spool drains "
    "(docs/operate.md, 'The archive cannot be read after a power cut')"
)


async def unconfirming_queues(check: str, context: BrokerContext) -> Finding:
    """Receivers get their confirms, and no queue is without its nodes.

    Only a receiver knows for sure: of a stream whose writer crashes at each start RabbitMQ may say that it is online, and let it be consumed.
    """
    until = asyncio.get_running_loop().time() + _LOOK_SECONDS
    receivers = [role for role in await answering_roles(context.settings) if role.kind == "receiver"]
    if names := sorted({name for role in receivers for name in role.unconfirmed}):
        told = ", ".join(role.url for role in receivers if role.unconfirmed)
        queues, seen = await _suspects(context, names, until)
        return failed(
            check,
            f"RabbitMQ does not confirm {', '.join(names)} to the receiver {told}: {seen}",
            _advice(context, queues),
        )
    blind = ""
    try:
        if found := unconfirming(await _all_bound(context), uncounted=False):
            return failed(
                check, "; ".join(map(str, found)), _advice(context, [queue.name for queue in found])
            )
    except ManagementError as error:
        blind = f"; the state of the queues cannot be seen: {error}"
    if not receivers:
        return skipped(
            check,
            f"only a receiver knows what is not confirmed, and none answers at {places(context.settings)}{blind}",
        )
    return ok(check, f"no receiver waits for RabbitMQ's confirms in vain{blind}")


async def _all_bound(context: BrokerContext) -> Bound:
    """Also those that are bound to our other exchanges; of these none counts as missing, which `topology` tells."""
    of_events = await bound_to(context.management, context.names.events, {*KNOWN_NAMES, OTHERS})
    return Bound(tuple(await bound_queues(context)), of_events.missing)


async def _suspects(context: BrokerContext, names: Collection[str], until: float) -> tuple[list[str], str]:
    """The queues that may not confirm these names, and what is known of them: if no look shows which, all that get such events."""
    try:
        while True:
            bound = await bound_to(context.management, context.names.events, names)
            if found := unconfirming(bound, uncounted=True):
                return [one.name for one in found], "; ".join(map(str, found))
            if asyncio.get_running_loop().time() > until:
                break
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
    except ManagementError as blind:
        kinds = _planned_for(context, names)
        return list(kinds), f"{_one_of(kinds)}; which one cannot be seen: {blind}"
    kinds = {view.name: kind_of(view) for view in bound.views}
    return list(kinds), f"{_one_of(kinds)}; RabbitMQ says of none that it is down"


def _planned_for(context: BrokerContext, names: Collection[str]) -> dict[str, str]:
    """Name -> kind of our queues and the known subscribers' that get events of these names: streams first."""
    bound = {
        binding.queue
        for binding in context.planned.bindings
        if binding.exchange == context.names.events and any(takes(binding.key, name) for name in names)
    }
    kinds = {
        queue.name: str(queue.arguments.get(QUEUE_TYPE, "classic"))
        for queue in context.planned.queues
        if queue.name in bound
    }
    return dict(sorted(kinds.items(), key=lambda item: item[1] != STREAM))


def _one_of(kinds: dict[str, str]) -> str:
    return f"one of these cannot be written: {', '.join(described(*item) for item in kinds.items())}"


def _advice(context: BrokerContext, queues: Collection[str]) -> str:
    archive = context.names.archive
    parts = [_START_NODES, _COST]
    if archive in queues:
        parts.insert(1, _DELETE.format(archive=archive))
    return ". ".join(parts)
