"""Load on a receiver in waves: a request on every connection at once, then all the answers."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from tests.programs.bench.mix import FIRST_ID, LENGTH, requests
from tests.programs.cost.callgrind import CostError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.programs.cost.callgrind import Counted

WIDTH: Final = 50
"""Connections, and so requests of a wave. A load of some thousand events is made of whole waves."""
_READ: Final = 64 * 1024
_ANSWER_SECONDS: Final = 300.0
_START_SECONDS: Final = 900.0
_LOOK_EVERY_SECONDS: Final = 0.1


class Waves:
    """All requests of a wave are there when the receiver looks, so that it always has the same to do."""

    def __init__(
        self, process: Counted, connections: list[socket.socket], path: str, expected: bytes
    ) -> None:
        self._process = process
        self._connections = connections
        self._mix = requests(path)
        self._number = 0
        self._expected = expected

    @classmethod
    @asynccontextmanager
    async def on(cls, process: Counted, *, port: int, path: str, expected: bytes) -> AsyncIterator[Waves]:
        """Connect when it listens.

        Args:
            process: the receiver.
            port: its own, on 127.0.0.1.
            path: of the webhook.
            expected: what every answer has to contain.
        """
        connections = [await _connected(process, port)]
        try:
            connections += [socket.create_connection(("127.0.0.1", port)) for _ in range(WIDTH - 1)]
            for connection in connections:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.settimeout(_ANSWER_SECONDS)
            yield cls(process, connections, path, expected)
        finally:
            for connection in connections:
                connection.close()

    async def post(self, count: int) -> None:
        """Raises CostError: an answer is not what is measured. Args: how many; a multiple of `WIDTH`."""
        await asyncio.to_thread(self._post, count)

    async def ready(self) -> None:
        """Post until all of a wave is answered as it should be: the broker may not be connected yet."""
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        while True:
            try:
                await self.post(WIDTH)
            except CostError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
            else:
                return

    def _post(self, count: int) -> None:
        wrong = []
        for _ in range(count // WIDTH):
            self._process.pause()
            for connection in self._connections:
                head, tail = self._mix[self._number % LENGTH]
                connection.sendall(b"%s%d%s" % (head, FIRST_ID + self._number, tail))
                self._number += 1
            self._process.resume()
            answers = [_answer(connection) for connection in self._connections]
            wrong += [answer for answer in answers if not self._is_expected(answer)]
        if wrong:
            raise CostError(f"{len(wrong)} of {count} answers are others than measured: {wrong[0][:400]!r}")

    def _is_expected(self, answer: bytes) -> bool:
        return answer.startswith(b"HTTP/1.1 200 ") and self._expected in answer


async def _connected(process: Counted, port: int) -> socket.socket:
    deadline = asyncio.get_running_loop().time() + _START_SECONDS
    while True:
        process.check()
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if asyncio.get_running_loop().time() > deadline:
                raise CostError(
                    f"it does not listen within {_START_SECONDS:g} s; see {process.log}"
                ) from None
            await asyncio.sleep(_LOOK_EVERY_SECONDS)


def _answer(connection: socket.socket) -> bytes:
    received = b""
    while not _is_whole(received):
        piece = connection.recv(_READ)
        if not piece:
            raise CostError("a connection was closed instead of an answer")
        received += piece
    return received


def _is_whole(received: bytes) -> bool:
    head, found, body = received.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return bool(found) and len(body) >= int(length)
