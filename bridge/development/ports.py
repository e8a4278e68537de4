"""Ports of 127.0.0.1 that nobody listens on, and that nobody else is given."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_RANGE: Final = range(26_000, 32_000)
"""Below those that clients get: Linux takes them from 32768 on (`net.ipv4.ip_local_port_range`), others from 49152 on.
A free port of theirs may be that of a client's connection before it is listened on. Above RabbitMQ's own 25672."""
_BLOCK: Final = 50
"""So many ports are reserved at once, with one socket."""


class NoFreePortError(OSError):
    """All of them are used or reserved. The message says from where to where."""


class Ports:
    """Gives out each port once; what it has reserved is its own as long as its process lives.

    A block of ports is reserved by a UDP socket that is bound to the first of them: that disturbs nobody who listens
    there with TCP, it cannot be done twice, and the kernel closes it however the process ends.
    """

    def __init__(self, ports: Sequence[int] = _RANGE, *, block: int = _BLOCK) -> None:
        """Reserve nothing yet.

        Args:
            ports: those to give out.
            block: how many are reserved at once.
        """
        self._ends = ports[0], ports[-1]
        blocks = [ports[start : start + block] for start in range(0, len(ports), block)]
        # Two processes that start at the same time have different numbers, and so have one and its successor.
        first = os.getpid() % len(blocks)
        self._blocks = blocks[first:] + blocks[:first]
        self._mine: list[int] = []
        self._one_at_a_time = threading.Lock()

    def take(self, count: int) -> list[int]:
        """This many ports on which nobody listens now.

        Raises:
            NoFreePortError: there are no more.
        """
        with self._one_at_a_time:
            return [self._next() for _ in range(count)]

    def _next(self) -> int:
        while True:
            while self._mine:
                port = self._mine.pop(0)
                if are_free(port):
                    return port
            self._reserve()

    def _reserve(self) -> None:
        while self._blocks:
            block = self._blocks.pop(0)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reservation:
                try:
                    reservation.bind(("127.0.0.1", block[0]))
                except OSError:  # another process has it
                    continue
                reservation.detach()  # it stays open until the process ends
            self._mine = list(block)
            return
        first, last = self._ends
        raise NoFreePortError(
            f"there is no free port of 127.0.0.1 from {first} to {last}: others listen there or have reserved them"
        )


_OF_THIS_PROCESS: Final = Ports()


def free_ports(count: int) -> list[int]:
    """This many different free ports, which no other call is given, here or in another process, until this one ends.

    Raises:
        NoFreePortError: there are no more.
    """
    return _OF_THIS_PROCESS.take(count)


def are_free(*ports: int) -> bool:
    """Whether all of these could be listened on now."""
    with ExitStack() as sockets:
        try:
            for port in ports:
                one = sockets.enter_context(socket.socket())
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
