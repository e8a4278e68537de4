"""What an event costs that is posted: aiohttp's handler that does nothing, the receiver with RabbitMQ and without, and with traces."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import orjson

from tests.programs.bench.tracing import otlp_receiver
from tests.programs.cost.callgrind import Counted
from tests.programs.cost.confirms import SteadyConfirms
from tests.programs.cost.load import Waves
from tests.programs.cost.subject import Measured
from tests.programs.faults.stage import TOKEN, WEBHOOK
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tests.programs.cost.place import Place


@asynccontextmanager
async def noop(place: Place) -> AsyncIterator[Measured]:
    port = free_port()
    async with (
        Counted.running(
            "tests.programs.bench.contenders.noop",
            folder=place.folder("noop"),
            environment={"PORT": str(port), "WEBHOOK": WEBHOOK},
        ) as process,
        Waves.on(process, port=port, path=WEBHOOK, expected=b"accepted") as waves,
    ):
        await waves.ready()
        yield Measured(process, waves.post)


@asynccontextmanager
async def confirmed(place: Place) -> AsyncIterator[Measured]:
    async with (
        SteadyConfirms.before(await place.amqp_url()) as confirms,
        _receiver(place, "confirmed", confirms.url, confirms) as measured,
    ):
        yield measured


@asynccontextmanager
async def spooled(place: Place) -> AsyncIterator[Measured]:
    async with _receiver(place, "spooled", f"amqp://127.0.0.1:{free_port()}/") as measured:
        yield measured


@asynccontextmanager
async def no_trace_recorded(place: Place) -> AsyncIterator[Measured]:
    """Traces are on, and none is chosen."""
    async with _traced(place, sampling=0.0) as measured:
        yield measured


@asynccontextmanager
async def every_trace_recorded(place: Place) -> AsyncIterator[Measured]:
    async with _traced(place, sampling=1.0) as measured:
        yield measured


@asynccontextmanager
async def _traced(place: Place, *, sampling: float) -> AsyncIterator[Measured]:
    async with AsyncExitStack() as stack:
        confirms = await stack.enter_async_context(SteadyConfirms.before(await place.amqp_url()))
        tracing = {
            "BRIDGE_TRACING__ENABLED": "true",
            "BRIDGE_TRACING__SAMPLING": str(sampling),
            "BRIDGE_TRACING__ENDPOINT": await stack.enter_async_context(otlp_receiver()),
        }
        yield await stack.enter_async_context(
            _receiver(place, "confirmed", confirms.url, confirms, more=tracing)
        )


@asynccontextmanager
async def _receiver(
    place: Place,
    durability: str,
    amqp_url: str,
    confirms: SteadyConfirms | None = None,
    *,
    more: Mapping[str, str] | None = None,
) -> AsyncIterator[Measured]:
    folder, port = place.folder(durability), free_port()
    environment = place.environment(amqp_url) | {
        "BRIDGE_RECEIVER__HOST": "127.0.0.1",
        "BRIDGE_RECEIVER__PORT": str(port),
        "BRIDGE_RECEIVER__CONFIRM_WAIT": "60",
        "BRIDGE_RECEIVER__TOKENS": orjson.dumps([TOKEN]).decode(),
        "BRIDGE_RABBITMQ__PREFIX": f"{folder.name}.",
        "BRIDGE_SPOOL__DIRECTORY": str(folder / "spool"),
        **(more or {}),
    }
    expected = b'"durability":"%s"' % durability.encode()
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(
            Counted.running("bridge", "receiver", folder=folder, environment=environment)
        )
        if confirms is not None:
            confirms.process = process
        waves = await stack.enter_async_context(Waves.on(process, port=port, path=WEBHOOK, expected=expected))
        if confirms is not None:
            # What came earlier would be spooled, and drained some time later, over a connection of its own.
            await process.says("broker.connected")
        await waves.ready()
        yield Measured(process, waves.post)
