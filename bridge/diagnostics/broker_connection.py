"""How the broker is reached to be looked at: any of its URLs, bounded in time, without a password in what is said."""

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


async def reach(settings: RabbitMQ, url: str) -> AbstractConnection:
    """A connection to this URL, which is the caller's to close.

    Raises:
        BrokerUnavailableError: it does not answer, or refuses us; the message names it without its password.
    """
    try:
        return await open_connection(
            url,
            name="bridge on call",
            heartbeat=settings.heartbeat,
            patience=settings.connect_timeout,
        )
    except TimeoutError:
        raise BrokerUnavailableError(f"{shown(url)}: no answer in {settings.connect_timeout:g} s") from None
    except (AMQPError, OSError) as error:
        raise BrokerUnavailableError(f"{shown(url)}: {await why_not(url, error)}") from None


async def reach_any(settings: RabbitMQ) -> AbstractConnection:
    """As `reach`, the first URL that answers."""
    failures = []
    for url in settings.urls:
        try:
            return await reach(settings, url.get_secret_value())
        except BrokerUnavailableError as error:
            failures.append(str(error))
    raise BrokerUnavailableError("; ".join(failures))


async def leave(connection: AbstractConnection) -> None:
    """Close it; that it was closed already, or does not answer, is no matter any more."""
    with suppress(AMQPError, OSError, TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await connection.close()


def cut(connection: AbstractConnection) -> None:
    """Close its socket: RabbitMQ reads nothing more from it, nor a polite word."""
    wire_of(connection).abort()


def version_of(connection: AbstractConnection) -> str:
    """RabbitMQ's version, as it says at the start of a connection; `?` where it says none."""
    return server_says(connection, "version") or "?"


def shown(url: str) -> str:
    """A broker's URL without user, password and parameters."""
    return str(URL(url).with_user(None).with_query(None))
