"""What `bridge.amqp.aiormq_internals` and `.wire` use of aiormq and aio-pika beyond their documented interface.

These fail when an upgrade changes it. What it does on a real broker is in `tests/integration/test_publisher.py`
and `test_link.py`.
"""

from __future__ import annotations

import asyncio
import inspect
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest
from aiormq.channel import Channel
from aiormq.connection import Connection, FrameReceiver, SSLContextProvider, TransportFactory
from aiormq.exceptions import AMQPConnectionError
from pamqp import commands as spec
from pamqp import frame
from pamqp.heartbeat import Heartbeat
from yarl import URL

from bridge.amqp.aiormq_internals import make_fast_connection, open_confirm_channel
from bridge.amqp.connection import open_connection
from bridge.amqp.wire import Wire, wire_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

NOWHERE = URL("amqp://guest:guest@127.0.0.1:1/")
LAST_FRAME_TIME = "_Connection__last_frame_time"
READER = "_Connection__reader"


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def acked(self, delivery_tag: int, *, multiple: bool) -> None:
        self.told.append(("ack", delivery_tag, multiple))

    def nacked(self, delivery_tag: int, *, multiple: bool) -> None:
        self.told.append(("nack", delivery_tag, multiple))

    def returned(self, message: spec.Basic.Return, message_id: str) -> None:
        self.told.append(("return", message.routing_key, message_id))

    def closed(self, code: int, text: str) -> None:
        self.told.append(("closed", code, text))


class Broker:
    """As much of a broker as a client needs to open a channel; then it says what it is told to say."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._frames = FrameReceiver(reader)
        self._writer = writer
        self.asked: list[str] = []
        self.capabilities: Any = {}

    def say(self, channel: int, *frames: Any) -> None:
        self._writer.write(b"".join(frame.marshal(one, channel) for one in frames))

    async def serve(self, begins: bytes) -> None:
        assert begins == b"AMQP\x00\x00\x09\x01"
        self.say(0, spec.Connection.Start(server_properties={"capabilities": {"publisher_confirms": True}}))
        said = {
            spec.Connection.StartOk: spec.Connection.Tune(10, 131072, 0),
            spec.Connection.Open: spec.Connection.OpenOk(),
            spec.Connection.Close: spec.Connection.CloseOk(),
            spec.Channel.Open: spec.Channel.OpenOk(),
            spec.Channel.Close: spec.Channel.CloseOk(),
            spec.Confirm.Select: spec.Confirm.SelectOk(),
        }
        async for _, channel, one in self._frames:
            self.asked.append(one.name)
            if isinstance(one, spec.Connection.StartOk):
                self.capabilities = one.client_properties["capabilities"]
            if type(one) in said:
                self.say(channel, said[type(one)])


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[aio_pika.Connection, Broker]]:
    """A connection of ours to such a broker."""
    arrived: asyncio.Future[Broker] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker = Broker(reader, writer)
        arrived.set_result(broker)
        try:
            await broker.serve(await reader.readexactly(8))
        finally:
            writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connection = make_fast_connection(
            NOWHERE.with_port(port).with_query(heartbeat=0), client_properties={"connection_name": "a name"}
        )
        try:
            async with asyncio.timeout(90):
                await connection.connect()
                yield connection, await arrived
        finally:
            await connection.close()


async def test_a_factory_among_the_connections_arguments_is_asked_for_the_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """aio-pika passes its `kwargs` on to aiormq, which asks the factory with URL and TLS secrets, and nothing else."""
    asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    async def create(self: Wire, *arguments: Any, **options: Any) -> Any:
        asked.append(((self, *arguments), options))
        raise AMQPConnectionError("no further")

    monkeypatch.setattr(Wire, "create", create)
    connection = make_fast_connection(NOWHERE, client_properties={})
    with pytest.raises(AMQPConnectionError, match="no further"):
        await connection.connect()
    await connection.close()
    (((wire, url), options),) = asked
    assert isinstance(wire, Wire)
    assert wire is connection.kwargs["transport_factory"]
    assert (url.scheme, url.host, url.port) == ("amqp", "127.0.0.1", 1)
    assert options.keys() == {"ssl_context_provider"}
    assert isinstance(options["ssl_context_provider"], SSLContextProvider)
    assert inspect.iscoroutinefunction(SSLContextProvider.get_context)


def test_ours_is_a_factory_as_aiormq_describes_it() -> None:
    """The one method that it must have, with the arguments that its own factories take."""
    assert TransportFactory.__abstractmethods__ == {"create"}
    theirs, ours = (inspect.signature(one.create) for one in (TransportFactory, Wire))
    assert [kind.kind for kind in ours.parameters.values()] == [
        kind.kind for kind in theirs.parameters.values()
    ]
    assert list(ours.parameters)[:2] == list(theirs.parameters)[:2] == ["self", "url"]


@pytest.mark.parametrize(("scheme", "secret"), [("amqp", None), ("amqps", "a context")])
async def test_the_socket_is_opened_with_tls_where_the_url_says_so(
    monkeypatch: pytest.MonkeyPatch, scheme: str, secret: str | None
) -> None:
    """With the context that aiormq has made of the URL; what fails there is told in aiormq's own word."""
    opened: list[tuple[Any, ...]] = []

    async def create_connection(_: Callable[[], Any], *address: Any, ssl: Any) -> Any:
        opened.append((*address, ssl))
        raise ConnectionRefusedError(111, "refused")

    class Secrets:
        async def get_context(self) -> str:
            return "a context"

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", create_connection)
    with pytest.raises(AMQPConnectionError, match="refused"):
        await Wire().create(NOWHERE.with_scheme(scheme), ssl_context_provider=Secrets())
    assert opened == [("127.0.0.1", 1, secret)]


