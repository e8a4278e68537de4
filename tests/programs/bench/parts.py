"""What each part of the fast path of AMQP buys: CPU of this process per message, with and without it.

`make bench` shows the fast path of HTTP, and all of it together: "plain HTTP", "plain AMQP" and "plain path".
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import aio_pika
import typer
import uvloop
from pamqp import commands as spec
from pamqp import frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from rich.console import Console
from rich.table import Table

from bridge import events, fast_path
from bridge.amqp import aiormq_internals
from bridge.amqp.channels import open_channel
from bridge.amqp.connection import open_connection
from bridge.amqp.deliveries import Deliveries
from bridge.amqp.message_path import path_of
from bridge.amqp.properties import decode_properties
from bridge.amqp.publish_channel import PublishChannel, PublishCounters
from bridge.amqp.wire import wire_of
from bridge.broker import messages
from bridge.development import private_node
from bridge.development.emission import event_body
from bridge.settings.sections import Logs
from bridge.telemetry import logs
from bridge.telemetry.metrics import Metrics
from tests.programs import program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from aio_pika.abc import AbstractConnection
    from aiormq import Channel

    from bridge.amqp.message_path import ConfirmChannel, ConfirmListener
    from bridge.amqp.message_types import Message
    from bridge.amqp.publish_errors import PublishError

    Measure = Callable[[AbstractConnection, Sequence[Message]], Awaitable[float]]

_QUEUE: Final = "bench.parts"
_WINDOW: Final = 200
"""Messages in flight: a receiver with a few dozen connections has so many."""
_AT: Final = 1539062173


class _Frames:
    """The frames of a message, encoded by pamqp."""

    def __init__(self, channel: int, largest_body: int) -> None:
        del largest_body
        self._channel = channel
        self._properties: dict[bytes, spec.Basic.Properties] = {}

    def frames(self, message: Message) -> list[bytes]:
        publish = spec.Basic.Publish(
            exchange=message.exchange, routing_key=message.routing_key, mandatory=message.mandatory
        )
        header = ContentHeader(body_size=len(message.body), properties=self._decoded(message))
        return [frame.marshal(one, self._channel) for one in (publish, header, ContentBody(message.body))]

    def _decoded(self, message: Message) -> spec.Basic.Properties:
        """Cached: without this part the properties would not be encoded yet, so decoding is not its cost."""
        found = self._properties.get(message.properties)
        if found is None:
            found = self._properties[message.properties] = decode_properties(message.properties).to_pamqp()
        return found


class _AiormqsConfirms:
    """Frames encoded by hand. aiormq reads the confirms, with a future for each."""

    def __init__(self, connection: AbstractConnection, channel: Channel, listener: ConfirmListener) -> None:
        self.channel = channel
        self._listener = listener
        self._ours = aiormq_internals.ConfirmChannel(wire_of(connection), channel)

    def send(self, message: Message) -> None:
        self.channel.delivery_tag += 1
        tag = self.channel.delivery_tag
        confirm = self.channel.create_future()
        confirm.add_done_callback(lambda _: self._listener.acked(tag, multiple=False))
        self.channel.confirmations[tag] = confirm
        self._ours.send(message)

    def flush(self) -> None:
        self._ours.flush()

    def release(self) -> None:
        self._ours.release()


async def _as_it_is(connection: AbstractConnection, listener: ConfirmListener) -> ConfirmChannel:
    return await path_of(connection).open_confirm_channel(connection, listener)


async def _with_pamqps_frames(connection: AbstractConnection, listener: ConfirmListener) -> ConfirmChannel:
    opened = await aiormq_internals.open_confirm_channel(connection, listener)
    opened._framer = _Frames(opened.channel.number, opened.channel.max_content_size)  # type: ignore[assignment]  # it has the same interface
    return opened


async def _with_aiormqs_confirms(connection: AbstractConnection, listener: ConfirmListener) -> ConfirmChannel:
    return _AiormqsConfirms(connection, await open_channel(connection, publisher_confirms=True), listener)


def _publishes(
    opened: Callable[[AbstractConnection, ConfirmListener], Awaitable[ConfirmChannel]],
) -> Measure:
    async def measure(connection: AbstractConnection, them: Sequence[Message]) -> float:
        channel = PublishChannel(
            PublishCounters(Metrics()), max_in_flight=2 * _WINDOW, on_problem=lambda _: None
        )
        channel.opened(await opened(connection, channel))
        left = asyncio.Semaphore(_WINDOW)

        def outcome(error: PublishError | None) -> None:
            if error is not None:
                raise error
            left.release()

        async with _cpu() as used:
            for one in them:
                await left.acquire()
                channel.send(one, outcome)
            await channel.wait_until_idle()
        return used[0] / len(them)

    return measure


async def _deliveries(connection: AbstractConnection, them: Sequence[Message]) -> float:
    async with Deliveries.open(connection, _QUEUE, prefetch=500, acknowledge_every=100) as deliveries:
        async with _cpu() as used:
            got = 0
            while got < len(them):
                got += len(await deliveries.receive())
        return used[0] / len(them)


@asynccontextmanager
async def _cpu() -> AsyncIterator[list[float]]:
    used = [0.0]
    began = time.process_time()
    yield used
    used[0] = time.process_time() - began


def _made(bodies: Sequence[bytes], make: Callable[[bytes], object]) -> float:
    began = time.process_time()
    for body in bodies:
        make(body)
    return (time.process_time() - began) / len(bodies)


def _by_template(body: bytes) -> object:
    return messages.event_message(events.parse(body), body, exchange="", received_at=_AT * 1000)


def _by_pamqp(body: bytes) -> object:
    event = events.parse(body)
    time_ = datetime.fromtimestamp(event.timestamp, UTC)
    properties = messages._properties(event.name, event.id, event.message_id, time_.isoformat())
    properties.timestamp = time_
    return properties.marshal()


PUBLISHES: Final = {
    "publish, fast path": ("auto", _publishes(_as_it_is)),
    "publish, frames by pamqp": ("auto", _publishes(_with_pamqps_frames)),
    "publish, confirms by aiormq": ("auto", _publishes(_with_aiormqs_confirms)),
    "publish, plain path": ("off", _publishes(_as_it_is)),
}
DELIVERIES: Final = {
    "deliver, fast path": ("auto", _deliveries),
    "deliver, plain path": ("off", _deliveries),
}
MESSAGES: Final = {"message from its template": _by_template, "message by pamqp": _by_pamqp}


async def measure(*, rounds: int, number: int) -> dict[str, float]:
    """Seconds of CPU per message: medians of the rounds, in which the parts alternate."""
    taken: dict[str, list[float]] = {name: [] for name in (*PUBLISHES, *DELIVERIES, *MESSAGES)}
    bodies = [event_body("opened", one, _AT, {}) for one in range(number)]
    them = [
        messages.event_message(events.parse(body), body, exchange="", received_at=_AT * 1000)
        for body in bodies
    ]
    them = [one._replace(routing_key=_QUEUE) for one in them]
    with tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder:
        async with (
            private_node.running_node(Path(folder)) as node,
            await aio_pika.connect(node.url) as theirs,
        ):
            channel = await theirs.channel()
            await channel.declare_queue(_QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
            for _ in range(rounds):
                for name, make in MESSAGES.items():
                    taken[name].append(_made(bodies, make))
                for publishing, delivering in _pairs():
                    for name, (setting, part) in (publishing, delivering):
                        taken[name].append(await _measured(node.url, setting, part, them))
    return {name: statistics.median(found) for name, found in taken.items()}


def _pairs() -> list[tuple[tuple[str, Any], tuple[str, Any]]]:
    """Each measurement that fills the queue is followed by one that empties it, alternately on both paths."""
    delivering = list(DELIVERIES.items())
    return [(one, delivering[turn % len(delivering)]) for turn, one in enumerate(PUBLISHES.items())]


async def _measured(url: str, setting: Any, part: Measure, them: Sequence[Message]) -> float:
    fast_path.configure(setting)
    async with await open_connection(url, name="bench") as connection:
        return await part(connection, them)


def main(
    rounds: Annotated[int, typer.Option(help="How often each is measured.")] = 5,
    number: Annotated[int, typer.Option(help="Messages of each measurement.")] = 20_000,
) -> None:
    """Measure what each part of the fast path of AMQP buys.

    Example: python -m tests.programs.bench.parts --rounds 5
    """
    logs.configure(Logs(level="error"))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(rounds=rounds, number=number))
    table = Table("part", "CPU, us/message")
    for name, seconds in found.items():
        table.add_row(name, f"{seconds * 1e6:.1f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    program.run(main)
