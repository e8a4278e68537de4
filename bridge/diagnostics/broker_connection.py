"""Connections of the diagnostics to RabbitMQ: to any of its URLs, with timeouts, and without passwords in errors."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aiormq.exceptions import AMQPError
from yarl import URL

from bridge.amqp.aiormq_internals import server_says
from bridge.amqp.connection import open_connection, why_not
from bridge.amqp.errors import BrokerUnavailableError
from bridge.amqp.wire import wire_of

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from bridge.settings.sections import RabbitMQ

_CLOSE_SECONDS: Final = 2.0


async def connect(settings: RabbitMQ, url: str) -> AbstractConnection:
    """A connection to this URL. The caller closes it.

    Raises:
        BrokerUnavailableError: RabbitMQ does not answer, or refuses us. The message has the URL without credentials.
    """
    try:
        return await open_connection(
            url,
            name="bridge diagnostics",
            heartbeat=settings.heartbeat,
            connect_timeout=settings.connect_timeout,
        )
    except TimeoutError:
        raise BrokerUnavailableError(
            f"{without_credentials(url)}: no answer in {settings.connect_timeout:g} s"
        ) from None
    except (AMQPError, OSError) as error:
        raise BrokerUnavailableError(f"{without_credentials(url)}: {await why_not(url, error)}") from None


async def connect_any(settings: RabbitMQ) -> AbstractConnection:
    """As `connect`, to the first URL that answers."""
    failures = []
    for url in settings.urls:
        try:
            return await connect(settings, url.get_secret_value())
        except BrokerUnavailableError as error:
            failures.append(str(error))
    raise BrokerUnavailableError("; ".join(failures))


async def close_quietly(connection: AbstractConnection) -> None:
    """Close the connection; errors and a broker that does not answer are ignored."""
    with suppress(AMQPError, OSError, TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await connection.close()


def cut(connection: AbstractConnection) -> None:
    """Close its socket: RabbitMQ reads nothing more from it, nor a polite word."""
    wire_of(connection).abort()


def version_of(connection: AbstractConnection) -> str:
    """RabbitMQ's version from the connection's properties; `?` if it has none."""
    return server_says(connection, "version") or "?"


def without_credentials(url: str) -> str:
    """The broker's URL without user, password and parameters."""
    return str(URL(url).with_user(None).with_query(None))
