"""Everything on this machine: a private RabbitMQ node, the provider's simulator, receiver and worker."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from bridge import events, private_files
from bridge.amqp.connection import open_connection
from bridge.amqp.deliveries import Deliveries
from bridge.amqp.errors import BrokerUnavailableError, may_be_lost
from bridge.broker import topology
from bridge.development import private_node
from bridge.development.simulator import Simulator
from bridge.receiver.handler import PATH
from bridge.roles.lifetime import Lifetime, until
from bridge.roles.receiver import RECEIVER_HEALTH_PORT, receiver
from bridge.roles.worker import WORKER_HEALTH_PORT, worker
from bridge.settings import sections as knobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from bridge.amqp.deliveries import Delivery
    from bridge.settings.sections import Settings

TOKEN: Final = "dev-token-not-a-secret"  # noqa: S105 -- it guards a port of 127.0.0.1, and everybody may know it
MESSAGES: Final = 1000
_CONFIG: Final = "bridge.toml"
"""The simulator knows the messages 1 to 1000: recipient1@example.org and so on."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything is."""

    webhook: str
    rabbitmq: str
    provider: str
    config: Path
    directory: Path
    health: tuple[str, ...]
    """Of receiver and worker; none where they are where `bridge status` looks for them."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Something that happened, for a line on the screen."""

    kind: str
    """The event's name, or what became of an entry of the list."""
    detail: str
    suppression: bool


@dataclass(frozen=True, slots=True)
class Stack:
    """The running parts; each goes on until the stack ends, or fails."""

    places: Places
    settings: Settings
    parts: tuple[asyncio.Task[None], ...]


@asynccontextmanager
async def stack(
    directory: Path, *, rabbitmq_url: str | None, port: int, config: Path | None
) -> AsyncIterator[Stack]:
    """Start all of it in this folder; at the end stop all of it, leaving no process behind.

    Args:
        directory: absolute path, for the node, the list and the settings file that the other commands can use.
        rabbitmq_url: a broker that runs already, instead of a private node.
        port: for the receiver on 127.0.0.1; 0 is any free one.
        config: settings to start from.

    Raises:
        NodeError: RabbitMQ cannot be started.
        PortTakenError: the receiver's port is in use.
        BrokerRefusedError: the broker that was named has another topology.
        OSError: the folder cannot be made.
    """
    _make(directory)
    async with AsyncExitStack() as open_parts:
        management_url: str | None = None
        if rabbitmq_url is None:
            node = await open_parts.enter_async_context(
                private_node.running(directory / "rabbitmq", management=True)
            )
            rabbitmq_url, management_url = node.url, node.management_url
        simulator = await open_parts.enter_async_context(Simulator.serve(messages=MESSAGES))
        overrides = _overrides(directory, rabbitmq_url, simulator, port)
        if management_url is not None:
            overrides["rabbitmq"]["management_url"] = management_url
        settings = knobs.load(config, overrides)
        lifetimes = Lifetime(), Lifetime()
        usual = (RECEIVER_HEALTH_PORT, WORKER_HEALTH_PORT)
        ports = usual if port and _are_free(*usual) else _free_ports()
        receiving, working = (_with_health(settings, one) for one in ports)
        parts = (
            await open_parts.enter_async_context(_role(receiver(receiving, lifetimes[0]), lifetimes[0])),
            await open_parts.enter_async_context(_role(worker(working, lifetimes[1]), lifetimes[1])),
        )
        webhook = f"http://127.0.0.1:{lifetimes[0].port}{PATH}{TOKEN}"
        simulator.webhook_url = webhook
        places = Places(
            webhook=webhook,
            rabbitmq=rabbitmq_url,
            provider=simulator.base_url,
            config=_write_config(directory, settings, overrides),
            directory=directory,
            health=()
            if ports == usual and settings.health == knobs.Health()
            else tuple(f"http://127.0.0.1:{one}" for one in ports),
        )
        yield Stack(places, settings, parts)


