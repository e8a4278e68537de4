"""What an event costs that the worker takes from its queue: a hard bounce or a complaint of an address that is known."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

import aio_pika
from sqlalchemy import func, select

from bridge.broker import declaring, topology, topology_plan
from bridge.broker.queue_counts import queue_counts, ready_messages
from bridge.settings.loading import load_settings
from bridge.suppression import model, opening
from bridge.suppression.store import Store
from tests.programs.bench.working import SUPPRESSING, publish
from tests.programs.cost.callgrind import CostError, Counted
from tests.programs.cost.confirms import SteadyConfirms
from tests.programs.cost.subject import Measured

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aio_pika.abc import AbstractConnection

    from bridge.settings.sections import RabbitMQ
    from bridge.suppression.database import Database
    from tests.programs.cost.place import Place

KNOWN: Final = 5_000
"""Messages whose address is on the list: more than are sent."""
_PREFETCH: Final = 500
"""What the worker takes at once, as shipped."""
_LOOK_EVERY_SECONDS: Final = 0.2
_PATIENCE_SECONDS: Final = 1200.0
_DELIVERY_SECONDS: Final = 10.0
"""RabbitMQ may stand still for some of them; with fewer events at once each costs the worker more."""


@asynccontextmanager
async def on_sqlite(place: Place) -> AsyncIterator[Measured]:
    folder = place.folder("worker-sqlite")
    async with _worker(place, folder, f"sqlite+aiosqlite:///{folder}/list.sqlite3") as measured:
        yield measured


@asynccontextmanager
async def on_postgresql(place: Place) -> AsyncIterator[Measured]:
    async with _worker(place, place.folder("worker-postgresql"), await place.database_url()) as measured:
        yield measured


@asynccontextmanager
async def _worker(place: Place, folder: Path, database_url: str) -> AsyncIterator[Measured]:
    amqp_url = await place.amqp_url()
    overrides = {"rabbitmq": {"urls": [amqp_url], "prefix": f"{folder.name}."}}
    rabbitmq = load_settings(overrides=overrides).rabbitmq
    environment = {
        "BRIDGE_RABBITMQ__PREFIX": rabbitmq.prefix,
        "BRIDGE_PROVIDER__BASE_URL": "http://127.0.0.1:1/v1",
        "BRIDGE_PROVIDER__API_TOKEN": "unused",
        "BRIDGE_SUPPRESSION__DATABASE_URL": database_url,
        "BRIDGE_WORKER__TAKE_OVER_AFTER": "86400",
    }
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(await aio_pika.connect(amqp_url))
        async with Store.open(database_url) as store:
            await store.remember({str(one): f"recipient{one}@example.org" for one in range(KNOWN)})
        await declaring.declare(connection, topology_plan.plan(rabbitmq, suppressing=SUPPRESSING))
        confirms = await stack.enter_async_context(SteadyConfirms.before(amqp_url))
        process = confirms.process = await stack.enter_async_context(
            Counted.running(
                "bridge", "worker", folder=folder, environment=place.environment(confirms.url) | environment
            )
        )
        database = await stack.enter_async_context(opening.open_database(database_url, create=False))
        queue = _Queue(connection, rabbitmq, process, database)
        await queue.consumed()
        yield Measured(process, queue.fill)


class _Queue:
    """What the worker is given, and whether it has done with it."""

    def __init__(
        self, connection: AbstractConnection, rabbitmq: RabbitMQ, process: Counted, database: Database
    ) -> None:
        self._connection = connection
        self._names = topology.Names(rabbitmq.prefix)
        self._process = process
        self._database = database
        self._sent = 0

    async def fill(self, count: int) -> None:
        """Returns when all are on the list, and their changes are published.

        The worker is stopped meanwhile, so that it finds as many as it takes at once.
        """
        await asyncio.to_thread(self._process.pause)
        await self._publish(count)
        await self._delivered(count)
        self._process.resume()
        deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        while await self._left():
            self._process.check()
            if asyncio.get_running_loop().time() > deadline:
                raise CostError(
                    f"the worker is not done within {_PATIENCE_SECONDS:g} s; see {self._process.log}"
                )
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
            await self._process.rest()

    async def consumed(self) -> None:
        """Wait until the worker takes from it."""
        while not (await queue_counts(self._connection, self._names.suppression))[1]:
            self._process.check()
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def _publish(self, count: int) -> None:
        first, self._sent = self._sent, self._sent + count
        async with self._connection.channel() as channel:
            await publish(channel, self._names.events, range(first, self._sent))

    async def _delivered(self, count: int) -> None:
        """Wait until RabbitMQ has sent what the worker takes at once, where one consumes already."""
        for _ in range(round(_DELIVERY_SECONDS / _LOOK_EVERY_SECONDS)):
            if (await ready_messages(self._connection, self._names.suppression) or 0) <= max(
                0, count - _PREFETCH
            ):
                return
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def _left(self) -> bool:
        changes = model.changes.c
        async with self._database.read() as connection:
            last = await connection.scalar(select(func.max(changes.id)))
            unpublished = await connection.scalar(select(func.count()).where(changes.published_at.is_(None)))
        return (last or 0) < self._sent or bool(unpublished)