async def test_a_channel_has_what_the_publisher_uses() -> None:
    """Opened in confirm mode under a number of its own: the number, how much fits a frame, a future for its end."""
    async with connected() as (connection, broker):
        ours = await open_confirm_channel(connection, Heard())
        assert broker.asked[-2:] == ["Channel.Open", "Confirm.Select"]
        assert ours.channel.number == 1
        assert ours.channel.max_content_size == 131072 - 8
        assert asyncio.isfuture(ours.channel.closing)
        assert not ours.channel.closing.done()
        assert isinstance(ours.channel, Channel)
        assert ours.wire is connection.kwargs["transport_factory"]
        closing = ours.channel.closing
        broker.say(1, spec.Channel.Close(404, "NOT_FOUND - no exchange", 60, 40))
        async with asyncio.timeout(90):
            await asyncio.wait([closing])
        assert "NOT_FOUND" in str(closing.exception())


async def test_confirms_are_heard_at_the_socket_and_the_rest_is_read_by_aiormq() -> None:
    """On one socket: what we write stands between aiormq's frames, what the broker says goes where it belongs."""
    async with connected() as (connection, broker):
        heard = Heard()
        ours = await open_confirm_channel(connection, heard)
        ours.wire.write(frame.marshal(spec.Basic.Publish(exchange="by hand"), ours.channel.number))
        assert connection.transport is not None
        theirs = await connection.transport.connection.channel(publisher_confirms=True)
        assert broker.asked[-3:] == ["Basic.Publish", "Channel.Open", "Confirm.Select"]
        assert isinstance(theirs, Channel)
        assert theirs.number != ours.channel.number
        confirm: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        theirs.confirmations[1] = confirm
        for number in (ours.channel.number, theirs.number):
            broker.say(number, spec.Basic.Ack(delivery_tag=1, multiple=False))
        async with asyncio.timeout(90):
            assert isinstance(await confirm, spec.Basic.Ack)
        assert heard.told == [("ack", 1, False)]


async def test_what_is_written_after_the_connection_was_closed_goes_nowhere() -> None:
    """Not an error: it is lost like all that is in flight."""
    async with connected() as (connection, broker):
        ours = await open_confirm_channel(connection, Heard())
        asked = len(broker.asked)
        await connection.close()
        ours.wire.write(frame.marshal(spec.Basic.Publish(exchange="too late"), ours.channel.number))
    assert "Basic.Publish" not in broker.asked[asked:]


async def test_only_a_connection_on_our_wire_can_be_published_on() -> None:
    """Another one is a mistake in the wiring, told at once; one that is closed already is a loss."""
    plain = aio_pika.Connection(NOWHERE)
    with pytest.raises(TypeError, match="open_connection"):
        await open_confirm_channel(plain, Heard())
    closed = make_fast_connection(NOWHERE, client_properties={})
    with pytest.raises(ConnectionError, match="closed before it could be used"):
        await open_confirm_channel(closed, Heard())


@pytest.mark.parametrize("sign", [Heartbeat(), spec.Connection.Unblocked()], ids=["heartbeat", "any frame"])
async def test_any_frame_that_is_read_counts_as_a_sign_of_life(sign: Any) -> None:
    """A connection is closed by aiormq on which it has read nothing for three heartbeats: a heartbeat is enough for it."""
    connection = Connection(NOWHERE.with_query(heartbeat=0))
    reader = asyncio.StreamReader()
    assert isinstance(getattr(connection, LAST_FRAME_TIME), float)
    setattr(connection, LAST_FRAME_TIME, float("-inf"))
    assert connection.is_connection_was_stuck
    reader.feed_data(frame.marshal(sign, 0))
    reader.feed_eof()
    await getattr(connection, READER)(FrameReceiver(reader))
    assert not connection.is_connection_was_stuck


async def test_alarms_are_reported() -> None:
    """RabbitMQ reports them to clients that ask, and aiormq asks; they are read at the socket, and by aiormq, too."""
    told: asyncio.Queue[str | None] = asyncio.Queue()
    async with connected() as (connection, broker), asyncio.timeout(90):
        assert broker.capabilities["connection.blocked"] is True
        wire_of(connection).watch_alarms(blocked=told.put_nowait, unblocked=lambda: told.put_nowait(None))
        broker.say(0, spec.Connection.Blocked("low on memory"))
        assert await told.get() == "low on memory"
        while await is_ready(connection):
            pass
        broker.say(0, spec.Connection.Unblocked())
        assert await told.get() is None
        while not await is_ready(connection):
            pass


async def test_a_cancellation_while_aiormq_cleans_up_after_a_failed_handshake_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its error would come out instead, and a link that is to end would try again for ever."""
    opening: asyncio.Task[Any] | None = None
    close = Connection.close

    async def cancel_and_close(connection: Connection, *arguments: Any) -> None:
        assert opening is not None
        opening.cancel()
        await close(connection, *arguments)

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    monkeypatch.setattr(Connection, "close", cancel_and_close)
    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        opening = asyncio.create_task(open_connection(f"amqp://127.0.0.1:{port}/", name="test"))
        await asyncio.wait([opening])
    assert opening.cancelled()


async def is_ready(connection: aio_pika.Connection) -> bool:
    """As the plain path asks aiormq."""
    assert connection.transport is not None
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(0.01):
            await connection.transport.connection.ready()
    except TimeoutError:
        return False
    return True
