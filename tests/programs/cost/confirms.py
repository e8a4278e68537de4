"""A proxy in front of RabbitMQ that hands out confirms in one way only: RabbitMQ's own way depends on the disk and the hour.

It keeps them until all that was published is confirmed and the program sleeps, and passes on the rest as it comes.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.programs.cost.callgrind import Counted

EVERY: Final = 10
"""Events that one confirm is about, where there are as many."""
_LOOK_EVERY_SECONDS: Final = 0.002
_READ: Final = 256 * 1024
_HEADER: Final = b"AMQP\x00\x00\x09\x01"
_METHOD, _END = 1, b"\xce"
_CHANNEL_OPEN: Final = b"\x00\x14\x00\x0a"
_PUBLISH: Final = b"\x00\x3c\x00\x28"
_ACK: Final = b"\x00\x3c\x00\x50"


class Frame(NamedTuple):
    kind: int
    channel: int
    payload: bytes
    whole: bytes

    def is_method(self, method: bytes) -> bool:
        return self.kind == _METHOD and self.payload.startswith(method)


class Frames:
    """Cuts bytes into frames of AMQP 0-9-1."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, piece: bytes) -> Iterator[Frame]:
        """Those that are complete with this piece. The header that begins a connection is none."""
        data, at = self._rest + piece, 0
        if data.startswith(_HEADER):
            at = len(_HEADER)
        while len(data) - at >= 7:
            kind, channel, size = struct.unpack_from(">BHI", data, at)
            if len(data) - at < size + 8:
                break
            yield Frame(kind, channel, data[at + 7 : at + 7 + size], data[at : at + size + 8])
            at += size + 8
        self._rest = data[at:]


class Channel:
    """What was published on one channel, and what of it is confirmed."""

    def __init__(self) -> None:
        self._published = 0
        self._confirmed = 0
        self._ahead: set[int] = set()
        self._passed_on = 0

    def published(self) -> None:
        self._published += 1

    def confirmed(self, tag: int, *, multiple: bool) -> None:
        if multiple:
            self._confirmed = max(self._confirmed, tag)
        else:
            self._ahead.add(tag)
        self._ahead = {one for one in self._ahead if one > self._confirmed}
        while self._confirmed + 1 in self._ahead:
            self._confirmed += 1
            self._ahead.discard(self._confirmed)

    @property
    def is_complete(self) -> bool:
        """Whether all is confirmed, and not all of that passed on."""
        return self._passed_on < self._confirmed == self._published

    def pass_on(self) -> list[int]:
        """The tags up to which to confirm, one after the other."""
        tags = [*range(self._passed_on + EVERY, self._confirmed, EVERY), self._confirmed]
        self._passed_on = self._confirmed
        return tags


def ack(channel: int, tag: int) -> bytes:
    """The frame that confirms all up to this tag."""
    return struct.pack(">BHI", _METHOD, channel, 13) + _ACK + struct.pack(">QB", tag, 1) + _END


class SteadyConfirms:
    """The proxy. It has to be told of the process before that publishes."""

    def __init__(self, host: str, port: int) -> None:
        self._broker = host, port
        self.process: Counted | None = None
        self.url = ""

    @classmethod
    @asynccontextmanager
    async def before(cls, amqp_url: str) -> AsyncIterator[SteadyConfirms]:
        """It listens at `url` until the context ends. Args: where RabbitMQ is."""
        broker = URL(amqp_url)
        proxy = cls(broker.host or "127.0.0.1", broker.port or 5672)
        server = await asyncio.start_server(proxy._connection, "127.0.0.1", 0)
        proxy.url = str(broker.with_port(server.sockets[0].getsockname()[1]))
        try:
            yield proxy
        finally:
            server.close()

    async def _connection(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        broker, to_broker = await asyncio.open_connection(*self._broker)
        channels: dict[int, Channel] = {}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._to_broker(client, to_broker, channels))
                group.create_task(self._to_client(broker, to_client, channels))
        except* ConnectionError:
            pass  # the end of one is the end of the other
        finally:
            to_client.close()
            to_broker.close()

    @staticmethod
    async def _to_broker(
        client: asyncio.StreamReader, to_broker: asyncio.StreamWriter, channels: dict[int, Channel]
    ) -> None:
        frames = Frames()
        while piece := await client.read(_READ):
            for frame in frames.of(piece):
                if frame.is_method(_CHANNEL_OPEN):
                    channels[frame.channel] = Channel()
                elif frame.is_method(_PUBLISH):
                    channels[frame.channel].published()
            to_broker.write(piece)
        raise ConnectionResetError("the program has closed its connection")

    async def _to_client(
        self, broker: asyncio.StreamReader, to_client: asyncio.StreamWriter, channels: dict[int, Channel]
    ) -> None:
        frames = Frames()
        reading = asyncio.create_task(broker.read(_READ))
        while True:
            waiting = any(channel.is_complete for channel in channels.values())
            await asyncio.wait([reading], timeout=_LOOK_EVERY_SECONDS if waiting else None)
            if reading.done():
                if not (piece := reading.result()):
                    raise ConnectionResetError("RabbitMQ has closed the connection")
                reading = asyncio.create_task(broker.read(_READ))
                to_client.write(_without_confirms(frames.of(piece), channels))
            elif self.process is not None and self.process.sleeps():
                confirms = [
                    ack(number, tag)
                    for number, channel in channels.items()
                    if channel.is_complete
                    for tag in channel.pass_on()
                ]
                to_client.write(b"".join(confirms))


def _without_confirms(frames: Iterator[Frame], channels: dict[int, Channel]) -> bytes:
    others = []
    for frame in frames:
        if frame.is_method(_ACK):
            tag, multiple = struct.unpack_from(">QB", frame.payload, 4)
            channels[frame.channel].confirmed(tag, multiple=bool(multiple))
        else:
            others.append(frame.whole)
    return b"".join(others)
