"""A private RabbitMQ node for `bridge dev` and the tests, with its own name, ports and folder."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import uuid
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiormq.exceptions import AMQPError

from bridge import private_files
from bridge.amqp.connection import open_connection
from bridge.development.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.1
_EPMD_KILL: Final = b"\x00\x01k"
"""KILL_REQ of the Erlang port mapper: two bytes of length, then `k`."""

_EXTRA_PATH: Final = "/usr/sbin:/usr/local/sbin"
"""Debian does not have these in the PATH of ordinary users, and `rabbitmq-server` is in the first."""

_QUIET: Final = "+sbwt none +sbwtdcpu none +sbwtdio none"
"""Erlang's schedulers busy-wait, which costs the other processes of the machine CPU time."""

_QUEUES_COUNT: Final = "-rabbit quorum_tick_interval 500 -rabbit stream_tick_interval 500"
"""Milliseconds between two counts of a queue; by default 5000. Until the first the management API does not know them."""
_API_COUNTS: Final = """\
collect_statistics_interval = 500
management.sample_retention_policies.global.minute = 1
management.sample_retention_policies.basic.minute = 1
management.sample_retention_policies.detailed.10 = 1"""
"""How often the API asks for these counts: 1 s where the default is 5 s."""

_DEAD_LETTERS_AGAIN: Final = "-rabbit dead_letter_worker_publisher_confirm_timeout 5000"
"""Milliseconds until a quorum queue tries again to dead-letter what it could not; by default three minutes. RabbitMQ 4.0 may try at
its start before it knows its exchanges, and what waits in the delay queues waits that much longer."""

_ON_LOOPBACK: Final = "-kernel inet_dist_use_interface {127,0,0,1}"
"""By default Erlang's distribution port, which gives full control of the node, listens on every interface."""


class NodeError(RuntimeError):
    """The private node cannot be started or used. The message says what to do."""


