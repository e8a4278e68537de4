"""The doctor's check for a queue that RabbitMQ cannot write: no event that is routed to it is confirmed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge.amqp.connection import connect_to_any
from bridge.amqp.errors import BrokerUnavailableError
from bridge.broker.management import ManagementError
from bridge.broker.stream_probe import why_unreadable
from bridge.broker.unconfirming_queues import STREAM, UnconfirmingQueue, unconfirming
from bridge.diagnostics.broker_checks import bound_queues
from bridge.diagnostics.broker_connection import CONNECTION_NAME, close_quietly
from bridge.diagnostics.finding import failed, ok, skipped

if TYPE_CHECKING:
    from bridge.broker.management_views import QueueView
    from bridge.diagnostics.broker_checks import BrokerContext
    from bridge.diagnostics.finding import Finding

_COST: Final = (
    "No event that is routed to it is confirmed: each is answered `spooled`, and stays in the spool; the other queues get them "
    "only once it is mended"
)
_START_NODES: Final = f"start the nodes that have it (`rabbitmqctl cluster_status`). {_COST}"
_DELETE: Final = (
    "if no node is away, it cannot be read after a power cut: `rabbitmqctl delete_queue {archive}`; what it had is lost, a role "
    "declares it again within 30 s, and the spool drains (docs/operate.md, 'The archive cannot be read after a power cut'). {cost}"
)


async def unconfirming_queues(check: str, context: BrokerContext) -> Finding:
    """Every bound queue can be written, as far as RabbitMQ says; and the archive can be read, which it cannot if it cannot be written."""
    archive = context.names.archive
    views: list[QueueView] = []
    blind = ""
    try:
        views = await bound_queues(context)
    except ManagementError as error:
        blind = str(error)
    found = unconfirming(views)
    [members] = [view.members for view in views if view.name == archive] or [None]
    if (members or 1) == 1 and (why := await _archive_unreadable(context)):
        # Of one with more members this node may have none. Of one with a single member the API may say that it is online: its
        # process is, for moments.
        found = [one for one in found if one.name != archive]
        found.append(UnconfirmingQueue(archive, STREAM, why))
    elif members is None:
        found = [one for one in found if one.name != archive]  # it was declared a moment ago
    if found:
        archives = any(one.name == archive for one in found)
        advice = _DELETE.format(archive=archive, cost=_COST) if archives else _START_NODES
        return failed(check, "; ".join(map(str, found)), advice)
    if blind:
        return skipped(
            check, f"the archive can be read; whether the other queues can be written cannot be seen: {blind}"
        )
    return ok(check, "RabbitMQ can write every queue that events are routed to")


async def _archive_unreadable(context: BrokerContext) -> str:
    try:
        connection = await connect_to_any(context.settings.rabbitmq, name=CONNECTION_NAME)
    except BrokerUnavailableError:
        return ""  # another check says so
    try:
        return await why_unreadable(connection, context.names.archive)
    finally:
        await close_quietly(connection)
