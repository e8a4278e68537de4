"""A publisher on a supervised connection, with the topology it needs; for every role that publishes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol

from bridge.amqp.connection import LinkState
from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError
from bridge.amqp.publisher import Publisher
from bridge.tasks import background_task, run_until_first_ends
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.connection import Link
    from bridge.settings.sections import Settings
    from bridge.telemetry.metrics import Metrics

log = logs.logger("roles")

TOPOLOGY_CHECK_SECONDS: Final = 30.0
"""How often the topology is checked: what was deleted or unbound is declared again within this time."""
_FIRST_CHECK_SECONDS: Final = 1.0
"""The first check of a topology that was not complete: somebody may just be declaring it, as at the start of a whole stack.
Each further check comes after twice the time, up to the above."""

LAST_CONFIRMS_SECONDS: Final = 1.0
"""How long the last confirms may take at the end. What has none by then is in the spool, or still in its queue."""


class DeclaredTopology(Protocol):
    """Declares a topology, as `RoleTopology` does."""

    async def declare(self, connection: AbstractConnection, *, include_suppression: bool = True) -> bool:
        """As `RoleTopology.declare`."""


@asynccontextmanager
async def publishing(
    link: Link, publisher: Publisher, topology: DeclaredTopology, *, keep_trying: bool = False
) -> AsyncIterator[asyncio.Task[None]]:
    """A publisher on a supervised connection. The end waits for confirms of what is in flight.

    The first session declares the whole topology. A later session does not declare a suppression queue that was deleted: the
    worker does, because it also fills it again.

    Args:
        link: the connection.
        publisher: runs its sessions on it.
        topology: declares the topology before anything is published.
        keep_trying: whether to go on trying after a refusal, and to check the topology at intervals. Else a refusal in the first
            session ends the task.
    """

    async def declare(connection: AbstractConnection) -> bool:
        return await topology.declare(connection, include_suppression=not link.was_up)

    async def retrying_session(connection: AbstractConnection) -> None:
        try:
            complete = await declare(connection)
        except TopologyRefusedError as refusal:
            raise BrokerUnavailableError(str(refusal)) from refusal
        await run_until_first_ends(
            publish=publisher.session(connection),
            topology=_check_topology(link, declare, connection, complete=complete),
        )

    async def single_session(connection: AbstractConnection) -> None:
        await declare(connection)
        await publisher.session(connection)

    async with background_task(
        link.run(retrying_session if keep_trying else single_session), name="publish"
    ) as publish:
        yield publish
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_CONFIRMS_SECONDS):
                await publisher.wait_until_idle()


async def _check_topology(
    link: Link,
    declare: Callable[[AbstractConnection], Awaitable[bool]],
    connection: AbstractConnection,
    *,
    complete: bool,
) -> None:
    """Declare again what was deleted or unbound, without a reconnect.

    Raises:
        BrokerUnavailableError: something that is required is refused: nothing may be published.
    """
    pause = TOPOLOGY_CHECK_SECONDS if complete else _FIRST_CHECK_SECONDS
    while True:
        await asyncio.sleep(pause)
        pause = min(2 * pause, TOPOLOGY_CHECK_SECONDS)
        if link.state is not LinkState.UP:
            continue  # a blocked connection does not answer
        try:
            await declare(connection)
        except TopologyRefusedError as refusal:
            raise BrokerUnavailableError(str(refusal)) from refusal
        except TimeoutError:
            log.debug("RabbitMQ does not answer: the topology is checked later", action="topology.no_answer")


def make_publisher(
    settings: Settings, link: Link, metrics: Metrics, *, window: int, returns_from: Collection[str] = ()
) -> Publisher:
    """A publisher for this connection.

    Args:
        settings: all of them.
        link: the connection.
        metrics: of this process.
        window: how many messages may be in flight.
        returns_from: as of `Publisher`.
    """
    return Publisher(
        link,
        max_in_flight=window,
        stalled_after=settings.receiver.confirm_wait,
        metrics=metrics,
        returns_from=returns_from,
    )
