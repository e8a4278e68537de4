"""Single steps on queues, exchanges and bindings, each on a channel of its own. What is done already is left as it is."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from bridge.amqp.errors import call_errors_as_loss
from bridge.broker.declare_errors import explain_refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aio_pika.abc import AbstractChannel, AbstractConnection


async def declare_queue(connection: AbstractConnection, name: str, arguments: Mapping[str, Any]) -> None:
    """Declare a durable queue. Every function raises what `explain_refusal` and `call_errors_as_loss` raise."""
    async with _on_channel(connection, f"queue '{name}'") as channel:
        await channel.declare_queue(name, durable=True, arguments=dict(arguments))


async def declare_fanout(connection: AbstractConnection, name: str) -> None:
    """Declare a durable fanout exchange."""
    async with _on_channel(connection, f"exchange '{name}'") as channel:
        await channel.declare_exchange(name, "fanout", durable=True)


async def bind(
    connection: AbstractConnection,
    exchange: str,
    queue: str,
    key: str,
    arguments: Mapping[str, Any] | None = None,
) -> None:
    """Bind a queue."""
    async with _on_channel(connection, f"queue '{queue}'") as channel:
        bound = await channel.get_queue(queue, ensure=False)
        await bound.bind(exchange, key, arguments=dict(arguments or {}))


async def unbind(
    connection: AbstractConnection, exchange: str, queue: str, key: str, arguments: Mapping[str, Any]
) -> None:
    """Remove a binding of a queue."""
    async with _on_channel(connection, f"queue '{queue}'") as channel:
        bound = await channel.get_queue(queue, ensure=False)
        await bound.unbind(exchange, key, arguments=dict(arguments))


async def delete_queue(connection: AbstractConnection, name: str) -> None:
    """Delete a queue with all that is in it."""
    async with _on_channel(connection, f"queue '{name}'") as channel:
        await channel.queue_delete(name)


async def delete_exchange(connection: AbstractConnection, name: str) -> None:
    """Delete an exchange with its bindings."""
    async with _on_channel(connection, f"exchange '{name}'") as channel:
        await channel.exchange_delete(name)


@asynccontextmanager
async def _on_channel(connection: AbstractConnection, what: str) -> AsyncIterator[AbstractChannel]:
    with call_errors_as_loss(connection), explain_refusal(what):
        channel = await connection.channel(publisher_confirms=False)
        yield channel
        await channel.close()