@asynccontextmanager
async def watching(running: Stack) -> AsyncIterator[AsyncIterator[Seen]]:
    """Every event and every change of the list from now on, as they are published, through a queue of our own."""
    names = topology.Names(running.settings.rabbitmq.prefix)
    async with await open_connection(running.places.rabbitmq, name="bridge dev") as connection:
        with may_be_lost(connection):
            channel = await connection.channel(publisher_confirms=False)
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(names.events, "#")
            await queue.bind(names.changes, "#")
        async with Deliveries.of(connection, queue.name, prefetch=100) as deliveries:
            yield _all(deliveries, names.changes)


async def _all(deliveries: Deliveries, changes: str) -> AsyncIterator[Seen]:
    """Until RabbitMQ ends."""
    with suppress(BrokerUnavailableError):
        while True:
            for delivery in await deliveries.some():
                yield _seen(delivery, changes)


@asynccontextmanager
async def _role(role: Any, lifetime: Lifetime) -> AsyncIterator[asyncio.Task[None]]:
    """A role that has started; at the end it is told to stop, and waited for."""
    task: asyncio.Task[None] = asyncio.create_task(role, name=role.__name__)
    try:
        await until(lifetime.started, task)
        yield task
    finally:
        lifetime.stop.set()
        await asyncio.wait([task])


def _make(directory: Path) -> None:
    private_files.make_folder(directory)
    if (directory / _CONFIG).exists():  # of an earlier run: it is a folder of ours
        private_files.close_to_others([directory, directory / _CONFIG])


def _overrides(
    directory: Path, rabbitmq_url: str, simulator: Simulator, port: int
) -> dict[str, dict[str, Any]]:
    return {
        "rabbitmq": {"urls": [rabbitmq_url]},
        "receiver": {"host": "127.0.0.1", "port": port, "processes": 1, "tokens": [TOKEN]},
        "provider": {"base_url": simulator.base_url, "api_token": simulator.token},
        "suppression": {"database_url": f"sqlite+aiosqlite:///{directory}/suppressions.sqlite3"},
        "spool": {"directory": f"{directory}/spool"},
    }


def _with_health(settings: Settings, port: int) -> Settings:
    return settings.model_copy(update={"health": knobs.Health(port=port)})


def _are_free(*ports: int) -> bool:
    with ExitStack() as sockets:
        try:
            for port in ports:
                one = sockets.enter_context(socket.socket())
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _write_config(directory: Path, settings: Settings, overrides: Mapping[str, Mapping[str, Any]]) -> Path:
    """The settings in force as a file, so that `bridge --config` can be used beside the running stack.

    JSON's strings, numbers and lists are TOML's as well. Secrets are among the overrides, all of them.
    """
    in_force = settings.model_dump(mode="json", exclude_defaults=True)
    tables = [("[[subscribers]]", subscriber) for subscriber in in_force.pop("subscribers", ())]
    tables += [
        (f"[{section}]", in_force.get(section, {}) | dict(overrides.get(section, {})))
        for section in dict.fromkeys([*overrides, *in_force])
    ]
    lines = ["# Written by `bridge dev`, for the run that goes on now."]
    for head, values in tables:
        lines.append(head)
        lines += [f"{name} = {orjson.dumps(value).decode()}" for name, value in values.items()]
    path = directory / _CONFIG
    private_files.begin(path)
    path.write_text("\n".join([*lines, ""]))
    return path


def _seen(message: Delivery, changes: str) -> Seen:
    """Whatever the body is: what is quarantined comes by here as well."""
    kind = message.routing_key
    if message.exchange == changes:
        return Seen(kind, _change(message.body), suppression=True)
    try:
        detail = f"message {events.parse(message.body).message_id}"
    except (events.MalformedError, events.NotJsonError) as error:
        detail = f"no event: {error}"
    return Seen(kind, detail, suppression=False)


def _change(body: bytes) -> str:
    try:
        document = orjson.loads(body)
        return f"{document['address']} ({document['reason']})"
    except (ValueError, LookupError, TypeError):
        return "a message that is no change of the list"
