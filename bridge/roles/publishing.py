"""What every role that publishes is wired with: a publisher on a supervised connection, and the topology under it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from bridge.amqp.connection import LinkState
from bridge.amqp.errors import BrokerRefusedError, BrokerUnavailableError, together
from bridge.amqp.publisher import Publisher
from bridge.roles.lifetime import running
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.connection import Link
    from bridge.roles.role_topology import Standing
    from bridge.settings.sections import Settings
    from bridge.telemetry.metrics import Metrics

log = logs.logger("roles")

LOOK_EVERY_SECONDS: Final = 30.0
"""So long what somebody has deleted or unbound stays away at the most."""

SETTLE_SECONDS: Final = 1.0
"""What the last confirms may take at the end; whatever has none by then is in the spool, or still in its queue."""


@asynccontextmanager
async def publishing(
    link: Link, publisher: Publisher, standing: Standing, *, patient: bool = False
) -> AsyncIterator[asyncio.Task[None]]:
    """A publisher on a supervised connection; at the end, what is in flight gets its confirm first.

    The first session makes all of the topology stand. Where a later one finds the suppression queue gone, somebody has
    deleted it: making it again is left to the worker, which consumes it.

    Args:
        link: the connection.
        publisher: runs its sessions on it.
        standing: the topology, which stands before anything is published.
        patient: whether a refusal is waited out, and the topology looked at again and again. Else the first
            session's refusal ends the task.
    """

    async def make(connection: AbstractConnection) -> None:
        await standing.make(connection, suppression_too=not link.was_up)

    async def patiently(connection: AbstractConnection) -> None:
        try:
            await make(connection)
        except BrokerRefusedError as refusal:
            raise BrokerUnavailableError(str(refusal)) from refusal
        await together(publish=publisher.session(connection), topology=_looking(link, make, connection))

    async def at_once(connection: AbstractConnection) -> None:
        await make(connection)
        await publisher.session(connection)

    async with running(link.run(patiently if patient else at_once), name="publish") as publish:
        yield publish
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await publisher.settle()


async def _looking(
    link: Link, make: Callable[[AbstractConnection], Awaitable[None]], connection: AbstractConnection
) -> None:
    """What has been deleted, unbound or mended meanwhile is made to stand without a reconnect.

    Raises:
        BrokerUnavailableError: what is needed is refused: nothing more may be published.
    """
    while True:
        await asyncio.sleep(LOOK_EVERY_SECONDS)
        if link.state is not LinkState.UP:
            continue  # a connection that is blocked would answer nothing
        try:
            await make(connection)
        except BrokerRefusedError as refusal:
            raise BrokerUnavailableError(str(refusal)) from refusal
        except TimeoutError:
            log.debug("the topology is looked at later", action="topology.no_answer")


def publisher_of(settings: Settings, link: Link, metrics: Metrics, *, window: int) -> Publisher:
    return Publisher(link, max_in_flight=window, patience=settings.receiver.confirm_wait, metrics=metrics)
