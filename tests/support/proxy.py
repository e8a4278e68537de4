"""A TCP proxy in front of a server, with faults to switch on: silence, latency, cuts, refusals."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_CHUNK: Final = 64 * 1024
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER, on, 0 s: a close sends RST instead of FIN."""


@dataclass(slots=True)
class Way:
    """One direction through the proxy; what is set counts for open and for new connections alike."""

    latency: float = 0.0
    """Seconds that each piece is under way."""
    passed: int = 0
    """Bytes that have come out."""
    _open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._open.set()

    @property
    def silent(self) -> bool:
        """Whether it is paused."""
        return not self._open.is_set()

    def pause(self) -> None:
        """A black hole: nothing comes out any more, and nobody is told."""
        self._open.clear()

    def resume(self) -> None:
        """What was held back comes out, in order."""
        self._open.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the reader's side ends its stream; then the writer's side hears that it has."""
        clock = asyncio.get_running_loop().time
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def take_in() -> None:
            while True:
                piece = await reader.read(_CHUNK)
                under_way.put_nowait((clock() + self.latency, piece))
                if not piece:
                    return

        async def put_out() -> None:
            while True:
                due, piece = await under_way.get()
                await asyncio.sleep(max(0.0, due - clock()))
                await self._open.wait()
                if not piece:
                    writer.write_eof()
                    return
                writer.write(piece)
                await writer.drain()
                self.passed += len(piece)

        async with asyncio.TaskGroup() as both:
            both.create_task(take_in())
            both.create_task(put_out())


class Proxy:
    """Listens on a port of its own and forwards to one address."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._writers: set[asyncio.StreamWriter] = set()
        self._refusing = False
        self.port = 0
        self.connections = 0
        """How many have been forwarded, in all."""
        self.to_server = Way()
        self.to_client = Way()

    @classmethod
    @asynccontextmanager
    async def serve(cls, url: str) -> AsyncIterator[Self]:
        """A proxy in front of the server that this URL names; all it holds ends with the context."""
        target = URL(url)
        proxy = cls(target.host or "127.0.0.1", target.port or 5672)
        async with asyncio.TaskGroup() as forwarding:

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                forwarding.create_task(proxy._forward(reader, writer))

            server = await asyncio.start_server(accept, "127.0.0.1", 0)
            proxy.port = server.sockets[0].getsockname()[1]
            try:
                yield proxy
            finally:
                server.close()
                proxy.resume()
                proxy.cut()

    def url(self, url: str) -> str:
        """The same URL, through this proxy."""
        return str(URL(url).with_host("127.0.0.1").with_port(self.port))

    @property
    def silent(self) -> bool:
        """Whether nothing comes out in one direction or both."""
        return self.to_server.silent or self.to_client.silent

    def pause(self) -> None:
        """A black hole in both directions."""
        self.to_server.pause()
        self.to_client.pause()

    def resume(self) -> None:
        self.to_server.resume()
        self.to_client.resume()

    def delay(self, seconds: float) -> None:
        """Latency in both directions."""
        self.to_server.latency = self.to_client.latency = seconds

    def cut(self) -> None:
        """Reset every connection, on both sides; what was under way is lost."""
        for writer in tuple(self._writers):
            _reset(writer)

    def refuse(self) -> None:
        """Reset every connection, and each new one, until `accept`."""
        self._refusing = True
        self.cut()

    def accept(self) -> None:
        self._refusing = False

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            _reset(writer)
            return
        with self._kept(writer):
            try:
                server_reader, server_writer = await asyncio.open_connection(*self._target)
            except OSError:
                _reset(writer)
                return
            self.connections += 1
            with self._kept(server_writer):
                await self._both_ways((reader, writer), (server_reader, server_writer))

    async def _both_ways(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self.to_server.carry(client[0], server[1]))
                ways.create_task(self.to_client.carry(server[0], client[1]))
        except* OSError:  # one side is gone, so the other is told in the same way
            _reset(client[1])
            _reset(server[1])

    @contextmanager
    def _kept(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
