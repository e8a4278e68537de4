"""Runs everything of `bridge dev` in this process: a private RabbitMQ node, the simulator, receiver, worker and API."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from bridge import events, fast_path, private_files
from bridge.amqp.connection import open_connection
from bridge.amqp.errors import BrokerUnavailableError
from bridge.amqp.temporary_queue import consume_temporary_queue
from bridge.broker import management, topology
from bridge.broker.management import ManagementError
from bridge.broker.topology_plan import planned_topology
from bridge.development import private_node
from bridge.development.ports import are_free, free_ports
from bridge.development.simulator_api import serve_simulator
from bridge.receiver.handler import WEBHOOK_PATH
from bridge.roles.api import API_HEALTH_PORT, api
from bridge.roles.lifetime import Lifetime
from bridge.roles.receiver import RECEIVER_HEALTH_PORT, receiver
from bridge.roles.worker import WORKER_HEALTH_PORT, worker
from bridge.settings import sections
from bridge.settings.loading import load_settings
from bridge.tasks import wait_while_running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from bridge.amqp.deliveries import Deliveries
    from bridge.amqp.message_types import Delivery
    from bridge.development.simulator import Simulator
    from bridge.settings.sections import Settings

TOKEN: Final = "dev-token-not-a-secret"  # noqa: S105 -- it protects a port of 127.0.0.1, and is public
API_TOKEN: Final = "dev-api-token-not-a-secret"  # noqa: S105 -- as above
MESSAGES: Final = 1000
"""The simulator knows the messages 1 to 1000: recipient1@example.org and so on."""
_CONFIG: Final = "bridge.toml"
_COUNTS_TIMEOUT_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class StackLocations:
    """URLs and files of the running stack."""

    webhook: str
    api: str
    rabbitmq: str
    provider: str
    config: Path
    directory: Path
    health: tuple[str, ...]
    """Health URLs of receiver, worker and API; empty if they have the default ports, which `bridge status` knows."""


@dataclass(frozen=True, slots=True)
class StackEvent:
    """An event, or a change of the list, to be printed in one line."""

    kind: str
    """The event's name, or the kind of change."""
    detail: str
    suppression: bool


@dataclass(frozen=True, slots=True)
class Stack:
    """The running stack. Each role runs until the stack ends, or the role fails."""

    locations: StackLocations
    settings: Settings
    parts: tuple[asyncio.Task[None], ...]


@asynccontextmanager
async def stack(
    directory: Path, *, rabbitmq_url: str | None, port: int, api_port: int, config: Path | None
) -> AsyncIterator[Stack]:
    """Start the stack in this folder; at the end stop all of it, leaving no process behind.

    Args:
        directory: absolute path, for the node, the list, and a settings file for other commands.
        rabbitmq_url: a running broker to use instead of a private node.
        port: of the receiver on 127.0.0.1; 0 is a free one.
        api_port: the same of the API.
        config: settings to start from.

    Raises:
        NodeError: RabbitMQ cannot be started.
        PortTakenError: the receiver's port or the API's is in use.
        TopologyRefusedError: the given broker has another topology.
        OSError: the folder cannot be created.
    """
    _prepare_folder(directory)
    async with AsyncExitStack() as open_parts:
        management_url: str | None = None
        if rabbitmq_url is None:
            node = await open_parts.enter_async_context(
                private_node.running_node(directory / "rabbitmq", management=True, quick_counts=True)
            )
            rabbitmq_url, management_url = node.url, node.management_url
        simulator = await open_parts.enter_async_context(serve_simulator(messages=MESSAGES))
        overrides = _overrides(directory, rabbitmq_url, simulator, port, api_port)
        if management_url is not None:
            overrides["rabbitmq"]["management_url"] = management_url
        settings = load_settings(config, overrides)
        fast_path.configure(settings.development.fast_path)
        lifetimes = Lifetime(), Lifetime(), Lifetime()
        default_ports = (RECEIVER_HEALTH_PORT, WORKER_HEALTH_PORT, API_HEALTH_PORT)
        ports = default_ports if port and are_free(*default_ports) else free_ports(len(default_ports))
        receiving, working, answering = (_with_health(settings, one) for one in ports)
        parts = (
            await open_parts.enter_async_context(_role(receiver(receiving, lifetimes[0]), lifetimes[0])),
            await open_parts.enter_async_context(_role(worker(working, lifetimes[1]), lifetimes[1])),
            await open_parts.enter_async_context(_role(api(answering, lifetimes[2]), lifetimes[2])),
        )
        # The receiver has started without RabbitMQ, too: the first event that is tried would only be spooled.
        await wait_while_running(lifetimes[0].connected, *parts)
        if management_url is not None:
            await _wait_until_counted(settings)
        webhook = f"http://127.0.0.1:{lifetimes[0].port}{WEBHOOK_PATH}{TOKEN}"
        simulator.webhook_url = webhook
        locations = StackLocations(
            webhook=webhook,
            api=f"http://127.0.0.1:{lifetimes[2].port}",
            rabbitmq=rabbitmq_url,
            provider=simulator.base_url,
            config=_write_config(directory, settings, overrides),
            directory=directory,
            health=()
            if ports == default_ports and settings.health == sections.Health()
            else tuple(f"http://127.0.0.1:{one}" for one in ports),
        )
        yield Stack(locations, settings, parts)


