"""What an operator does who finds that RabbitMQ cannot read the archive after a power cut: docs/operate.md says it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from bridge.amqp.connection import open_connection
from tests.programs.chaos.injecting import AWAY
from tests.programs.chaos.stream_probe import why_unreadable

if TYPE_CHECKING:
    from tests.programs.chaos.stack import Stack

_PATIENCE_SECONDS: Final = 20.0
"""A node that has just started does not know its streams yet."""
_LOOK_EVERY_SECONDS: Final = 1.0


async def replace_unreadable(stack: Stack) -> str:
    """Delete the archive if no node can read it; a role declares it again. Returns what was done; empty if nothing had to be."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while why := await _unreadable(stack):
        if time.monotonic() > until:
            await stack.servers.control.run("delete_queue", "-p", stack.name, stack.names.archive)
            return f"deleted the archive, which could not be read after the power cut: {why}"
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
    return ""


async def _unreadable(stack: Stack) -> str:
    """Why no node can read it."""
    why = ""
    for url in stack.broker_urls:
        try:
            async with await open_connection(url, name="chaos archive") as connection:
                why = await why_unreadable(connection, stack.names.archive)
        except AWAY as error:
            why = repr(error)
        if not why:
            break
    return why