class PrivateNode:
    """A node in a folder. It keeps its name, ports and data when it is restarted."""

    def __init__(
        self,
        directory: Path,
        *,
        extra_config: str = "",
        plugins: Sequence[str] = (),
        port_mapper: int | None = None,
        home: Path | None = None,
        management: bool = False,
        quick_counts: bool = False,
    ) -> None:
        """Write the configuration of the node. Nothing runs yet.

        Args:
            directory: for everything that the node writes; created if missing. Data of an earlier run is used.
            extra_config: further lines of `rabbitmq.conf`.
            plugins: for example `rabbitmq_management`; `extra_config` sets their ports.
            port_mapper: the port of Erlang's port mapper; nodes of one cluster share it. None: its own.
            home: where the Erlang cookie is; nodes of one cluster share it. None: `directory`.
            management: whether to enable the management API, at `management_url`.
            quick_counts: whether that knows new counts after a second, not after 5 to 10. It costs some CPU for each queue.

        Raises:
            NodeError: there is no `rabbitmq-server`.
        """
        self._server = _find_server()
        self._port, self._distribution, api, free = free_ports(4)
        self.port_mapper = port_mapper or free
        """Its port, for the other nodes of a cluster."""
        self._process: asyncio.subprocess.Process | None = None
        self._started = False
        self.directory = directory
        self.log = directory / "output.log"
        self.url = f"amqp://guest:guest@127.0.0.1:{self._port}/"
        self.management_url = f"http://127.0.0.1:{api}" if management else None
        private_files.make_folder(directory)
        self.name = stored_name(directory)
        if management:
            plugins = [*plugins, "rabbitmq_management"]
            extra_config += f"\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {api}"
        self._quick_counts = quick_counts
        if quick_counts:
            extra_config += f"\n{_API_COUNTS}"
        (directory / "enabled_plugins").write_text(f"[{','.join(plugins)}].\n")
        (directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = 127.0.0.1:{self._port}\n"
            f"log.console = false\nlog.file.level = info\n{extra_config}\n"
        )
        self.environment = self._erlang_environment(home or directory)
        """Environment with which `rabbitmqctl` and the other tools find this node."""

    @property
    def pid(self) -> int:
        """The process group of the running node."""
        if self._process is None:
            raise NodeError(f"{self.name} does not run")
        return self._process.pid

    async def start(self) -> None:
        """Start the node; returns when it answers.

        Raises:
            NodeError: it did not start; the message names its log.
        """
        with self.log.open("ab") as sink:
            self._process = await asyncio.create_subprocess_exec(
                self._server, stdin=asyncio.subprocess.DEVNULL, stdout=sink, stderr=sink,
                env=self.environment, cwd=self.directory, start_new_session=True,
            )  # fmt: skip
        self._started = False
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await _answers(self.url):
                    if self._process.returncode is not None:
                        raise NodeError(
                            f"RabbitMQ ended with {self._process.returncode} at its start; see {self.log}"
                        )
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise NodeError(f"RabbitMQ did not answer in {START_SECONDS:g} s; see {self.log}") from None
        self._started = True

    async def ended(self) -> int:
        """The exit code, when the node has ended; that of a signal is negative."""
        if self._process is None:
            raise NodeError(f"{self.name} does not run")
        return await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process group: a shell, the Erlang VM and its port programs."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    async def stop(self) -> None:
        """Stop it in order; kill it if it does not stop.

        A node that is still starting is killed: it has nothing to lose, and the Erlang VM ignores SIGTERM at first.
        """
        if self._process is None:
            return
        for ending in (signal.SIGTERM, signal.SIGKILL) if self._started else (signal.SIGKILL,):
            self.signal(ending)
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._process.wait()
                    break
        self.signal(signal.SIGKILL)
        self._process = None

    async def kill(self) -> None:
        """SIGKILL, as in a power cut. `start` restarts it with its data."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()
        self._process = None

    def stop_port_mapper(self) -> None:
        """Stop the Erlang port mapper that the node has started; it would remain as a daemon."""
        with (
            suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port_mapper), timeout=2) as mapper,
        ):
            mapper.sendall(_EPMD_KILL)
            mapper.recv(2)

    def _erlang_environment(self, home: Path) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("RABBITMQ_")}
        return inherited | {
            "HOME": str(home),
            "ERL_EPMD_PORT": str(self.port_mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # It is ours alone, so it may be stopped before it has noticed that its node has ended.
            "ERL_EPMD_RELAXED_COMMAND_CHECK": "true",
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": " ".join(
                [_QUIET, _ON_LOOPBACK, _DEAD_LETTERS_AGAIN, *([_QUEUES_COUNT] if self._quick_counts else [])]
            ),
        }


@asynccontextmanager
async def running_node(
    directory: Path,
    *,
    extra_config: str = "",
    plugins: Sequence[str] = (),
    management: bool = False,
    quick_counts: bool = False,
) -> AsyncIterator[PrivateNode]:
    """A node that runs for the duration of the context, and leaves no process behind.

    Raises:
        NodeError: there is no `rabbitmq-server`, or the node did not start.
    """
    node = PrivateNode(
        directory,
        extra_config=extra_config,
        plugins=plugins,
        management=management,
        quick_counts=quick_counts,
    )
    try:
        await node.start()
        yield node
    finally:
        await node.stop()
        node.stop_port_mapper()


def _find_server() -> str:
    """The server itself, not Debian's wrapper, which needs root and switches to the user `rabbitmq`."""
    found = shutil.which("rabbitmq-server") or shutil.which("rabbitmq-server", path=_EXTRA_PATH)
    if found is None:
        raise NodeError(
            "there is no `rabbitmq-server` on PATH; install RabbitMQ (Debian: apt-get install rabbitmq-server), "
            "or use a running broker with --rabbitmq-url"
        )
    real = Path(found).resolve()
    if real.name == "rabbitmq-script-wrapper":
        return str(real.with_name("rabbitmq-server"))
    return found


def stored_name(directory: Path) -> str:
    """The name of the node, stored in its folder: RabbitMQ stores its data under this name."""
    kept = directory / "name"
    if not kept.exists():
        kept.write_text(f"bridge-{uuid.uuid4().hex[:8]}@localhost")
    return kept.read_text().strip()


async def _answers(url: str) -> bool:
    try:
        connection = await open_connection(url, name="bridge private node", connect_timeout=2)
    except (AMQPError, OSError):
        return False
    await connection.close()
    return True
