"""The bridges that are compared: how each is started, which queue its events end in, and its versions."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from bridge.broker.topology import Names
from tests.programs.bench import node_modules
from tests.programs.bench.load import CHECKOUT
from tests.programs.faults.stage import TOKEN, WEBHOOK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

QUEUE: Final = "ledger"
"""A quorum queue that is bound to every event."""
EXCHANGE: Final = Names().events
_EVERY_NAME: Final = (
    "delivered", "opened", "clicked", "unsubscribed", "complained", "skipped", "soft_bounced", "hard_bounced",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Command:
    """How a process is started."""

    arguments: list[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a bridge runs."""

    port: int
    """It listens there."""
    amqp_url: str
    """Where it reaches RabbitMQ."""
    folder: Path
    """For what does not have to survive, such as its settings."""
    disk: Path
    """For what has to survive a power cut."""


@dataclass(frozen=True, slots=True)
class Bridge:
    name: str
    command: Callable[[Place], Command]
    missing: Callable[[], Awaitable[str | None]]
    """What has to be there and is not, if anything."""
    versions: Callable[[], Awaitable[str]]
    keys: tuple[str, ...] = ("#",)
    """With which its queue is bound."""
    archive: str | None = None
    """A stream that has every event beside the queue."""


def _ours(place: Place) -> Command:
    """As shipped, but for its addresses, its token and its folder."""
    settings: dict[str, dict[str, Any]] = {
        "rabbitmq": {"urls": [place.amqp_url]},
        "receiver": {"host": "127.0.0.1", "port": place.port, "tokens": [TOKEN]},
        "spool": {"directory": str(place.disk / "spool")},
        "health": {"port": 0},
    }
    lines = [f"[[subscribers]]\nqueue = {json.dumps(QUEUE)}\nevents = {json.dumps(_EVERY_NAME)}"]
    for section, values in settings.items():
        lines += [f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    config = place.folder / "bridge.toml"
    config.write_text("\n".join(lines))
    return Command([sys.executable, "-m", "bridge", "--config", str(config), "receiver"], place.folder)


def _fastify(returns: str) -> Callable[[Place], Command]:
    def command(place: Place) -> Command:
        modules = {"NODE_PATH": str(node_modules.FOLDER / "node_modules"), "RETURNS": returns}
        return Command(["node", "fastify.js"], Path(__file__).parent / "apps", _variables(place) | modules)

    return command


def _faststream(returns: str) -> Callable[[Place], Command]:
    def command(place: Place) -> Command:
        module = "tests.programs.others.apps.fastapi_faststream"
        return Command([sys.executable, "-m", module], CHECKOUT, _variables(place) | {"RETURNS": returns})

    return command


def _variables(place: Place) -> dict[str, str]:
    return {
        "PORT": str(place.port),
        "WEBHOOK": WEBHOOK,
        "AMQP_URL": place.amqp_url,
        "EXCHANGE": EXCHANGE,
        "QUEUE": QUEUE,
    }


async def _nothing() -> str | None:
    return None


async def _contenders() -> str | None:
    absent = [name for name in ("fastapi", "faststream", "uvicorn", "httptools") if find_spec(name) is None]
    return f"not installed: {', '.join(absent)} (make contenders)" if absent else None


async def _our_versions() -> str:
    return f"bridge {metadata.version('bridge')}, Python {sys.version.split()[0]}"


async def _node_versions() -> str:
    packages = orjson.loads((node_modules.FOLDER / "package.json").read_bytes())["dependencies"]
    process = await asyncio.create_subprocess_exec("node", "--version", stdout=asyncio.subprocess.PIPE)
    node, _ = await process.communicate()
    named = ", ".join(f"{name} {version}" for name, version in packages.items())
    return f"{named}, Node {node.decode().strip().removeprefix('v')}"


async def _python_versions() -> str:
    names = ("fastapi", "faststream", "aio-pika", "uvicorn", "uvloop", "httptools")
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)


OURS: Final = Bridge("bridge", _ours, _nothing, _our_versions, _EVERY_NAME, Names().archive)
FASTIFY: Final = Bridge("Fastify + rabbitmq-client", _fastify("seen"), node_modules.missing, _node_versions)
FASTSTREAM: Final = Bridge("FastAPI + FastStream", _faststream("seen"), _contenders, _python_versions)
ALL: Final = (OURS, FASTIFY, FASTSTREAM)
FIRST_PAGES: Final = (
    Bridge("Fastify, quick start", _fastify("ignored"), node_modules.missing, _node_versions),
    Bridge("FastStream, default channel", _faststream("ignored"), _contenders, _python_versions),
)
"""The others as one has them before reading of messages that no queue is bound for."""


def environment(command: Command) -> dict[str, str]:
    return os.environ | command.environment
