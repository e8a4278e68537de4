"""`python -m tests.programs.bench.generator`: the project's own load, open loop or as fast as it is answered, in its own process.

`select` and not asyncio: its timers are exact to the microsecond where those of epoll are to the millisecond, and
answer times below one are measured here.
"""

from __future__ import annotations

import gc
import select
import socket
import sys
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Annotated, Final

import orjson
import typer

from tests.programs.bench.mix import FIRST_ID, LENGTH, requests

if TYPE_CHECKING:
    from collections.abc import Iterator

_READ: Final = 64 * 1024
_PATIENCE_SECONDS: Final = 5.0
_OK: Final = b"2"


class Client:
    """So many connections, each with one request under way at the most."""

    def __init__(self, port: int, connections: int, events: Iterator[bytes]) -> None:
        self._events = events
        self._idle = deque(socket.create_connection(("127.0.0.1", port)) for _ in range(connections))
        self._waiting: dict[socket.socket, float] = {}
        self._received: dict[socket.socket, bytes] = {}
        self.seconds: list[float] = []
        """From when a request was due, not from when it was sent, to the end of its answer."""
        self.wrong: Counter[str] = Counter()
        for connection in self._idle:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self, seconds: float, rate: float | None) -> None:
        """Send for a time, then wait for the last answers.

        Args:
            seconds: how long.
            rate: requests a second, at equal distances; None is as fast as they are answered.
        """
        began = due = time.perf_counter()
        end, sent = began + seconds, 0
        while due < end:
            now = time.perf_counter()
            while self._idle and due <= now and due < end:
                self._send(due)
                sent += 1
                due = now if rate is None else began + sent / rate
            self._receive(max(0.0, due - time.perf_counter()) if self._idle else _PATIENCE_SECONDS)
            if rate is None:
                due = time.perf_counter()
        while self._waiting:
            self._receive(_PATIENCE_SECONDS)

    def _send(self, due: float) -> None:
        connection = self._idle.popleft()
        self._waiting[connection] = due
        self._received[connection] = b""
        connection.sendall(next(self._events))

    def _receive(self, patience: float) -> None:
        readable, _, _ = select.select(self._waiting, (), (), patience)
        if not readable and patience == _PATIENCE_SECONDS:
            raise TimeoutError(f"no answer came for {patience:g} s")
        for connection in readable:
            received = self._received[connection] + (piece := connection.recv(_READ))
            if not piece:
                raise ConnectionResetError("a connection was closed instead of an answer")
            self._received[connection] = received
            if _is_whole(received):
                self.seconds.append(time.perf_counter() - self._waiting.pop(connection))
                if received[9:10] != _OK:
                    self.wrong[received[9:12].decode()] += 1
                self._idle.append(connection)


def main(
    port: int,
    path: str,
    seconds: float,
    rate: Annotated[float, typer.Option(help="Requests a second; 0 is as fast as they are answered.")] = 0,
    connections: int = 64,
    first_id: int = FIRST_ID,
) -> None:
    """Post the mix to 127.0.0.1 and print what came of it as JSON, times in microseconds.

    Example: python -m tests.programs.bench.generator 8080 /webhooks/msndr/a-token-for-the-figures 20 --rate 2000
    """
    gc.disable()  # a collection would be a pause of ours in somebody else's answer time
    client = Client(port, connections, _events(path, first_id))
    began = time.perf_counter()
    client.run(seconds, rate or None)
    took = time.perf_counter() - began
    ordered = [round(second * 1e6) for second in sorted(client.seconds)]
    result = {
        "requests": len(ordered),
        "microseconds": round(took * 1e6),
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[len(ordered) * 99 // 100],
        "worst": ordered[-1],
        "wrong": client.wrong,
    }
    sys.stdout.write(f"RESULT {orjson.dumps(result).decode()}\n")


def _events(path: str, first_id: int) -> Iterator[bytes]:
    mixed, number = requests(path), first_id
    while True:
        head, tail = mixed[number % LENGTH]
        number += 1
        yield b"%s%d%s" % (head, number, tail)


def _is_whole(received: bytes) -> bool:
    head, found, body = received.partition(b"\r\n\r\n")
    if not found:
        return False
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return len(body) >= int(length)


if __name__ == "__main__":
    typer.run(main)
