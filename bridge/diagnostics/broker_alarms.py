"""RabbitMQ's alarms: while memory or disk is short, it blocks publishers, and says so only to them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from bridge.amqp.connection import connect_to_any
from bridge.amqp.errors import call_errors_as_loss
from bridge.amqp.message_path import path_of
from bridge.broker.management import ManagementError
from bridge.diagnostics.broker_connection import CONNECTION_NAME, close_quietly, cut
from bridge.diagnostics.broker_permission_probes import may_write
from bridge.diagnostics.finding import failed, ok
from bridge.tasks import mark_exception_retrieved

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from bridge.broker.management import ManagementApi
    from bridge.diagnostics.finding import Finding
    from bridge.settings.sections import RabbitMQ

_KINDS: Final = ("memory", "disk")
_ADVICE: Final = (
    "see what fills it: `rabbitmq-diagnostics memory_breakdown`, the free space of its disk, queues that nobody empties; "
    "until then events wait in the spool, and go by themselves when the alarm is over"
)


async def alarm_on(connection: AbstractConnection) -> str:
    """Why RabbitMQ blocks publishes on this connection, such as `memory alarm (low on memory)`; empty if it does not.

    A publish is tried in a transaction that is rolled back, because RabbitMQ reports an alarm only to connections that publish.
    After that it reads nothing more from this connection while there is an alarm: `cut` it.
    """
    blocked: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def on_blocked(reason: str) -> None:
        if not blocked.done():
            blocked.set_result(reason)

    watching = asyncio.create_task(
        path_of(connection).watch(connection, blocked=on_blocked, unblocked=lambda: None), name="alarm watch"
    )
    trying = asyncio.create_task(_try(connection), name="alarm probe")
    either: list[asyncio.Future[Any]] = [blocked, trying]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        watching.cancel()
        trying.cancel()
    if blocked.done():
        trying.add_done_callback(mark_exception_retrieved)  # the connection is cut while it still asks
        return describe_alarm(blocked.result())
    trying.result()
    return ""


async def alarm_of(settings: RabbitMQ) -> str:
    """As `alarm_on`, on a connection of its own.

    Raises:
        BrokerUnavailableError: RabbitMQ does not answer, or refuses us.
    """
    connection = await connect_to_any(settings, name=CONNECTION_NAME)
    try:
        alarm = await alarm_on(connection)
        if alarm:
            cut(connection)
        return alarm
    finally:
        await close_quietly(connection)


async def alarm_finding(check: str, alarm: str, management: ManagementApi) -> Finding:
    """What a publish has met, and which nodes say that they have the alarm, if they say it already.

    Args:
        check: its name.
        alarm: of `alarm_on`.
        management: asked, whether it answers or not; it looks at each node every 5 s.
    """
    if not alarm:
        return ok(check, "none: RabbitMQ takes what is published")
    try:
        nodes = [node.name for node in await management.nodes() if node.alarms]
    except ManagementError:
        nodes = []
    where = f" on {', '.join(nodes)}" if nodes else ""
    return failed(check, f"RabbitMQ has a {alarm}{where}: it takes nothing that is published", _ADVICE)


def describe_alarm(reason: str) -> str:
    """RabbitMQ's own word, such as `low on memory`, and what it is called."""
    kinds = [kind for kind in _KINDS if kind in reason]
    return f"{' and '.join(kinds)} alarm ({reason})" if kinds else f"alarm ({reason or 'no reason given'})"


async def _try(connection: AbstractConnection) -> None:
    """A publish, then a request: RabbitMQ may still refuse the publish before it stops reading."""
    await may_write(connection, "")
    with call_errors_as_loss(connection):
        await (await connection.channel(publisher_confirms=False)).close()
