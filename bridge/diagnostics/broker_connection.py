"""Connections of the diagnostics to RabbitMQ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge.amqp.channels import close_connection, server_says
from bridge.amqp.message_path import path_of

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

CONNECTION_NAME: Final = "bridge diagnostics"
"""What RabbitMQ shows."""

_CLOSE_SECONDS: Final = 2.0


async def close_quietly(connection: AbstractConnection) -> None:
    """Close the connection; errors and a broker that does not answer are ignored."""
    await close_connection(connection, _CLOSE_SECONDS)


def cut(connection: AbstractConnection) -> None:
    """Close its socket: RabbitMQ reads nothing more from it, nor a polite word."""
    path_of(connection).abort()


def version_of(connection: AbstractConnection) -> str:
    """RabbitMQ's version from the connection's properties; `?` if it has none."""
    return server_says(connection, "version") or "?"
