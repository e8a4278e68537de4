"""An operator who runs `bridge topology` on a virtual host of a test's own."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aio_pika

from tests.support.commands import bridge_within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aio_pika.abc import AbstractChannel

    from tests.support.commands import Outcome

_PATIENCE_SECONDS = 90


@dataclass(frozen=True, slots=True)
class TopologyOperator:
    url: str
    api: str
    directory: Path
    """With a list, `list.sqlite3`."""

    def variables(self, subscribers: str = "[]") -> dict[str, str]:
        """The settings."""
        return {
            "BRIDGE_RABBITMQ__URL": self.url,
            "BRIDGE_RABBITMQ__MANAGEMENT_URL": self.api,
            "BRIDGE_SUBSCRIBERS": subscribers,
            "BRIDGE_SUPPRESSION__DATABASE_URL": f"sqlite+aiosqlite:///{self.directory}/list.sqlite3",
        }

    async def run(self, *arguments: str, subscribers: str = "[]", **variables: str) -> Outcome:
        """`bridge topology ARGUMENTS...`."""
        given = self.variables(subscribers) | variables
        return await bridge_within(
            _PATIENCE_SECONDS, "topology", *arguments, directory=self.directory, **given
        )

    async def document(self, *arguments: str, subscribers: str = "[]", **variables: str) -> dict[str, Any]:
        """What it says with `--json`, and its exit code as `code`."""
        outcome = await self.run(*arguments, "--json", subscribers=subscribers, **variables)
        document: dict[str, Any] = json.loads(outcome.stdout) | {"code": outcome.code}
        return document

    @asynccontextmanager
    async def channel(self, *, confirms: bool = True) -> AsyncIterator[AbstractChannel]:
        """A channel on a connection of its own."""
        async with await aio_pika.connect(self.url) as connection:
            yield await connection.channel(publisher_confirms=confirms)
