"""Runs everything of `bridge dev` in this process: a private RabbitMQ node, the simulator, receiver, worker and API."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bridge import fast_path, private_files
from bridge.broker import management
from bridge.broker.management import ManagementError
from bridge.broker.topology_plan import planned_topology
from bridge.console.application import console_application
from bridge.development import dev_settings
from bridge.development.dev_node import dev_node, keep_running
from bridge.development.simulator_api import serve_simulator
from bridge.receiver.handler import WEBHOOK_PATH
from bridge.roles.api import api
from bridge.roles.lifetime import Lifetime
from bridge.roles.receiver import receiver
from bridge.roles.worker import worker
from bridge.settings.loading import load_settings
from bridge.tasks import background_task, wait_while_running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from bridge.settings.sections import Settings

MESSAGES: Final = 1000
"""The simulator knows the messages 1 to 1000: recipient1@example.org and so on."""
_COUNTS_TIMEOUT_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class StackLocations:
    """URLs and files of the running stack."""

    simulator: str
    """The page on which the provider's events are sent, and its faults switched."""
    webhook: str
    api: str
    rabbitmq: str
    management: str | None
    """RabbitMQ's own pages; None of a broker that was given."""
    provider: str
    config: Path
    directory: Path
    health: tuple[str, ...]
    """Health URLs of receiver, worker and API."""
    notes: tuple[str, ...]
    """What has another port than usual, one line each."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The running stack. Each part, a role or what keeps RabbitMQ running, runs until the stack ends, or fails."""

    locations: StackLocations
    settings: Settings
    parts: tuple[asyncio.Task[None], ...]


@asynccontextmanager
async def stack(
    directory: Path,
    *,
    rabbitmq_url: str | None,
    port: int | None,
    api_port: int | None,
    config: Path | None,
    say: Callable[[str], None],
) -> AsyncIterator[Stack]:
    """Start the stack in this folder; at the end stop all of it, leaving no process behind.

    Args:
        directory: absolute path, for the node, the list, and a settings file for other commands.
        rabbitmq_url: a running broker to use instead of a private node.
        port: of the receiver on 127.0.0.1, as `dev_settings.choose_ports` has it.
        api_port: the same of the API.
        config: settings to start from.
        say: called with a line about what has become of the private node.

    Raises:
        NodeError: RabbitMQ cannot be started.
        PortInUseError: the given port of the receiver or of the API is in use.
        TopologyRefusedError: the given broker has another topology.
        OSError: the folder cannot be created.
    """
    ports = dev_settings.choose_ports(port, api_port)
    _prepare_folder(directory)
    async with AsyncExitStack() as open_parts:
        management_url: str | None = None
        keeping: list[asyncio.Task[None]] = []
        if rabbitmq_url is None:
            node = await open_parts.enter_async_context(dev_node(directory / "rabbitmq"))
            rabbitmq_url, management_url = node.url, node.management_url
            task = background_task(keep_running(node, say), name="rabbitmq")
            keeping = [await open_parts.enter_async_context(task)]
        simulator = await open_parts.enter_async_context(
            serve_simulator(port=ports.simulator, messages=MESSAGES)
        )
        decided = dev_settings.overrides(directory, rabbitmq_url, management_url, simulator, ports)
        settings = load_settings(config, decided)
        fast_path.configure(settings.development.fast_path)
        lifetimes = Lifetime(), Lifetime(), Lifetime()
        receiving, working, answering = (
            dev_settings.with_health(settings, one)
            for one in (ports.receiver_health, ports.worker_health, ports.api_health)
        )
        parts = (
            await open_parts.enter_async_context(_role(receiver(receiving, lifetimes[0]), lifetimes[0])),
            await open_parts.enter_async_context(_role(worker(working, lifetimes[1]), lifetimes[1])),
            await open_parts.enter_async_context(
                _role(api(answering, lifetimes[2], console=console_application), lifetimes[2])
            ),
            *keeping,
        )
        # The receiver has started without RabbitMQ, too: the first event that is tried would only be spooled.
        await wait_while_running(lifetimes[0].connected, *parts)
        if management_url is not None:
            await _wait_until_counted(settings)
        webhook = f"http://127.0.0.1:{ports.receiver}{WEBHOOK_PATH}{dev_settings.TOKEN}"
        simulator.webhook_url = webhook
        locations = StackLocations(
            simulator=simulator.page_url,
            webhook=webhook,
            api=f"http://127.0.0.1:{ports.api}",
            rabbitmq=rabbitmq_url,
            management=management_url,
            provider=simulator.base_url,
            config=dev_settings.write_config(directory, settings, decided),
            directory=directory,
            health=ports.health_urls,
            notes=ports.notes,
        )
        yield Stack(locations, settings, parts)


@asynccontextmanager
async def _role(role: Any, lifetime: Lifetime) -> AsyncIterator[asyncio.Task[None]]:
    """A started role; at the end it is stopped in order."""
    task: asyncio.Task[None] = asyncio.create_task(role, name=role.__name__)
    try:
        await wait_while_running(lifetime.started, task)
        yield task
    finally:
        lifetime.stop.set()
        await asyncio.wait([task])


async def _wait_until_counted(settings: Settings) -> None:
    """Until the management API knows the counts of every queue, so that `bridge status` shows them; about a second."""
    with suppress(ManagementError, TimeoutError):
        async with asyncio.timeout(_COUNTS_TIMEOUT_SECONDS), management.connect(settings.rabbitmq) as api:
            for queue in planned_topology(settings).queues:
                while (view := await api.queue(queue.name)) is None or view.unacknowledged is None:  # noqa: ASYNC110 -- it can only be asked
                    await asyncio.sleep(_POLL_SECONDS)


def _prepare_folder(directory: Path) -> None:
    private_files.make_folder(directory)
    config = directory / dev_settings.CONFIG
    if config.exists():  # of an earlier run, so the folder is ours
        private_files.make_private([directory, config])
