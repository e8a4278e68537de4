"""HTTP as bytes: what exactly is sent, and what exactly comes back."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

import orjson

from bridge.receiver.handler import WEBHOOK_PATH
from tests.conftest import TOKEN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

PATIENCE_SECONDS = 90
TOO_LARGE = f"413 {HTTPStatus.REQUEST_ENTITY_TOO_LARGE.phrase}"
"""Python 3.13 has other words for it than 3.11; nobody reads them."""


@dataclass(frozen=True, slots=True)
class Answer:
    status_line: str
    headers: Mapping[str, str]
    """By name, in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int) -> AsyncIterator[Self]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()

    def send(self, *pieces: bytes) -> None:
        self._writer.write(b"".join(pieces))

    def reset(self) -> None:
        """Go without a word: RST."""
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def answer(self, *, with_body: bool = True) -> Answer:
        """The next answer; fails when none comes."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            status_line, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            length = int(headers.get("content-length", 0)) if with_body else 0
            return Answer(status_line, headers, await self._reader.readexactly(length))

    async def rest(self) -> bytes:
        """Whatever comes until the server closes the connection; fails when it does not close it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._reader.read()


def post(body: bytes, *headers: str, token: str = TOKEN) -> bytes:
    """A whole POST with its length."""
    return head("POST", f"Content-Length: {len(body)}", *headers, token=token) + body


def chunked(*pieces: bytes) -> bytes:
    """A whole POST in chunks."""
    chunks = (f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in (*pieces, b""))
    return head("POST", "Transfer-Encoding: chunked") + b"".join(chunks)


def head(method: str, *headers: str, token: str = TOKEN) -> bytes:
    lines = [f"{method} {WEBHOOK_PATH}{token} HTTP/1.1", "Host: bridge.example.org", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


async def ask(port: int, request: bytes) -> Answer:
    """One request on a connection of its own."""
    async with Wire.to(port) as wire:
        wire.send(request)
        return await wire.answer()
