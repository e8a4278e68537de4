"""A RabbitMQ node of our own, for `bridge dev` and the tests: own name, ports, folder; never the system's."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import uuid
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aio_pika
from aiormq.exceptions import AMQPError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 15.0
_LOOK_EVERY_SECONDS: Final = 0.1
_EPMD_KILL: Final = b"\x00\x01k"
"""The KILL_REQ of the Erlang port mapper: two bytes of length, then `k`."""

_ALSO_LOOK_IN: Final = "/usr/sbin:/usr/local/sbin"
"""Debian leaves these out of an ordinary user's PATH, and `rabbitmq-server` is in the first."""


class NodeError(RuntimeError):
    """The private node cannot be started. Its message says what to do."""


@dataclass(frozen=True, slots=True)
class Node:
    url: str
    name: str
    directory: Path
    log: Path
    environment: Mapping[str, str]
    """For `rabbitmqctl` and the other tools to find this node."""


@asynccontextmanager
async def running(directory: Path, *, extra_config: str = "") -> AsyncIterator[Node]:
    """Start a node in this folder and stop it at the end, leaving no process behind.

    Args:
        directory: for everything the node writes; made if missing. A node that ran here before is continued.
        extra_config: further lines of `rabbitmq.conf`.

    Raises:
        NodeError: there is no `rabbitmq-server`, or the node did not come up; its log is named.
    """
    server = _find_server()
    amqp, distribution, epmd = _free_ports(3)
    name = _prepare(directory, amqp, extra_config)
    environment = _environment(directory, name, amqp, distribution, epmd)
    output = directory / "output.log"
    with output.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            server, stdin=asyncio.subprocess.DEVNULL, stdout=sink, stderr=sink,
            env=environment, cwd=directory, start_new_session=True,
        )  # fmt: skip
    node = Node(f"amqp://guest:guest@127.0.0.1:{amqp}/", name, directory, output, environment)
    try:
        await _wait_until_up(process, node)
        yield node
    finally:
        await _stop(process)
        _stop_port_mapper(epmd)


def _find_server() -> str:
    """The server itself, not Debian's wrapper, which wants root and changes to the user `rabbitmq`."""
    found = shutil.which("rabbitmq-server") or shutil.which("rabbitmq-server", path=_ALSO_LOOK_IN)
    if found is None:
        raise NodeError(
            "there is no `rabbitmq-server` on PATH; install RabbitMQ (Debian: apt-get install rabbitmq-server), "
            "or use a broker that runs with --rabbitmq-url"
        )
    real = Path(found).resolve()
    if real.name == "rabbitmq-script-wrapper":
        return str(real.with_name("rabbitmq-server"))
    return found


def _environment(directory: Path, name: str, amqp: int, distribution: int, epmd: int) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("RABBITMQ_")}
    return inherited | {
        "HOME": str(directory),
        "ERL_EPMD_PORT": str(epmd),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": name,
        "RABBITMQ_NODE_PORT": str(amqp),
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(directory / "data"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
    }


def _prepare(directory: Path, amqp: int, extra_config: str) -> str:
    """Write the node's configuration; return its name. RabbitMQ keeps its data under it, so a folder keeps it."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "enabled_plugins").write_text("[].\n")
    (directory / "rabbitmq.conf").write_text(
        f"listeners.tcp.default = 127.0.0.1:{amqp}\nlog.console = false\nlog.file.level = info\n{extra_config}\n"
    )
    kept = directory / "name"
    if not kept.exists():
        kept.write_text(f"bridge-{uuid.uuid4().hex[:8]}@localhost")
    return kept.read_text().strip()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


async def _wait_until_up(process: asyncio.subprocess.Process, node: Node) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await _answers(node.url):
                if process.returncode is not None:
                    raise NodeError(f"RabbitMQ ended with {process.returncode} at its start; see {node.log}")
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
    except TimeoutError:
        raise NodeError(f"RabbitMQ did not answer in {START_SECONDS:g} s; see {node.log}") from None


async def _answers(url: str) -> bool:
    try:
        connection = await aio_pika.connect(url, timeout=2)
    except (AMQPError, OSError):
        return False
    await connection.close()
    return True


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End the whole process group: the server is a shell, the Erlang machine and its port programs."""
    for ending in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, ending)
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
                break
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _stop_port_mapper(port: int) -> None:
    """The node starts an Erlang port mapper of its own, which would stay behind as a daemon."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as mapper:
        mapper.sendall(_EPMD_KILL)
        mapper.recv(2)