@asynccontextmanager
async def stack_events(running: Stack) -> AsyncIterator[AsyncIterator[StackEvent]]:
    """Every event and every change of the list from now on, through a temporary queue."""
    names = topology.Names(running.settings.rabbitmq.prefix)
    async with await open_connection(running.locations.rabbitmq, name="bridge dev") as connection:
        bindings = [(names.events, "#"), (names.changes, "#")]
        async with consume_temporary_queue(connection, bindings, name=f"{names.prefix}dev") as deliveries:
            yield _stack_events(deliveries, names.changes)


async def _stack_events(deliveries: Deliveries, changes: str) -> AsyncIterator[StackEvent]:
    """Until the connection to RabbitMQ is lost."""
    with suppress(BrokerUnavailableError):
        while True:
            for delivery in await deliveries.receive():
                yield _stack_event(delivery, changes)


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
    if (directory / _CONFIG).exists():  # of an earlier run, so the folder is ours
        private_files.make_private([directory, directory / _CONFIG])


def _overrides(
    directory: Path, rabbitmq_url: str, simulator: Simulator, port: int, api_port: int
) -> dict[str, dict[str, Any]]:
    return {
        "rabbitmq": {"urls": [rabbitmq_url]},
        "receiver": {"host": "127.0.0.1", "port": port, "processes": 1, "tokens": [TOKEN]},
        "api": {
            "host": "127.0.0.1",
            "port": api_port,
            "tokens": [f"dev:check+read+write+override:{API_TOKEN}"],
        },
        "provider": {"base_url": simulator.base_url, "api_token": simulator.token},
        "suppression": {"database_url": f"sqlite+aiosqlite:///{directory}/suppressions.sqlite3"},
        "spool": {"directory": f"{directory}/spool"},
    }


def _with_health(settings: Settings, port: int) -> Settings:
    return settings.model_copy(update={"health": sections.Health(port=port)})


def _write_config(directory: Path, settings: Settings, overrides: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write the settings in force to a file, so that `bridge --config` can be used with the running stack.

    Strings, numbers and lists of JSON are valid TOML. All secrets are in the overrides.
    """
    in_force = settings.model_dump(mode="json", exclude_defaults=True)
    tables = [("[[subscribers]]", subscriber) for subscriber in in_force.pop("subscribers", ())]
    tables += [
        (f"[{section}]", in_force.get(section, {}) | dict(overrides.get(section, {})))
        for section in dict.fromkeys([*overrides, *in_force])
    ]
    lines = ["# Written by `bridge dev`, for the current run."]
    for head, values in tables:
        lines.append(head)
        lines += [f"{name} = {orjson.dumps(value).decode()}" for name, value in values.items()]
    path = directory / _CONFIG
    private_files.create_file(path)
    path.write_text("\n".join([*lines, ""]))
    return path


def _stack_event(message: Delivery, changes: str) -> StackEvent:
    """The line for a delivery. The body may be anything: quarantined bodies are delivered too."""
    kind = message.routing_key
    if message.exchange == changes:
        return StackEvent(kind, _change(message.body), suppression=True)
    try:
        detail = f"message {events.parse(message.body).message_id}"
    except (events.MalformedError, events.NotJsonError) as error:
        detail = f"not an event: {error}"
    return StackEvent(kind, detail, suppression=False)


def _change(body: bytes) -> str:
    try:
        document = orjson.loads(body)
        return f"{document['address']} ({document['reason']})"
    except (ValueError, LookupError, TypeError):
        return "a message that is not a change of the list"
