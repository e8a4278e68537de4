"""Faults of RabbitMQ: alarms, rights that were taken away, queues, bindings and exchanges that somebody has deleted."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from bridge.amqp.connection import open_connection
from bridge.broker.queue_counts import ready_messages
from tests.programs.chaos.injecting import AWAY, SkippedError, once, until_done
from tests.programs.chaos.parts import Broker
from tests.programs.chaos.stack import AUDIT, CRM, CRM_EVENTS, DELAYS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aio_pika.abc import AbstractConnection

    from tests.programs.chaos.schedule import Fault
    from tests.programs.chaos.stack import Stack

_NONE: Final = "^$"
_LITTLE_MEMORY: Final = "vm_memory_monitor:set_vm_memory_high_watermark(0.00001)."
_ENOUGH_MEMORY: Final = "vm_memory_monitor:set_vm_memory_high_watermark(0.6)."
_LITTLE_DISK: Final = 'rabbit_disk_monitor:set_disk_free_limit("1000000GB").'
_ENOUGH_DISK: Final = 'rabbit_disk_monitor:set_disk_free_limit("1MB").'
_LIMITS: Final = {"memory": (_LITTLE_MEMORY, _ENOUGH_MEMORY), "disk": (_LITTLE_DISK, _ENOUGH_DISK)}


@asynccontextmanager
async def alarm(stack: Stack, fault: Fault) -> AsyncIterator[None]:
    """RabbitMQ raises it by itself, because its limit is where it cannot be kept."""
    node = stack.parts[fault.target]
    assert isinstance(node, Broker)
    little, enough = _LIMITS[fault.argument]
    try:
        await once(partial(node.control.evaluate, little))
        yield
    finally:
        await until_done(partial(node.control.evaluate, enough))


@asynccontextmanager
async def rights(stack: Stack, fault: Fault) -> AsyncIterator[None]:
    """The roles' user loses the right to configure, to write, to read, or all three; its connections are closed."""
    taken = ("configure", "write", "read") if fault.argument == "all" else (fault.argument,)
    control = stack.servers.control

    async def take() -> None:
        await control.set_permissions(stack.name, host=stack.name, **dict.fromkeys(taken, _NONE))
        await control.evaluate(
            '[catch rabbit_networking:close_connection(P, "its rights") || P <- rabbit_networking:connections(), '
            f'(catch rabbit_reader:info(P, [user])) =:= [{{user, <<"{stack.name}">>}}]].'
        )

    try:
        await once(take)
        yield
    finally:
        await until_done(partial(control.set_permissions, stack.name, host=stack.name))


@asynccontextmanager
async def delete(stack: Stack, fault: Fault) -> AsyncIterator[None]:
    """What is deleted comes back by itself, and at the latest by `bridge topology apply`."""
    try:
        async with await open_connection(stack.broker_urls[0], name="chaos") as connection:
            await _deleted(stack, connection, fault)
    except AWAY as error:
        raise SkippedError(f"{type(error).__name__}: {error}") from None
    try:
        yield
    finally:
        await until_done(stack.apply_topology)
        stack.subscribed(*losing(fault))


def losing(fault: Fault) -> Sequence[str]:
    """The queues that miss, by a deletion itself, what was in them, and what is published until they are bound again."""
    if fault.kind != "delete":
        return ()
    if fault.target == "exchange" and fault.argument == "events":
        return (AUDIT, CRM)
    return (CRM,) if fault.argument == "subscriber" else ()


async def _deleted(stack: Stack, connection: AbstractConnection, fault: Fault) -> None:
    names = stack.names
    queues = {
        "suppression": [names.suppression],
        "delays": [names.retry(delay) for delay in DELAYS],
        "subscriber": [CRM],
        "dead": [names.dead],
        "malformed": [names.malformed],
    }
    async with connection.channel() as channel:
        if fault.target == "exchange":
            await channel.exchange_delete({"events": names.events, "changes": names.changes}[fault.argument])
        elif fault.target == "binding":
            [name] = queues[fault.argument]
            events = CRM_EVENTS if name == CRM else ("hard_bounced", "complained", "complined")
            queue = await channel.get_queue(name)
            for event in events:
                await queue.unbind(names.events, event)
        else:
            for name in queues[fault.argument]:
                # What waits in a delay queue is nowhere else: its deletion is its loss, and no failure of the bridge.
                if fault.argument == "delays" and await ready_messages(connection, name):
                    continue
                await channel.queue_delete(name)
