"""The RabbitMQ node of `bridge dev`: never two in one folder, and started again when it has ended."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiormq.exceptions import AMQPError

from bridge.amqp.channels import server_says
from bridge.amqp.connection import open_connection
from bridge.development.private_node import NodeError, running_node, stored_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from bridge.development.private_node import PrivateNode

_LISTENS: Final = re.compile(r"^listeners\.tcp\.default = (\S+)$", re.MULTILINE)


@asynccontextmanager
async def dev_node(directory: Path) -> AsyncIterator[PrivateNode]:
    """A node with the management API, which counts quickly.

    Raises:
        NodeError: there is no `rabbitmq-server`, it did not start, or another one runs in this folder.
    """
    await _refuse_second(directory)
    async with running_node(directory, management=True, quick_counts=True) as node:
        yield node


async def keep_running(node: PrivateNode, say: Callable[[str], None]) -> None:
    """Start the node again whenever it has ended: who kills it wants to see what the bridge does then.

    Raises:
        NodeError: it did not start.
    """
    while True:
        code = await node.ended()
        say(f"RabbitMQ has ended (exit code {code}); starting it again …")
        await node.kill()  # what is left of it: two of them must not have the same data
        await node.start()
        say("RabbitMQ runs again")


async def _refuse_second(directory: Path) -> None:
    """That of another `bridge dev`, or of one that was killed: both would write to the same files."""
    try:
        listens = _LISTENS.search((directory / "rabbitmq.conf").read_text())
    except FileNotFoundError:
        return
    if listens is None:
        return
    try:
        connection = await open_connection(
            f"amqp://guest:guest@{listens[1]}/", name="bridge dev", connect_timeout=2
        )
    except (AMQPError, OSError):
        return
    answering = server_says(connection, "cluster_name")
    await connection.close()
    name = stored_name(directory)
    if answering.partition("@")[0] == name.partition("@")[0]:  # else somebody else was given the port since
        pid = _pid(directory / "data" / f"{name}.pid")
        raise NodeError(
            f"another `bridge dev` uses {directory.parent}, or one that was killed has left its RabbitMQ behind: stop it "
            f"with Ctrl-C, or what is left with `kill {pid}`; or choose another folder with --directory"
        )


def _pid(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return "PID"
