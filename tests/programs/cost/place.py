"""Where it is measured: a RabbitMQ and a PostgreSQL that start when they are first asked for, and a folder."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

from bridge.development import private_node
from tests.support.postgres import Databases, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_LONG_SECONDS: Final = 600
"""No process under valgrind is in time."""


class Place:
    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._stack = stack
        self._starting = asyncio.Lock()
        self._amqp_url: str | None = None
        self._databases: Databases | None = None

    @classmethod
    @asynccontextmanager
    async def made(cls, folder: Path) -> AsyncIterator[Place]:
        """What it has started ends with the context. Args: a new folder."""
        await asyncio.to_thread(folder.chmod, 0o711)  # PostgreSQL may run as another user
        async with AsyncExitStack() as stack:
            yield cls(folder, stack)

    def folder(self, name: str) -> Path:
        """A new one."""
        path = self._folder / f"{next(self._numbers)}-{name}"
        path.mkdir()
        return path

    async def amqp_url(self) -> str:
        async with self._starting:
            if self._amqp_url is None:
                running = private_node.running_node(self._folder / "rabbit")
                self._amqp_url = (await self._stack.enter_async_context(running)).url
            return self._amqp_url

    async def database_url(self) -> str:
        """Of a new database on PostgreSQL."""
        async with self._starting:
            if self._databases is None:
                server = await self._stack.enter_async_context(Server.running())
                self._databases = Databases(server.url())
            return await self._databases.fresh()

    @staticmethod
    def environment(amqp_url: str) -> dict[str, str]:
        """The bridge as shipped, but for what would be late under valgrind."""
        return {
            "BRIDGE_RABBITMQ__URLS": amqp_url,
            "BRIDGE_RABBITMQ__HEARTBEAT": str(_LONG_SECONDS),
            "BRIDGE_RABBITMQ__CONNECT_TIMEOUT": str(_LONG_SECONDS),
            "BRIDGE_RABBITMQ__RECONNECT_MAX": str(_LONG_SECONDS),
            "BRIDGE_HEALTH__PORT": "0",
            "BRIDGE_LOGS__FORMAT": "json",
        }
