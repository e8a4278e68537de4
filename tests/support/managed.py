"""A node with RabbitMQ's management API, and what an operator does to it."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.development import private_node
from bridge.development.private_node import NodeError
from tests.support.node import Control

if TYPE_CHECKING:
    from collections.abc import Iterator

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Managed:
    url: str
    api: str
    """What `rabbitmq.management_url` is set to."""
    control: Control


@contextmanager
def managed_node(*, quick_counts: bool = False) -> Iterator[Managed]:
    """For fixtures that several tests share: it has an event loop of its own.

    Args:
        quick_counts: whether the API knows new counts after a second, not after 5 to 10.
    """
    with (
        tempfile.TemporaryDirectory(prefix="bridge-managed-") as directory,
        asyncio.Runner() as runner,
    ):
        stack = AsyncExitStack()
        try:
            yield runner.run(_started(stack, Path(directory), quick_counts=quick_counts))
        finally:
            runner.run(stack.aclose())


async def _started(stack: AsyncExitStack, directory: Path, *, quick_counts: bool) -> Managed:
    """A port that was free may be taken until the node listens, by whoever else runs here: then another one."""
    for attempt in range(_ATTEMPTS):
        with suppress(NodeError) if attempt + 1 < _ATTEMPTS else nullcontext():
            node = await stack.enter_async_context(
                private_node.running_node(
                    directory / str(attempt), management=True, quick_counts=quick_counts
                )
            )
            assert node.management_url is not None
            control = stack.enter_context(Control.with_shell(node.environment))
            return Managed(node.url, node.management_url, control)
    raise AssertionError("the last attempt raises")
